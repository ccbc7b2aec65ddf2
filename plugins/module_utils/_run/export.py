# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Serve disks of a restore point for reading, or end that. Nothing below the repository is written or locked."""

from __future__ import annotations

import dataclasses
import os
import threading
import typing as t
import urllib.parse

from ansible_collections.virt.backup.plugins.module_utils import _detach, _qemu
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._nbd import Connection, NbdError
from ansible_collections.virt.backup.plugins.module_utils._run import extract_checks as checks
from ansible_collections.virt.backup.plugins.module_utils._run.export_server import Found, Place, Served
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import read_encryption
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import world
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import uuid_of
from ansible_collections.virt.backup.plugins.module_utils._run.restore_targets import attributes_differ
from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import (
    check_digests,
    check_names,
    check_secret,
    find_point,
    stored_disks,
)
from ansible_collections.virt.backup.plugins.module_utils._store.layout import checked_path, checked_uuid
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Attributes
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
    from ansible_collections.virt.backup.plugins.module_utils._model.stored_disk import StoredDisk
    from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
    from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import FoundPoint, PointRequest

SOCKET_DIRECTORY = "/run/virt-backup"
DEFAULT_MODE = "0600"

START = 60.0
"""Seconds within which a server must be there, and :data:`PER_IMAGE` more for each encrypted image."""

PER_IMAGE = 60.0


@dataclasses.dataclass(frozen=True)
class ExportRequest:
    """What to serve where. ``None`` as ``disks`` is all; ``socket`` empty is a name after the domain's UUID."""

    point: PointRequest
    present: bool = True
    disks: tuple[str, ...] | None = None
    socket: str = ""
    socket_dir: str = SOCKET_DIRECTORY
    owner: str = ""
    group: str = ""
    mode: object = None
    encryption: EncryptionRequest | None = None


def export(request: ExportRequest, *, check: bool) -> Outcome:
    """Make the disks served, or no longer; raises one sentence when that can't be."""
    return _serve(request, check=check) if request.present else _end(request, check=check)


def _serve(request: ExportRequest, *, check: bool) -> Outcome:
    attributes = checks.check_attributes(request.owner, request.group, request.mode or DEFAULT_MODE)
    encryption = read_encryption(request.encryption)
    with world(f"repository {request.point.repository}"):
        found = find_point(request.point)
        names = request.disks
        if names is None:
            names = tuple(disk.name for disk in found.point.manifest.disks)
        check_names(found, names, "disks[{index}]")
        disks = stored_disks(found, names)
        warnings = check_digests(found, disks, images=False)
    check_secret(disks, encryption)
    place = Place(_socket(request, found.uuid))
    _check_outside(found, place)
    wanted = Served(found.repository.id, found.uuid, found.point.id, tuple((disk.name, disk.ids) for disk in disks))
    with world(f"socket {place.socket}"), place.guarded():
        now = place.look()
        pid, changed = now.pid, False
        if not (now.pid and now.served == wanted):
            _refuse_taken(place, now)
            pid, changed = (0, True) if check else (_start(place, wanted, disks, encryption), True)
        if pid and _give(place.socket, attributes, check=check):
            changed = True
    before = now.served.as_dict() if now.pid and now.served else None
    result = {"restore_point": found.as_result(), "disks": [_disk(place, disk) for disk in disks]}
    server = {"server": {"pid": pid, "socket": place.socket}}
    return Outcome(changed, {**result, **server}, before, wanted.as_dict(), tuple(warnings))


def _end(request: ExportRequest, *, check: bool) -> Outcome:
    place = Place(_socket(request, "" if request.socket else _uuid(request.point)))
    result = {"server": {"pid": 0, "socket": place.socket}}
    if not os.path.isdir(os.path.dirname(place.socket)):
        return Outcome(False, result)
    with world(f"socket {place.socket}"), place.guarded():
        now = place.look()
        if now.stranger:
            raise _stranger(place)
        left = [path for path in (place.socket, place.pid_file, place.state) if os.path.lexists(path)]
        if left and not check:
            if now.pid:
                place.end(now.pid)
            place.clear()
    before = now.served.as_dict() if now.pid and now.served else None
    return Outcome(bool(left), result, before, None)


def _start(place: Place, wanted: Served, disks: Sequence[StoredDisk], encryption: Encryption | None) -> int:
    """Start the server and read a little of each disk; leave nothing when that fails."""
    place.clear()
    exports = [_qemu.Export(disk.name, disk.paths, disk.encrypted) for disk in disks]
    images = sum(len(disk.paths) for disk in disks if disk.encrypted)
    pid = 0
    try:
        place.write(wanted)
        with _qemu.storage_daemon(exports, place.socket, place.pid_file, encryption) as (command, fds):
            name = f"virt-backup-export-{wanted.domain_uuid}-{os.getpid()}"
            pid = _detach.keep(name, command, fds, lambda: os.path.exists(place.pid_file), START + PER_IMAGE * images)
        for disk in disks:
            _try(place, disk)
    except BaseException as error:
        if pid:
            place.end(pid)
        place.clear()
        if isinstance(error, BackupError):
            error.message = f"socket: {place.socket!r} can't serve: {error.message}"
        raise
    return pid


def _try(place: Place, disk: StoredDisk) -> None:
    """Insist that what is served is the disk; its first bytes are read, to see that they can be."""
    try:
        connection = Connection(_uri(place, disk), (), START, threading.Event())
        try:
            if connection.size != disk.size:
                raise StateError(f"{disk.name} has {connection.size} bytes where its image says {disk.size}.")
            connection.finish_read(connection.start_read(memoryview(bytearray(min(disk.size, 512))), 0))
        finally:
            connection.close()
    except NbdError as error:
        raise StateError(f"{disk.name} can't be read: {error.message}.") from error


def _give(path: str, attributes: Attributes, *, check: bool) -> bool:
    """Give the socket its owner, group and mode; return whether it had others."""
    differ = attributes_differ(path, attributes)
    if differ and not check:
        os.chown(path, attributes.uid, attributes.gid)
        os.chmod(path, attributes.mode)
    return differ


def _disk(place: Place, disk: StoredDisk) -> dict[str, t.Any]:
    return {
        "name": disk.name,
        "uri": _uri(place, disk),
        "virtual_size": disk.size,
        "format": "raw",
        "chain": list(disk.ids),
    }


def _uri(place: Place, disk: StoredDisk) -> str:
    return f"nbd+unix:///{disk.name}?socket={urllib.parse.quote(place.socket)}"


def _uuid(point: PointRequest) -> str:
    """Return the domain's UUID, which is all that the default name of a socket needs."""
    if point.domain_uuid:
        return checked_uuid("domain_uuid", point.domain_uuid)
    with world(f"repository {point.repository}"):
        return uuid_of(open_repository(checked_path("repository", point.repository)), point.domain_name)


def _socket(request: ExportRequest, uuid: str) -> str:
    name = "socket" if request.socket else "socket_dir"
    given = request.socket or request.socket_dir
    path = checked_path(name, given)
    if not request.socket:
        path = os.path.join(path, f"export-{uuid}.sock")
    if len(path.encode()) > checks.LONGEST_SOCKET:
        raise InputError(name, path, f"is longer than {checks.LONGEST_SOCKET} bytes", "use a shorter path")
    folder = os.path.dirname(path)
    if request.present and not os.path.isdir(folder):
        remedy = "create the directory, as the role hypervisor does"
        raise InputError(name, given, f"needs the directory {folder!r}, which does not exist", remedy)
    return path


def _check_outside(found: FoundPoint, place: Place) -> None:
    inside = os.path.join(os.path.realpath(found.repository.path), "")
    if os.path.realpath(place.socket).startswith(inside):
        raise InputError("socket", place.socket, "lies in the repository", "name a path outside of it")


def _refuse_taken(place: Place, now: Found) -> None:
    if now.stranger:
        raise _stranger(place)
    if now.pid:
        what = now.served.describe() if now.served else "something else"
        remedy = "end that with state: absent, or name another socket"
        raise InputError("socket", place.socket, f"serves {what}", remedy)


def _stranger(place: Place) -> InputError:
    return InputError("socket", place.socket, "belongs to somebody else", "name another socket")
