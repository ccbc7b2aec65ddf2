# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What other modules returned, as it comes back in through parameters, made into the model. Wrong input ends here.

The lists are taken as those modules return them: keys that don't matter here are ignored, so that a role can pass a
result on without picking it apart.
"""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.names import check_printable
from ansible_collections.virt.backup.plugins.module_utils._model.base_plan import (
    BitmapState,
    DomainCheckpoint,
    DomainDisk,
    Policy,
)
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import DiskIdentity, SkippedDisk
from ansible_collections.virt.backup.plugins.module_utils._store.fields import LARGEST
from ansible_collections.virt.backup.plugins.module_utils._store.layout import checked_disk_name

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    Raw = dict[str, t.Any]

_IDENTITY = ("source", "virtual_size", "format")


def text(item: Raw, key: str, where: str, default: str | None = None) -> str:
    """Return a string of an item; a missing one is ``default``, or an error where there is none."""
    value = item.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise InputError(where, item, f"has no text under '{key}'", "pass on what the other module returned")
    check_printable(f"{where}.{key}", value)
    return value


def number(item: Raw, key: str, where: str, default: int | None = None) -> int:
    """Return a whole number of an item that is not negative; templates may have made it a string."""
    value = item.get(key, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
        raise InputError(f"{where}.{key}", value, "is not a whole number of bytes", "pass on what the module returned")
    return value


def unique(names: Sequence[str], where: str) -> None:
    """Refuse a disk that is named twice."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InputError(where, name, "is given twice", "name each disk once")


def identity(item: Raw, where: str) -> DiskIdentity:
    """Return what has to stay the same about a disk."""
    return DiskIdentity(
        source=text(item, "source", where),
        serial=text(item, "serial", where, ""),
        virtual_size=number(item, "virtual_size", where),
        format=text(item, "format", where),
        inode=number(item, "inode", where) if "inode" in item else 0,
    )


def domain_disks(items: Sequence[Raw]) -> tuple[DomainDisk, ...]:
    """Return the disks that shall take part, from ``virt_backup_info.disks``."""
    disks = []
    for item in items:
        name = checked_disk_name("disks", text(item, "name", "disks"))
        if item.get("backup") is False:
            why = item.get("backup_reason") or "no reason given"
            raise InputError("disks", name, f"can't be backed up ({why})", "list it under skipped")
        problem = ""
        if not item.get("checkpoint", True):
            problem = text(item, "checkpoint_reason", "disks", "") or "no reason given"
        disks.append(DomainDisk(name, identity(item, "disks"), problem))
    unique([disk.name for disk in disks], "disks")
    return tuple(disks)


def skipped_disks(items: Sequence[Raw], taking_part: Sequence[str]) -> tuple[SkippedDisk, ...]:
    """Return the disks that take no part; with their identity where the item has it."""
    skipped = []
    for item in items:
        name = checked_disk_name("skipped", text(item, "name", "skipped"))
        if name in taking_part:
            raise InputError("skipped", name, "is among the disks as well", "list each disk in one of the two")
        whole = all(item.get(key) is not None for key in _IDENTITY)
        known = identity(item, "skipped") if whole else None
        skipped.append(SkippedDisk(name, text(item, "reason", "skipped", ""), known))
    unique([disk.name for disk in skipped], "skipped")
    return tuple(skipped)


def mismatches(items: Sequence[Raw]) -> tuple[tuple[str, str], ...]:
    """Return path and problem of the images that ``nbd_extract`` refused to make."""
    return tuple((text(item, "dest", "mismatches"), text(item, "problem", "mismatches")) for item in items)


def domain_checkpoints(items: Sequence[Raw]) -> tuple[DomainCheckpoint, ...]:
    """Return the checkpoints of the domain, from ``virt_backup_info.checkpoints``."""
    return tuple(_checkpoint(item) for item in items)


def _checkpoint(item: Raw) -> DomainCheckpoint:
    name = text(item, "name", "checkpoints")
    disks = item.get("disks") or []
    if not isinstance(disks, list) or not all(isinstance(disk, dict) for disk in disks):
        raise InputError("checkpoints", item, "has no list of disks", "pass on what virt_backup_info returned")
    return DomainCheckpoint(name, tuple(_bitmap(disk) for disk in disks))


def _bitmap(item: Raw) -> BitmapState:
    name = text(item, "name", "checkpoints.disks")
    if item.get("usable", False):
        return BitmapState(name)
    return BitmapState(name, text(item, "reason", "checkpoints.disks", "") or "no reason given")


def policy(*, full: bool, full_every_days: int, full_every_increments: int, encryption: str = NONE) -> Policy:
    """Return when a full is due."""
    for name, value in (("full_every_days", full_every_days), ("full_every_increments", full_every_increments)):
        if value < 0:
            raise InputError(name, value, "is negative", "give 0 for never, or a number")
    return Policy(full, full_every_days, full_every_increments, encryption)
