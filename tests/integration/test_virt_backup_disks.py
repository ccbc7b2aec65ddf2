# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks of every kind: taken, left out or refused as documented, with a reason, and never the domain for one disk."""

from __future__ import annotations

import typing as t

import pytest
from lab.disks import MIB, Disk, cdrom, empty_cdrom
from lab.domains import Domains, LabDomain
from lab.tools import call, same_content

from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.virt_kit import FULL, KIB64, incremental

ZOO = (
    Disk("vda", serial="root-1"),
    Disk("vdb", format="raw"),
    Disk("vdc", compat="0.10"),
    Disk("vdd", kind="block"),
    Disk("vde", kind="nbd"),
    Disk("vdf", kind="nbd", format="raw"),
    Disk("vdg", readonly=True),
    Disk("vdh", kind="block", format="raw"),
    Disk("sda", bus="sata"),
    Disk("sdb", bus="scsi"),
    cdrom("sdc"),
    empty_cdrom("sdd"),
    Disk("vdi", transient=True),
)
TRACKED = ["vda", "vdd", "vde", "sda", "sdb"]
UNTRACKED = ["vdb", "vdc", "vdf", "vdh"]
LEFT_OUT = ["vdg", "vdi", "sdc", "sdd"]

WHY_NO_CHECKPOINT = {
    "vdb": "the disk's format is raw: only qcow2 images can hold a dirty bitmap",
    "vdf": "the disk's format is raw: only qcow2 images can hold a dirty bitmap",
    "vdh": "the disk's format is raw: only qcow2 images can hold a dirty bitmap",
    "vdc": "the image is qcow2 version 2, which cannot hold a dirty bitmap; "
    "with the domain off, qemu-img amend -o compat=1.1 makes it version 3",
}
WHY_LEFT_OUT = {
    "vdg": "the disk is read-only",
    "vdi": "the disk is transient",
    "sdc": "the disk is read-only",
    "sdd": "the cdrom drive is empty",
}


@pytest.fixture(scope="module")
def zoo() -> t.Iterator[LabDomain]:
    """Return a domain with one disk of every kind; the tests leave it without job and checkpoints."""
    made = Domains()
    domain = made(*ZOO)
    yield domain
    made.close()


@pytest.fixture(autouse=True)
def _as_it_was(zoo: LabDomain) -> t.Iterator[None]:
    yield
    kit.end(zoo)
    for name in zoo.checkpoints():
        kit.run("virt_checkpoint", domain=zoo.name, name=name, state="absent")
    assert kit.nothing_left(zoo)


def test_info_says_what_each_disk_can_do_and_why_not(zoo: LabDomain) -> None:
    info = kit.run("virt_backup_info", domain=zoo.name)
    disks = {disk["name"]: disk for disk in info["disks"]}
    assert sorted(disks) == sorted(disk.target for disk in ZOO)
    assert [name for name, disk in disks.items() if not disk["backup"]] == ["vdi", "sdd"]
    assert {name for name, disk in disks.items() if disk["by_default"]} == {*TRACKED, *UNTRACKED}
    assert {name for name, disk in disks.items() if disk["checkpoint"]} == set(TRACKED)
    assert {name: disks[name]["checkpoint_reason"] for name in WHY_NO_CHECKPOINT} == WHY_NO_CHECKPOINT
    assert all(disks[name]["by_default_reason"].startswith(why) for name, why in WHY_LEFT_OUT.items())
    assert all(bool(disk["backup_reason"]) is not disk["backup"] for disk in disks.values())
    assert disks["vda"]["serial"] == "root-1"
    assert {disk["bus"] for disk in disks.values()} == {"virtio", "sata", "scsi"}
    assert (disks["vdd"]["type"], disks["vde"]["type"], disks["sdc"]["device"]) == ("block", "network", "cdrom")
    sizes = {name: disk["virtual_size"] for name, disk in disks.items()}
    assert sizes == {disk.target: 0 if disk.kind == "empty" else disk.size for disk in ZOO}
    assert info["job"] is None
    assert info["domain"]["state"] == "paused"


def test_full_then_mixed_takes_all_that_can_be_taken(zoo: LabDomain) -> None:
    frozen = {name: zoo.frozen_copy(name) for name in (*TRACKED, *UNTRACKED)}
    first = kit.backup(zoo, checkpoint={"name": "ck1"})
    assert kit.levels(first) == dict.fromkeys((*TRACKED, *UNTRACKED), FULL)
    assert sorted(entry["name"] for entry in first["left_out"]) == sorted(LEFT_OUT)
    assert all(kit.reason(first, name).startswith(why) for name, why in WHY_LEFT_OUT.items())
    assert all(kit.export_equals(first, name, copy) for name, copy in frozen.items())
    kit.end(zoo)
    covered = {disk["name"] for disk in kit.checkpoints_of(zoo)["ck1"]["disks"] if disk["checkpoint"] == "bitmap"}
    assert covered == set(TRACKED)
    for number, name in enumerate(TRACKED):
        zoo.write(name, number * MIB, KIB64, 0x30 + number)
    second = kit.backup(zoo, incremental="ck1", checkpoint={"name": "ck2"})
    expected = {name: incremental("ck1") if name in TRACKED else FULL for name in (*TRACKED, *UNTRACKED)}
    assert kit.levels(second) == expected
    assert {name: kit.reason(second, name) for name in WHY_NO_CHECKPOINT} == WHY_NO_CHECKPOINT
    for number, name in enumerate(TRACKED):
        assert kit.dirty_map(second, name) == [(number * MIB, KIB64)]


def test_a_read_only_disk_and_a_medium_are_taken_when_listed(zoo: LabDomain) -> None:
    job = kit.backup(zoo, disks=[{"name": "vdg"}, {"name": "sdc"}, {"name": "vda"}], checkpoint={"name": "ck1"})
    assert kit.levels(job) == {"vda": FULL, "vdg": FULL, "sdc": FULL}
    covered = [disk["name"] for disk in kit.checkpoints_of(zoo)["ck1"]["disks"] if disk["checkpoint"] == "bitmap"]
    assert covered == ["vda"]


@pytest.mark.parametrize(
    ("disk", "why"),
    [("vdi", "cannot be backed up: the disk is transient"), ("sdd", "cannot be backed up: the cdrom drive is empty")],
)
def test_what_no_job_can_take_is_refused_when_listed(zoo: LabDomain, disk: str, why: str) -> None:
    sentence = kit.refusal("virt_backup", domain=zoo.name, disks=[{"name": "vda"}, {"name": disk}])
    assert sentence.startswith(f"disks[1].name: '{disk}' {why}")
    assert sentence.endswith("set backup: false for it.")


@pytest.mark.parametrize("disk", ["vdb", "vdc", "vdf", "vdg", "vdh", "vdi", "sdc", "sdd"])
def test_a_checkpoint_of_what_cannot_carry_one_is_refused_when_listed(zoo: LabDomain, disk: str) -> None:
    options = {"domain": zoo.name, "name": "ck1"}
    sentence = kit.refusal("virt_checkpoint", **options, disks=[{"name": "vda"}, {"name": disk}])
    assert sentence.startswith(f"disks[1].name: '{disk}' cannot carry a checkpoint: the ")
    both = {"name": "ck1", "disks": [{"name": disk}]}
    assert "cannot carry a checkpoint" in kit.refusal("virt_backup", domain=zoo.name, checkpoint=both)


def test_a_checkpoint_of_all_disks_covers_those_that_can_carry_one(zoo: LabDomain) -> None:
    made = kit.run("virt_checkpoint", domain=zoo.name, name="ck1")
    assert [disk["name"] for disk in made["checkpoint"]["disks"] if disk["checkpoint"] == "bitmap"] == [
        disk.target for disk in ZOO if disk.target in TRACKED
    ]


def test_no_checkpoint_is_made_where_no_disk_can_carry_one_and_that_is_said(zoo: LabDomain) -> None:
    job = kit.backup(zoo, disks=[{"name": "vdb"}, {"name": "vdf"}], checkpoint={"name": "ck1"})
    assert zoo.checkpoints() == []
    assert job["checkpoint_xml"] == ""
    assert any("No checkpoint 'ck1' is made" in warning for warning in job["warnings"])
    again = kit.backup(zoo, disks=[{"name": "vdb"}, {"name": "vdf"}], checkpoint={"name": "ck1"})
    assert not again["changed"]


def test_demanding_incremental_of_a_raw_disk_is_refused(zoo: LabDomain) -> None:
    kit.taken(zoo, "ck1")
    disks = [{"name": "vdb", "backupmode": "incremental", "incremental": "ck1"}]
    sentence = kit.refusal("virt_backup", domain=zoo.name, disks=disks)
    assert "cannot be had for disk 'vdb'" in sentence
    assert "format is raw" in sentence


def test_scratch_on_a_block_device_survives_the_job(zoo: LabDomain, domains: Domains) -> None:
    spare = domains(Disk("vda", kind="block", format="raw", size=72 * MIB), start=False)
    device = spare.disks["vda"].loop
    frozen = zoo.frozen_copy("vda")
    job = kit.backup(zoo, disks=[{"name": "vda", "type": "block", "scratch": device}])
    zoo.write("vda", 0, MIB, 0x99)
    assert kit.export_equals(job, "vda", frozen)
    kit.end(zoo)
    assert call("blockdev", "--getsize64", device).strip() == str(72 * MIB)


def test_a_transient_disks_content_stays_out_and_its_image_as_it_was(zoo: LabDomain) -> None:
    image = zoo.disks["vdi"].image
    before = zoo.folder / "transient.raw"
    call("qemu-img", "convert", "-U", "-O", "raw", image, before)
    zoo.write("vdi", 0, MIB)
    kit.backup(zoo)
    kit.end(zoo)
    assert same_content(image, before) == ""


@pytest.fixture
def old(domains: Domains) -> LabDomain:
    """Return a domain with a disk whose image is too old for bitmaps, which only QEMU can see: it is behind NBD."""
    return domains(Disk("vda"), Disk("vdb", kind="nbd", compat="0.10"))


def test_an_old_image_that_only_qemu_can_see_stays_out_of_the_checkpoint(old: LabDomain) -> None:
    first = kit.taken(old, "ck1")
    assert kit.levels(first) == {"vda": FULL, "vdb": FULL}
    covered = {disk["name"]: disk["checkpoint"] for disk in kit.checkpoints_of(old)["ck1"]["disks"]}
    assert covered == {"vda": "bitmap", "vdb": "no"}
    old.write("vda", 0, KIB64)
    job = kit.backup(old, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": FULL}
    assert kit.reason(job, "vdb") == WHY_NO_CHECKPOINT["vdc"]
    assert not kit.backup(old, incremental="ck1", checkpoint={"name": "ck2"})["changed"]
    kit.end(old)
    kit.run("virt_checkpoint", domain=old.name, name="ck3")
    assert not kit.run("virt_checkpoint", domain=old.name, name="ck3")["changed"]
    assert old.checkpoints() == ["ck1", "ck2", "ck3"]


def test_a_checkpoint_of_an_old_image_is_refused_when_listed_also_if_only_qemu_can_see(old: LabDomain) -> None:
    listed = {"name": "ck1", "disks": [{"name": "vda"}, {"name": "vdb"}]}
    for module, options in (("virt_checkpoint", listed), ("virt_backup", {"checkpoint": listed})):
        sentence = kit.refusal(module, domain=old.name, **options)
        assert f"'vdb' cannot carry a checkpoint: {WHY_NO_CHECKPOINT['vdc']}; set checkpoint: 'no' for it." in sentence
        assert kit.nothing_left(old)
