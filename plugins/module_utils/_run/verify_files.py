# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""One restore point by itself: its stored bytes, the structure of its images and what they say they build on."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.errors import ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import Record
from ansible_collections.virt.backup.plugins.module_utils._model.text import shown
from ansible_collections.virt.backup.plugins.module_utils._model.verification import FileDamage
from ansible_collections.virt.backup.plugins.module_utils._run.foreign_data import PROBLEM, is_led_elsewhere
from ansible_collections.virt.backup.plugins.module_utils._store.files import NotJson, read_json
from ansible_collections.virt.backup.plugins.module_utils._store.layout import MANIFEST
from ansible_collections.virt.backup.plugins.module_utils._store.stored import damaged_files

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Point
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
    from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import Manifest, ManifestDisk

NOT_OPENED = "Invalid password"
"""QEMU's words, from crypto/block-luks.c."""


class Findings(t.NamedTuple):
    """What was found; the fields are those of a ``Verification``."""

    damage: list[FileDamage]
    errors: list[str]
    notes: list[str]


def verify_files(point: Point, encryption: Encryption | None) -> Findings:
    """Verify what is stored of a restore point. May raise ``FileNotFoundError`` while it is being removed."""
    found = Findings([], [], [])
    for damage in damaged_files(point.path, point.manifest):
        disks = _needed_by(point.manifest, damage.name)
        found.damage.extend(FileDamage(damage.name, damage.problem, disk) for disk in disks or [""])
    suspects = {damage.disk for damage in found.damage}
    for disk in point.manifest.disks:
        if disk.name not in suspects:
            _verify_image(point, disk, encryption, found)
    return found


def _needed_by(manifest: Manifest, name: str) -> list[str]:
    """Return which disks can't be trusted, or not be restored, when that file is damaged."""
    return [disk.name for disk in manifest.disks if name in (MANIFEST, disk.image)]


def _verify_image(point: Point, disk: ManifestDisk, encryption: Encryption | None, found: Findings) -> None:
    path = os.path.join(point.path, disk.image)
    try:
        problem = header_problem(path, point, disk)
        if problem:
            found.damage.append(FileDamage(disk.image, problem, disk.name))
        elif disk.encryption == NONE:
            _qemu.check_stored(path)
        elif encryption is None:
            found.notes.append(f"{disk.image} is encrypted, so its structure was not checked without its secret.")
        else:
            _qemu.check_stored(path, encryption)
    except ToolError as error:
        if NOT_OPENED in error.message:
            found.errors.append(f"{disk.image} is encrypted with another secret than the one given.")
        else:
            found.damage.append(FileDamage(disk.image, f"{disk.image} is damaged: {error.message}", disk.name))


def header_problem(path: str, point: Point, disk: ManifestDisk) -> str:
    """Return how the image contradicts its manifest and its record, empty when it doesn't."""
    if is_led_elsewhere(path):
        return f"{disk.image} {PROBLEM}, which no image of a repository does."
    info = _qemu.info(path, "qcow2")
    backing = f"../{disk.parent}/{disk.image}" if disk.parent else ""
    if (info.backing_file, info.backing_format) != (backing, "qcow2" if backing else ""):
        found, wanted = shown(info.backing_file) or "nothing", backing or "nothing"
        return f"{disk.image} builds on {found} where the manifest says on {wanted}."
    size = _recorded_size(os.path.join(point.path, disk.record))
    if size and info.virtual_size != -(-size // 512) * 512:
        return f"{disk.image} is a disk of {info.virtual_size} bytes where its record says {size}."
    if info.encrypted != (disk.encryption != NONE):
        return f"{disk.image} is {'' if info.encrypted else 'not '}encrypted, and the manifest says {disk.encryption}."
    return ""


def _recorded_size(path: str) -> int:
    """Return the size of the disk by the record beside the image; 0 when that is damaged, which is told elsewhere."""
    try:
        return Record.from_dict(read_json(path)).size
    except (FileNotFoundError, NotJson, KeyError, TypeError, ValueError):
        return 0
