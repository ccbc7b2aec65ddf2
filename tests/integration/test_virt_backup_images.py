# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What other commands of libvirt and QEMU do to images and bitmaps, and what libvirt makes of our XML."""

from __future__ import annotations

import pathlib
import typing as t
import uuid

import pytest
from lab.disks import MIB, Disk, empty_cdrom
from lab.domains import Domains, LabDomain
from lab.tools import call, virsh
from lab.wait import until
from lxml import etree

from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.virt_kit import FULL, KIB64, incremental


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    """Return a domain whose disk was backed up with ck1 and written to since."""
    domain = domains(Disk("vda"))
    kit.taken(domain, "ck1")
    domain.write("vda", MIB, KIB64)
    return domain


def attributes(xml: str) -> dict[str, dict[str, str]]:
    """Return the attributes of each disk of a job, without what libvirt adds for itself."""
    disks = [dict(disk.attrib) for disk in etree.fromstring(xml).iterfind("disks/disk")]
    return {disk.pop("name"): {key: disk[key] for key in disk if key != "index"} for disk in disks}


def test_libvirt_resolves_the_xml_to_what_it_said_already(domains: Domains) -> None:
    domain = domains(Disk("vda"), Disk("vdb"), Disk("vdc"), empty_cdrom("sda"))
    kit.taken(domain, "ck1", disks=[{"name": "vda"}, {"name": "vdb"}])
    kit.taken(domain, "ck2", incremental="ck1", disks=[{"name": "vda"}, {"name": "vdb"}])
    common = {"backup": "yes", "type": "file"}
    full = {**common, "backupmode": "full"}
    since = {**common, "backupmode": "incremental"}
    for options, vda, vdb in (
        ({}, full, full),
        ({"incremental": "ck2"}, {**since, "incremental": "ck2"}, {**since, "incremental": "ck2"}),
        ({"disks": [{"name": "vda", "incremental": "ck1"}, {"name": "vdb"}]}, {**since, "incremental": "ck1"}, full),
        (
            {"incremental": "ck2", "disks": [{"name": "vda", "incremental": "ck1"}, {"name": "vdb"}]},
            {**since, "incremental": "ck1"},
            {**since, "incremental": "ck2"},
        ),
        (
            {"incremental": "ck2", "disks": [{"name": "vda", "backupmode": "full"}, {"name": "vdb"}]},
            full,
            {**since, "incremental": "ck2"},
        ),
        (
            {"backupmode": "full", "disks": [{"name": "vda", "incremental": "ck1"}, {"name": "vdb"}]},
            {**since, "incremental": "ck1"},
            full,
        ),
    ):
        wanted: kit.Result = {"disks": [{"name": "vda"}, {"name": "vdb"}], **options}
        job = kit.backup(domain, **wanted)
        sent, resolved = attributes(job["xml"]), attributes(domain.backup_xml())
        assert sent == resolved
        for name, expected in (("vda", vda), ("vdb", vdb)):
            names = {"exportname": name}
            names |= {"exportbitmap": f"backup-{name}"} if expected["backupmode"] == "incremental" else {}
            assert sent[name] == {**expected, **names}, options
        assert sent["vdc"] == sent["sda"] == {"backup": "no"}
        kit.end(domain)


def test_committed_back_from_an_overlay_increments_go_on(domain: LabDomain) -> None:
    overlay = domain.folder / "overlay.qcow2"
    virsh("snapshot-create-as", domain.name, "s1", "--disk-only", "--no-metadata", "--diskspec", f"vda,file={overlay}")
    domain.write("vda", 7 * MIB, KIB64)
    virsh("blockcommit", domain.name, "vda", "--active", "--wait", "--pivot")
    frozen = domain.frozen_copy("vda")
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": incremental("ck1")}
    assert kit.dirty_map(job, "vda") == [(MIB, KIB64), (7 * MIB, KIB64)]
    assert kit.export_equals(job, "vda", frozen)
    kit.end(domain)


def test_an_overlay_that_qemu_img_made_is_full_with_the_reason(domain: LabDomain) -> None:
    domain.destroy()
    image, below = domain.disks["vda"].image, domain.folder / "below.qcow2"
    image.rename(below)
    call("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", image)
    domain.start()
    frozen = domain.frozen_copy("vda")
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": FULL}
    assert kit.reason(job, "vda") == "the bitmap of checkpoint 'ck1' is missing or broken on disk 'vda'"
    assert kit.export_equals(job, "vda", frozen)
    kit.end(domain)


def test_an_image_that_was_converted_in_place_is_full_with_the_reason(domain: LabDomain) -> None:
    domain.destroy()
    image, old = domain.disks["vda"].image, domain.folder / "old.qcow2"
    image.rename(old)
    call("qemu-img", "convert", "-O", "qcow2", old, image)
    domain.start()
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": FULL}
    kit.end(domain)


def test_saved_and_restored_increments_go_on(domain: LabDomain) -> None:
    virsh("managedsave", domain.name)
    domain.start()
    job = kit.backup(domain, incremental="ck1")
    assert kit.levels(job) == {"vda": incremental("ck1")}
    assert kit.dirty_map(job, "vda") == [(MIB, KIB64)]
    kit.end(domain)


def test_a_transient_domain_forgets_its_checkpoints_and_is_told_them_again(domains: Domains) -> None:
    domain = domains.describe(Disk("vda"))
    definition = domain.folder / "transient.xml"
    definition.write_text(domain.xml(), encoding="utf-8")
    virsh("create", definition, "--paused")
    kit.taken(domain, "ck1")
    saved = kit.checkpoints_of(domain)["ck1"]["xml"]
    domain.write("vda", MIB, KIB64)
    domain.destroy()
    assert "is no domain of" in kit.refusal("virt_backup", domain=domain.name)
    virsh("create", definition, "--paused")
    assert kit.reason(kit.backup(domain, check=True, incremental="ck1"), "vda") == "the domain has no checkpoint 'ck1'"
    kit.run("virt_checkpoint", domain=domain.name, name="ck1", redefine_xml=saved, validate=True)
    job = kit.backup(domain, incremental="ck1")
    assert kit.levels(job) == {"vda": incremental("ck1")}
    assert kit.dirty_map(job, "vda") == [(MIB, KIB64)]
    kit.end(domain)


def test_a_saved_checkpoint_is_fitted_to_the_domain_as_it_is_now(domains: Domains) -> None:
    domain = domains(Disk("vda"), Disk("vdb"))
    kit.taken(domain, "ck1")
    kit.taken(domain, "ck2", incremental="ck1")
    saved = kit.checkpoints_of(domain)["ck2"]["xml"]
    for name in ("ck2", "ck1"):
        kit.run("virt_checkpoint", domain=domain.name, name=name, state="absent", metadata_only=True)
    domain.detach("vdb")
    options = {"domain": domain.name, "name": "ck2", "redefine_xml": saved, "validate": True}
    foreseen, done = kit.run("virt_checkpoint", check=True, **options), kit.run("virt_checkpoint", **options)
    words = ["Left out of checkpoint 'ck2', since the domain has it no more: disk 'vdb', parent 'ck1'."]
    assert foreseen["warnings"] == done["warnings"] == words
    assert [(disk["name"], disk["checkpoint"]) for disk in done["checkpoint"]["disks"]] == [("vda", "bitmap")]
    assert not kit.run("virt_checkpoint", **options)["changed"]
    assert kit.levels(kit.backup(domain, check=True, incremental="ck2")) == {"vda": incremental("ck2")}


def test_a_name_whose_bitmap_outlived_its_checkpoint_is_refused_and_the_bitmap_kept(domain: LabDomain) -> None:
    kit.run("virt_checkpoint", domain=domain.name, name="ck1", state="absent", metadata_only=True)
    for module, options in (("virt_backup", {"checkpoint": {"name": "ck1"}}), ("virt_checkpoint", {"name": "ck1"})):
        sentence = kit.refusal(module, domain=domain.name, **options)
        assert "Bitmap already exists: ck1" in sentence
        assert "a bitmap that libvirt has forgotten; choose another name for the checkpoint." in sentence
        assert kit.nothing_left(domain)
    bitmaps = kit.qmp(domain, "query-named-block-nodes")
    assert "ck1" in {bitmap["name"] for node in bitmaps for bitmap in node.get("dirty-bitmaps", [])}


def test_a_disk_that_another_job_copies_is_one_sentence_and_leaves_nothing(
    domain: LabDomain, workdir: pathlib.Path
) -> None:
    domain.write("vda", 0, 32 * MIB)
    virsh("blockcopy", domain.name, "vda", workdir / "copy.qcow2", "--bandwidth", "1", "--transient-job")
    sentence = kit.refusal("virt_backup", domain=domain.name, incremental="ck1", checkpoint={"name": "ck2"})
    assert "disk 'vda' has a blockjob assigned" in sentence
    assert sentence.endswith("wait for its end, or leave the disk out with backup: false.")
    assert domain.checkpoints() == ["ck1"]
    virsh("blockjob", domain.name, "vda", "--abort")
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": incremental("ck1")}
    kit.end(domain)


@pytest.fixture
def tiny(workdir: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Return a file system of 3 MiB."""
    folder = workdir / "tiny"
    folder.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=3m,mode=0777", "none", folder)
    yield folder
    call("umount", folder)


def test_scratch_that_is_too_small_is_refused_unless_asked_for(domain: LabDomain, tiny: pathlib.Path) -> None:
    sentence = kit.refusal("virt_backup", domain=domain.name, scratch_dir=str(tiny))
    assert sentence.startswith(f"scratch_dir: '{tiny}' has ")
    assert "(scratch_min_free: 10%); at worst, when all of disk vda is overwritten" in sentence
    assert kit.nothing_left(domain, "ck1")


def test_a_job_whose_scratch_is_full_can_be_ended_and_the_domain_goes_on(domain: LabDomain, tiny: pathlib.Path) -> None:
    domain.write("vda", 0, 16 * MIB, 0x11)
    options = {"scratch_dir": str(tiny), "scratch_min_free": "0%"}
    kit.backup(domain, **options, checkpoint={"name": "ck2"})
    device = domain._qdev("vda")
    virsh("qemu-monitor-command", domain.name, "--hmp", f'qemu-io -d {device} "write -P 0x22 0 16M"')
    until("the scratch file system is full", lambda: "No space" in _fill(tiny))
    assert kit.end(domain)["changed"]
    domain.write("vda", 0, 16 * MIB, 0x33)
    frozen = domain.frozen_copy("vda")
    kit.run("virt_checkpoint", domain=domain.name, name="ck2", state="absent")
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck3"})
    assert kit.levels(job) == {"vda": incremental("ck1")}
    assert kit.dirty_map(job, "vda") == [(0, 16 * MIB)]
    assert kit.export_equals(job, "vda", frozen)
    kit.end(domain)


def _fill(folder: pathlib.Path) -> str:
    """Return what the kernel says to one more block."""
    path = folder / uuid.uuid4().hex
    try:
        path.write_bytes(bytes(MIB))
    except OSError as error:
        return str(error)
    finally:
        path.unlink()
    return ""
