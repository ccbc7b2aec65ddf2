# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Look at where a pull job is to be served: nobody else's socket, file or port."""

from __future__ import annotations

import errno
import os
import socket
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._run.preflight_directory import check_directory

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
    from ansible_collections.virt.backup.plugins.module_utils._model.job import Server

_SOCKET = "server.socket"
_SOCKET_SECONDS = 2.0


def check_server(server: Server, domain: Domain) -> None:
    """Refuse a socket or port on which QEMU could not listen, or would be in somebody's way."""
    if server.transport == "unix":
        _check_socket(server.socket)
        check_directory(_SOCKET, server.socket, domain, os.W_OK | os.X_OK)
    else:
        _check_port(server)


def _check_socket(path: str) -> None:
    """Refuse a path on which QEMU would delete what is not its own: it unlinks whatever is there before it binds."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISSOCK(mode):
        raise InputError(_SOCKET, path, "exists and is no socket", "choose another path: QEMU would delete it")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_SOCKET_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return  # nobody listens any more: left behind by a QEMU that was killed
        except OSError:
            pass
    raise InputError(_SOCKET, path, "is in use by another server", "end that server, or choose another path")


def _check_port(server: Server) -> None:
    """Refuse an address or port that QEMU could not have, by asking for it as QEMU would, and letting go of it."""
    try:
        found = socket.getaddrinfo(server.name, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _name, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (socket.gaierror, UnicodeError) as error:  # "a..b" and a label of 64 characters are no names to Python
        problem = f"cannot be resolved: {getattr(error, 'strerror', 'it is no name')}"
        raise InputError("server.name", server.name, problem, "give an address of the hypervisor") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            problem, remedy = "is no address of the hypervisor", "give one that it has, such as 127.0.0.1"
            raise InputError("server.name", server.name, problem, remedy) from error
        problem = f"cannot be had on {server.name}: {error.strerror}"
        raise InputError("server.port", server.port, problem, "choose another port, or a UNIX socket") from error
