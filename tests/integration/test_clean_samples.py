# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bitmaps that do not tell the truth: the run fails and names the disk, and the next one makes that disk full alone."""

from __future__ import annotations

import pathlib
import shutil
import typing as t

import pytest
from integration import playbook
from integration import virt_kit as kit
from integration.protection import FULL, INCREMENTAL, Point, Protection
from integration.virt_kit import SCRATCH, SOCKETS, Result
from lab.disks import KIB, MIB, Attached, Disk
from lab.domains import Domains, LabDomain
from lab.tools import call, image_info, same_content

pytestmark = pytest.mark.timeout(600)

SIZE = 16 * MIB
BOTH_INCREMENTAL = {"vda": INCREMENTAL, "vdb": INCREMENTAL}
ONLY_VDA_FULL = {"vda": FULL, "vdb": INCREMENTAL}


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    """Return a domain with two disks whose content differs everywhere, and that are alike in all else."""
    domain = domains(Disk("vda", size=SIZE), Disk("vdb", size=SIZE))
    domain.write("vda", 0, 8 * MIB, pattern=0xA0)
    domain.write("vdb", 0, 8 * MIB, pattern=0xB0)
    return domain


@pytest.fixture
def protection(domain: LabDomain, workdir: pathlib.Path) -> Protection:
    """Return its protection, begun with a full backup and an increment."""
    protection = Protection(domain, workdir / "repository")
    protection.backup()
    write(domain, 0x01)
    assert protection.backup().levels == BOTH_INCREMENTAL
    return protection


def write(domain: LabDomain, pattern: int) -> None:
    """Change a little of both disks."""
    for target in ("vda", "vdb"):
        domain.write(target, pattern * 128 * KIB, 64 * KIB, pattern=pattern)


def over_the_very_file(image: pathlib.Path, content: pathlib.Path) -> None:
    """Copy an image into the file of another, which stays the same file."""
    inode = image.stat().st_ino
    shutil.copyfile(content, image)
    assert image.stat().st_ino == inode


def another_disk_copied_over_it(protection: Protection) -> None:
    """The bitmaps of both have one name, the checkpoint's, so libvirt takes each for the other's."""
    domain = protection.domain
    domain.destroy()
    over_the_very_file(domain.disks["vda"].image, domain.disks["vdb"].image)
    domain.start()


def another_disk_converted_over_it(protection: Protection) -> None:
    """The same by the tool with which disks are restored by hand, asked to bring the bitmaps along."""
    domain = protection.domain
    image, other = domain.disks["vda"].image, domain.disks["vdb"].image
    inode = image.stat().st_ino
    domain.destroy()
    call("qemu-img", "convert", "-O", "qcow2", "--bitmaps", other, image)
    assert image.stat().st_ino == inode
    domain.start()


def bitmap_cleared(protection: Protection) -> None:
    """What was recorded so far is forgotten, behind libvirt's back, while the domain runs."""
    domain, name = protection.domain, protection.points[-1].checkpoint
    domain.write("vda", 4 * MIB, 2 * MIB, pattern=0x77)
    nodes = [node for node in kit.qmp(domain, "query-named-block-nodes") if node["drv"] == "qcow2"]
    node = next(node["node-name"] for node in nodes if node["file"] == str(domain.live_source("vda")))
    kit.qmp(domain, "block-dirty-bitmap-clear", node=node, name=name)


def restored_past_the_bitmaps(protection: Protection) -> None:
    """An older state is written into the file by a program that does not know of bitmaps: here, into its clusters."""
    domain = protection.domain
    image, older = domain.disks["vda"].image, protection.points[0].tip("vda")
    domain.destroy()
    names = [bitmap["name"] for bitmap in image_info(image)["format-specific"]["data"]["bitmaps"]]
    for name in names:
        call("qemu-img", "bitmap", "--disable", image, name)
    call("qemu-io", "-f", "qcow2", "-c", f"write -P 0x55 0 {8 * MIB}", image)
    call("qemu-img", "convert", "-n", "-O", "qcow2", older, image)
    call("qemu-io", "-f", "qcow2", "-c", f"write -P 0x55 {2 * MIB} {2 * MIB}", image)
    for name in names:
        call("qemu-img", "bitmap", "--enable", image, name)
    domain.start()


LIES = (another_disk_copied_over_it, another_disk_converted_over_it, bitmap_cleared, restored_past_the_bitmaps)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_bitmap_that_lies_fails_the_run_and_makes_the_next_one_of_that_disk_full(
    domain: LabDomain, protection: Protection, lie: t.Callable[[Protection], None]
) -> None:
    lie(protection)
    write(domain, 0x02)
    base = protection.points[-1]
    run = protection.stage()
    assert run.levels == BOTH_INCREMENTAL
    protection.start(run)
    failed = kit.attempt("nbd_extract", **protection.extraction(run))
    assert failed["failed"]
    assert f"the disk 'vda' can't be incremental on '{run.plan['staging']}/../{base.id}/vda.qcow2'" in failed["msg"]
    assert [pathlib.Path(entry["dest"]).name for entry in failed["mismatches"]] == ["vda.qcow2"]
    assert not list(pathlib.Path(run.plan["staging"]).glob("*.qcow2"))
    protection.tell(run, failed["mismatches"])
    protection.undo(run)
    assert domain.checkpoints() == [base.checkpoint]

    write(domain, 0x03)
    full = protection.backup()
    assert full.levels == ONLY_VDA_FULL
    assert full.reason("vda").startswith(f"an earlier run found its last image ({base.id}) no base: ")
    assert "clean ranges that were compared differ from it" in full.reason("vda")
    assert full.disk("vdb")["parent"] == base.id
    write(domain, 0x04)
    assert protection.backup().levels == BOTH_INCREMENTAL
    protection.check_all()


def test_restored_by_hand_into_the_same_file_is_right_in_any_case(domain: LabDomain, protection: Protection) -> None:
    """Without bitmaps in the result the plan sees it. Into the existing image, QEMU's own bitmaps record it."""
    image, older = domain.disks["vda"].image, protection.points[0].tip("vda")
    base = protection.points[-1]
    for options, level in (([], FULL), (["-n"], INCREMENTAL)):
        inode = image.stat().st_ino
        domain.destroy()
        call("qemu-img", "convert", *options, "-O", "qcow2", older, image)
        assert image.stat().st_ino == inode
        domain.start()
        restored = protection.backup()
        assert restored.levels == {"vda": level, "vdb": INCREMENTAL}
        if level == FULL:
            assert restored.reason("vda").startswith(f"the bitmap of {base.checkpoint} can't be used: ")
    protection.check_all()


def test_the_role_forgets_nothing_of_it(domain: LabDomain, protection: Protection, workdir: pathlib.Path) -> None:
    another_disk_copied_over_it(protection)
    base = protection.points[-1]
    unit: Result = {"backup_domain": domain.name, "backup_repository": str(protection.repository)}
    failed = playbook.play(workdir, hv=unit)["hv"]
    assert failed.failed
    assert "the disk 'vda' can't be incremental on " in failed.result["reason"]
    assert failed.result["reason"].endswith("take a full one of this disk. The next run makes it full.")
    assert not failed.result["protected"]
    look = protection.look()
    assert (look["lock"], look["stagings"], look["problems"]) == (None, [], [])
    assert look["latest"]["id"] == base.id
    assert look["latest"]["complete"]
    assert domain.checkpoints() == [base.checkpoint]
    assert not domain.has_job()
    assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []
    protection.check_all()

    write(domain, 0x05)
    truth = {name: domain.frozen_copy(name) for name in ("vda", "vdb")}
    ended = playbook.play_one(workdir, **unit)
    assert ended.levels == ONLY_VDA_FULL
    assert ended.reason("vda").startswith(f"an earlier run found its last image ({base.id}) no base: ")
    for name, frozen in truth.items():
        assert same_content(pathlib.Path(ended.result["path"]) / f"{name}.qcow2", frozen) == "", name
    write(domain, 0x06)
    ended = playbook.play_one(workdir, **unit, backup_clean_samples=0)
    assert ended.levels == BOTH_INCREMENTAL


def test_another_serial_or_a_smaller_size_is_full(domain: LabDomain, protection: Protection) -> None:
    image = domain.disks["vda"].image
    domain.destroy()
    domain.disks["vda"] = Attached(Disk("vda", size=SIZE, image=image, serial="WD-2"), domain.folder)
    domain.define()
    domain.start()
    point: Point = protection.backup()
    assert point.levels == ONLY_VDA_FULL
    assert point.reason("vda") == "the disk's serial changed from '' to 'WD-2'"
    domain.resize("vda", SIZE - MIB)
    point = protection.backup()
    assert point.levels == ONLY_VDA_FULL
    assert point.reason("vda") == f"the disk was resized from {SIZE} to {SIZE - MIB} bytes"
    write(domain, 0x07)
    assert protection.backup().levels == BOTH_INCREMENTAL
    protection.check_all()
