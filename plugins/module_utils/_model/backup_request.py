# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a user asks of ``virt_backup``, before anything is known about the domain."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.level import BackupMode

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.job import Server


@dataclasses.dataclass(frozen=True)
class DiskRequest:
    """One entry of ``disks``; an empty text or ``None`` means that the option was not given."""

    name: str
    backup: bool = True
    backupmode: BackupMode | None = None
    incremental: str = ""
    exportname: str = ""
    exportbitmap: str = ""
    storage: str = "file"
    scratch: str = ""
    target: str = ""
    driver: str = "qcow2"
    backing_file: str = ""
    backing_format: str = "qcow2"


@dataclasses.dataclass(frozen=True)
class CheckpointRequest:
    """The checkpoint to create; ``disks`` is ``None`` for "those that take part and can carry one"."""

    name: str
    description: str = ""
    disks: tuple[tuple[str, bool], ...] | None = None


@dataclasses.dataclass(frozen=True)
class BackupRequest:
    """All options of ``virt_backup`` but ``state``.

    ``timeout`` is in seconds. ``scratch_min_free`` is what must be free where scratch files go for the job to begin,
    ``scratch_low_water`` what must stay free while it runs, both as the user wrote them; an empty one is derived.
    ``lease`` is for how many seconds nobody may give a sign of life before the job is ended, 0 for ever;
    ``signs_of_life`` are files that are written to by who lives.
    """

    uri: str
    domain: str
    mode: str = "pull"
    incremental: str = ""
    backupmode: BackupMode = BackupMode.AUTO
    disks: tuple[DiskRequest, ...] | None = None
    server: Server | None = None
    scratch_dir: str = ""
    target_dir: str = ""
    checkpoint: CheckpointRequest | None = None
    quiesce: str = "never"
    reuse_external: bool = False
    fail_if_incremental_possible: bool = False
    cancel: bool = False
    timeout: int = 60
    scratch_min_free: str = "10%"
    scratch_low_water: str = ""
    lease: int = 0
    signs_of_life: tuple[str, ...] = ()

    def disk(self, name: str) -> DiskRequest | None:
        """Return the entry for that disk, or ``None`` when it is not listed."""
        return next((disk for disk in self.disks or () if disk.name == name), None)
