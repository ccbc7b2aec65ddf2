# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The small files beside a pull job's socket, by which a module and the guard of the job know of each other."""

from __future__ import annotations

import contextlib
import os
import posixpath
import socket
import stat
import urllib.parse

from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import default_socket
from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._model.job import Server

_LONGEST_NOTE = 1000
_SOCKET_SECONDS = 2.0


def lease_file(server: Server, uuid: str) -> str:
    """Return the file that is there while the guard is armed."""
    return _beside(server, uuid, "lease")


def note_file(server: Server, uuid: str) -> str:
    """Return where the guard says why it ended the job to protect the guest."""
    return _beside(server, uuid, "note")


def _beside(server: Server, uuid: str, kind: str) -> str:
    """Return a path beside the socket, or where a socket would be."""
    if server.transport == "unix":
        return f"{server.socket}.{kind}"
    return posixpath.join(posixpath.dirname(default_socket(uuid)), f"{uuid}-{server.port}.{kind}")


def read_note(path: str) -> str:
    """Return what a guard left, empty when there is nothing.

    QEMU's user may write in the directory, so only a plain file of ours counts: its links could lead anywhere.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return ""
        return " ".join(file.read(_LONGEST_NOTE).split())


def take_note(server: Server, uuid: str) -> str:
    """Return what the guard of the job left, and remove it: it has been told."""
    path = note_file(server, uuid)
    note = read_note(path)
    if note:
        _remove(path)
    return note


def note_of(uri: str) -> str:
    """Return what the guard of the job left that is served at an NBD URI, and leave it there: others read it, too."""
    try:
        parts = urllib.parse.urlsplit(uri)
    except ValueError:
        return ""
    sockets = urllib.parse.parse_qs(parts.query).get("socket", [])
    return read_note(note_file(Server(socket=sockets[0]), "")) if parts.scheme.endswith("+unix") and sockets else ""


def remember_pause(server: Server, uuid: str, *, paused: bool) -> None:
    """Remember that an I/O error had paused the guest before the job began; what was there of another job goes.

    A file is only made where one had, which is rare: such a guest is not resumed when the job ends.

    :raises StateError: it cannot be remembered, so the job must not begin.
    """
    path = _beside(server, uuid, "paused")
    _remove(path)
    _remove(note_file(server, uuid))
    if not paused:
        return
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise StateError(
            f"An I/O error has paused the guest, and {path!r}, which would remember that, cannot be written: "
            f"{error.strerror}; resume the guest first, or make the directory."
        ) from error


def was_paused(server: Server, uuid: str) -> bool:
    """Whether an I/O error had paused the guest before the job began."""
    return os.path.lexists(_beside(server, uuid, "paused"))


def forget_pause(server: Server, uuid: str) -> None:
    """Forget it: the job has ended."""
    _remove(_beside(server, uuid, "paused"))


def remove_dead_socket(server: Server) -> None:
    """Remove the socket file of a QEMU that is gone: one that was killed or went off does not do it itself."""
    if server.transport != "unix":
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        if not stat.S_ISSOCK(os.lstat(server.socket).st_mode):
            return
        probe.settimeout(_SOCKET_SECONDS)
        try:
            probe.connect(server.socket)
        except ConnectionRefusedError:
            os.unlink(server.socket)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
