# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""From where a disk's next image starts, and the policy that has a say in it."""

from __future__ import annotations

import dataclasses
import enum

from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import DiskIdentity


class BaseReason(str, enum.Enum):
    """Why a disk's next image is full, or that it is an increment."""

    FULL_REQUESTED = "full_requested"
    NO_BITMAP_POSSIBLE = "no_bitmap_possible"
    NO_EARLIER_IMAGE = "no_earlier_image"
    SOURCE_CHANGED = "source_changed"
    FILE_REPLACED = "file_replaced"
    SERIAL_CHANGED = "serial_changed"
    FORMAT_CHANGED = "format_changed"
    ENCRYPTION_CHANGED = "encryption_changed"
    RESIZED = "resized"
    CHAIN_BROKEN = "chain_broken"
    BASE_DISTRUSTED = "base_distrusted"
    NO_BITMAP_THEN = "no_bitmap_then"
    FULL_DUE_DAYS = "full_due_days"
    FULL_DUE_INCREMENTS = "full_due_increments"
    CHECKPOINT_MISSING = "checkpoint_missing"
    DISK_NOT_IN_CHECKPOINT = "disk_not_in_checkpoint"
    BITMAP_UNUSABLE = "bitmap_unusable"
    INCREMENTAL = "incremental"


@dataclasses.dataclass(frozen=True)
class DomainDisk:
    """A disk that is to be backed up. ``bitmap_problem`` is why it can't carry a checkpoint, empty when it can."""

    name: str
    identity: DiskIdentity
    bitmap_problem: str = ""


@dataclasses.dataclass(frozen=True)
class BitmapState:
    """What a checkpoint of the domain says about a disk; ``problem`` is empty when its bitmap is usable."""

    disk: str
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class DomainCheckpoint:
    """A checkpoint that the domain has."""

    name: str
    disks: tuple[BitmapState, ...] = ()

    def disk(self, name: str) -> BitmapState | None:
        """Return what it says about the disk with that target name, or ``None`` when it doesn't list it."""
        return next((disk for disk in self.disks if disk.disk == name), None)


@dataclasses.dataclass(frozen=True)
class Policy:
    """When a full image is due although an increment were possible; 0 means never.

    ``encryption`` is how the new images will be encrypted, which is the same for all images of a chain.
    """

    full: bool = False
    full_every_days: int = 0
    full_every_increments: int = 0
    encryption: str = NONE
