# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A run in progress: what it planned when it began, and the lock that makes it the only one."""

from __future__ import annotations

import dataclasses
import datetime

from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import DiskIdentity, SkippedDisk


@dataclasses.dataclass(frozen=True)
class PlannedDisk:
    """The plan for one disk.

    ``base`` is the restore point to build on and ``incremental`` its checkpoint, both empty for a full.
    """

    name: str
    level: Level
    reason: str
    identity: DiskIdentity
    base: str = ""
    incremental: str = ""
    bitmap: bool = True

    @property
    def image(self) -> str:
        """The file name of the image inside the restore point."""
        return f"{self.name}.qcow2"

    @property
    def record(self) -> str:
        """The file name of the extraction's record beside the image."""
        return f"{self.name}.json"

    @property
    def digests(self) -> str:
        """The file name of the list of digests beside the image."""
        return f"{self.name}.digests"

    @property
    def backing_file(self) -> str:
        """The backing path to write into the image: relative, so that the repository can be moved."""
        return f"../{self.base}/{self.image}" if self.base else ""


@dataclasses.dataclass(frozen=True)
class Staging:
    """The content of ``staging.json``: which run this is and what it set out to do.

    ``checkpoint`` and ``socket`` name what a run that died may have left on the hypervisor. ``known_checkpoints`` are
    the checkpoints that the domain had when the run began.
    """

    id: str
    token: str
    checkpoint: str
    domain_uuid: str
    domain_name: str
    created: datetime.datetime
    run: str = ""
    socket: str = ""
    disks: tuple[PlannedDisk, ...] = ()
    skipped: tuple[SkippedDisk, ...] = ()
    known_checkpoints: tuple[str, ...] = ()

    def disk(self, name: str) -> PlannedDisk | None:
        """Return the plan of the disk with that target name, or ``None``."""
        return next((disk for disk in self.disks if disk.name == name), None)


@dataclasses.dataclass(frozen=True)
class LockRecord:
    """The content of ``lock``: which run may change the domain's part of the repository, and until when.

    ``status_file`` is rewritten by a copy while it goes on; its time extends the lease, so that a copy may last longer
    than ``lease_seconds`` without anybody taking the lock from it.
    """

    token: str
    run: str
    id: str
    checkpoint: str
    socket: str
    status_file: str
    lease_until: datetime.datetime
    lease_seconds: int
