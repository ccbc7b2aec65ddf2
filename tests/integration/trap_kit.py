# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the traps of copying a disk are made of. They are in ``test_traps.py`` and ``traps_written.py``."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration.nbd_fake import ALLOCATION, BITMAP, Disk, FakeServer, Manners

if t.TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
GIB = 1024 * MIB
CLUSTER = 65536
COMMON = Manners()
OLD, NEW = b"\x11", b"\x22"

Patch = pytest.MonkeyPatch


class Trap(t.NamedTuple):
    """``check`` raises if it meets the damage; ``naive`` makes the collection walk into the trap; ``damage`` is then told."""

    name: str
    check: t.Callable[[Path], None]
    naive: t.Callable[[Patch], None]
    damage: str


def disk_of(content: bytes, zero: list[tuple[int, int]], dirty: list[tuple[int, int]]) -> Disk:
    return Disk(content, {ALLOCATION: zero, BITMAP: dirty})


def copy(place: Path, disk: Disk, manners: Manners = COMMON, *, full: bool = False, **options: t.Any) -> FakeServer:
    """Copy a disk to ``image.qcow2``: an increment on an image full of old data, or all of it."""
    image = ImageRequest("", str(place / "image.qcow2"))
    if not full:
        base = nbd.create(place / "base.qcow2", len(disk.content))
        nbd.qemu_io(base, f"write -q -P 0x11 0 {len(disk.content)}")
        image = ImageRequest("", str(place / "image.qcow2"), bitmap="b", backing_file="base.qcow2")
    with FakeServer(place, disk, manners) as fake:
        asked = ImageRequest(**{**vars(image), "uri": fake.server.uri()})
        # The sample of clean ranges would find most of these traps as well, and hide which check is worth what.
        extract(ExtractRequest(images=(asked,), clean_samples=0, **options), check=False)
    return fake


def shows(place: Path, content: bytes) -> None:
    (place / "plain.raw").write_bytes(content)
    told = nbd.run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", place / "image.qcow2", place / "plain.raw")
    assert told == "Images are identical.\n", told
