# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A server of a restore point's disks, which goes on when the module has ended: what it was told, and whether it lives.

Three names lie in the directory of its socket: the socket, ``<socket>.pid``, which the server writes and removes, and
``<socket>.json``, which says what it serves. The last is written before it starts, so no server is ever without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import select
import signal
import socket
import stat
import struct
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, StateError
from ansible_collections.virt.backup.plugins.module_utils._store.files import NotJson, read_json

if t.TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1

ORDERLY = 10.0
"""Seconds within which the server ends by itself; it holds nothing that could be lost."""

FORCED = 5.0
"""Seconds within which the kernel has ended it."""

_CREDENTIALS = struct.Struct("3i")
_PATIENCE = 5.0


@dataclasses.dataclass(frozen=True)
class Served:
    """What a server serves: disks of one restore point, each with the ids of the restore points of its chain."""

    repository: str
    domain_uuid: str
    restore_point: str
    disks: tuple[tuple[str, tuple[str, ...]], ...]

    def as_dict(self) -> dict[str, t.Any]:
        """Return plain data for JSON."""
        disks = [{"name": name, "chain": list(chain)} for name, chain in self.disks]
        return {"format": FORMAT, **dataclasses.asdict(self), "disks": disks}

    @classmethod
    def from_dict(cls, data: dict[str, t.Any]) -> Served:
        """Return it from plain data; raises ``KeyError`` or ``TypeError`` when it is none."""
        disks = tuple((str(disk["name"]), tuple(disk["chain"])) for disk in data["disks"])
        return cls(data["repository"], data["domain_uuid"], data["restore_point"], disks)

    def describe(self) -> str:
        """Return what it is, for a sentence."""
        return f"{', '.join(name for name, _chain in self.disks)} of restore point {self.restore_point}"


@dataclasses.dataclass(frozen=True)
class Found:
    """What is at a socket's name. ``pid`` is 0 unless our server lives; ``stranger`` tells that another one listens."""

    served: Served | None = None
    pid: int = 0
    stranger: bool = False


class Place:
    """The names of a server, by its socket."""

    def __init__(self, path: str) -> None:
        self.socket = path
        self.pid_file = f"{path}.pid"
        self.state = f"{path}.json"

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Keep out others who would begin or end a server in this directory at the same moment."""
        fd = os.open(os.path.dirname(self.socket), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def look(self) -> Found:
        """Return what is there. A server is ours if the process that listens is the one of the pid file."""
        if os.path.lexists(self.socket) and not stat.S_ISSOCK(os.lstat(self.socket).st_mode):
            return Found(stranger=True)
        listener = _listener(self.socket)
        ours = listener > 0 and listener == self._pid()
        return Found(self._served(), listener if ours else 0, stranger=bool(listener) and not ours)

    def write(self, served: Served) -> None:
        """Say what is going to be served."""
        new = f"{self.state}.{secrets.token_hex(4)}.new"
        with open(new, "x", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(served.as_dict(), file, indent=2)
            file.write("\n")
        os.replace(new, self.state)

    def clear(self) -> None:
        """Remove all names, when no server has them any more."""
        for path in (self.socket, self.pid_file, self.state):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def end(self, pid: int) -> None:
        """End our server in bounded time, and nobody else: what has its number is looked at again before the signal."""
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if _listener(self.socket) != pid:
                raise StateError(f"socket: {self.socket!r} changed hands while its server was being ended; try again.")
            for number, seconds in ((signal.SIGTERM, ORDERLY), (signal.SIGKILL, FORCED)):
                signal.pidfd_send_signal(process, number)
                if select.select([process], [], [], seconds)[0]:
                    return
            raise BackupError(f"The server {pid} of {self.socket!r} does not end.")
        except ProcessLookupError:
            return
        finally:
            os.close(process)

    def _pid(self) -> int:
        try:
            with open(self.pid_file, encoding="ascii") as file:
                return int(file.read(32))
        except (OSError, ValueError):
            return 0

    def _served(self) -> Served | None:
        try:
            return Served.from_dict(read_json(self.state))
        except (OSError, NotJson, KeyError, TypeError):
            return None


def _listener(path: str) -> int:
    """Return the process that listens on a socket, as the kernel tells; -1 when it listens unseen, 0 when nobody does.

    ``SO_PEERCRED`` names the process that called listen(2) (unix(7)).
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError, NotADirectoryError):
            return 0
        except OSError:
            return -1
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(credentials)[0]) or -1
