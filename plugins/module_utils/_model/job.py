# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A backup job: the server that a pull job opens, and the disks of it, as planned and as libvirt resolved them."""

from __future__ import annotations

import dataclasses

from ansible_collections.virt.backup.plugins.module_utils._model.level import Level


@dataclasses.dataclass(frozen=True)
class Server:
    """Where QEMU serves a pull job: a UNIX socket, or a host name (or address) and port."""

    transport: str = "unix"
    socket: str = ""
    name: str = ""
    port: int = 0
    tls: bool = False

    @property
    def address(self) -> str:
        """The server in words, for messages."""
        return self.socket if self.transport == "unix" else f"{self.name}:{self.port}"


@dataclasses.dataclass(frozen=True)
class JobDisk:
    """One disk of a backup job.

    ``path`` is the scratch file of a pull job or the target of a push job, and ``storage`` its kind (``file`` or
    ``block``). ``incremental`` names the checkpoint that an incremental disk starts from. Export name and bitmap
    exist in pull mode only, the bitmap only for incremental disks.
    """

    name: str
    participates: bool = True
    level: Level = Level.FULL
    incremental: str = ""
    exportname: str = ""
    exportbitmap: str = ""
    storage: str = "file"
    path: str = ""
    driver: str = "qcow2"


@dataclasses.dataclass(frozen=True)
class BackupJob:
    """A backup job; ``server`` is ``None`` in push mode."""

    mode: str
    server: Server | None
    disks: tuple[JobDisk, ...]

    @property
    def participating(self) -> tuple[JobDisk, ...]:
        """The disks that take part."""
        return tuple(disk for disk in self.disks if disk.participates)

    def describe(self) -> str:
        """Say whose job this is, as far as a job can be recognised: by its socket, or by its targets."""
        if self.server is not None:
            return f"the pull job that serves at {self.server.address}"
        return f"the push job that writes {', '.join(disk.path for disk in self.participating)}"
