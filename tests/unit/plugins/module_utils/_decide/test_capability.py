# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be done with a disk, by its kind."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.capability import (
    preserves_shutdown,
    why_no_backup,
    why_no_checkpoint,
    why_not_by_default,
)
from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk

QCOW2 = {"source": "/a", "format": "qcow2"}

# Kind, disk, and a word of the reason against: a backup when listed, a backup by default, a checkpoint ("" for yes).
KINDS = [
    ("qcow2 file", Disk("vda", **QCOW2), "", "", ""),
    ("qcow2 on a block device", Disk("vda", **QCOW2, source_type="block"), "", "", ""),
    ("qcow2 over NBD", Disk("vda", **QCOW2, source_type="network"), "", "", ""),
    ("qcow2 in a volume", Disk("vda", **QCOW2, source_type="volume"), "", "", ""),
    ("qcow2 on SATA", Disk("sda", **QCOW2, bus="sata"), "", "", ""),
    ("raw file", Disk("vda", source="/a"), "", "", "format is raw"),
    ("raw Ceph", Disk("vda", source="rbd://a/b", source_type="network"), "", "", "format is raw"),
    ("raw NVMe", Disk("vda", source="x", source_type="nvme"), "", "", "format is raw"),
    ("vmdk", Disk("vda", source="/a", format="vmdk"), "", "", "format is vmdk"),
    ("read-only disk", Disk("vda", **QCOW2, readonly=True), "", "is read-only", "is read-only"),
    ("CD", Disk("sda", "cdrom", source="/a", readonly=True), "", "is read-only", "is read-only"),
    ("empty CD drive", Disk("sda", "cdrom", readonly=True), *["the cdrom drive is empty"] * 3),
    ("empty floppy drive", Disk("fda", "floppy"), *["the floppy drive is empty"] * 3),
    ("disk without source", Disk("vda"), *["the disk has no source"] * 3),
    ("transient", Disk("vda", **QCOW2, transient=True), *["is transient"] * 3),
    ("SD card", Disk("sda", **QCOW2, bus="sd"), *["the bus 'sd'"] * 3),
    ("vhost-user", Disk("vda", source="x", source_type="vhostuser"), *["vhostuser disks"] * 3),
    ("vDPA", Disk("vda", source="x", source_type="vhostvdpa"), *["vhostvdpa disks"] * 3),
]


@pytest.mark.parametrize(("disk", "backup", "default", "checkpoint"), [k[1:] for k in KINDS], ids=[k[0] for k in KINDS])
def test_kind(disk: Disk, backup: str, default: str, checkpoint: str) -> None:
    for wanted, reason in (
        (backup, why_no_backup(disk)),
        (default, why_not_by_default(disk)),
        (checkpoint, why_no_checkpoint(disk)),
    ):
        assert wanted in reason
        assert bool(wanted) is bool(reason)


@pytest.mark.parametrize(
    ("daemon", "preserves"),
    [
        (7_006_000, False),
        (9_000_000, False),
        (11_003_000, False),
        (11_009_999, False),
        (11_010_000, True),
        (12_000_000, True),
    ],
)
def test_who_keeps_the_job_of_a_guest_that_shuts_down(daemon: int, *, preserves: bool) -> None:
    assert preserves_shutdown(daemon) is preserves


@pytest.mark.parametrize(("version", "refused"), [(None, False), (3, False), (2, True)])
def test_qcow2_version(version: int | None, refused: bool) -> None:
    reason = why_no_checkpoint(Disk("vda", **QCOW2), version)
    assert bool(reason) is refused
    assert ("qemu-img amend -o compat=1.1" in reason) is refused


def test_the_version_is_only_asked_of_a_disk_that_is_left() -> None:
    assert "read-only" in why_no_checkpoint(Disk("vda", **QCOW2, readonly=True), 2)
    assert "raw" in why_no_checkpoint(Disk("vda", source="/a"), 2)
