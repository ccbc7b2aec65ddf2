# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happens to a domain between two backups, and what a daemon, a crash or another tool does in the middle."""

from __future__ import annotations

import pathlib
import signal
import uuid

import pytest
from lab import services
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import call, image_info, same_content, virsh

from ansible_collections.virt.backup.plugins.module_utils import _libvirt
from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.virt_kit import FULL, KIB64, incremental

GONE = "the bitmap of checkpoint 'ck1' is missing or broken on disk '{}'"


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    """Return a domain whose two disks were backed up with ck1, and vda written to since."""
    domain = domains(Disk("vda"), Disk("vdb"))
    kit.taken(domain, "ck1")
    domain.write("vda", MIB, KIB64)
    return domain


# the domain's life


def test_a_power_cycle_keeps_increments(domain: LabDomain) -> None:
    domain.power_cycle()
    domain.write("vda", 3 * MIB, KIB64)
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": incremental("ck1")}
    assert kit.dirty_map(job, "vda") == [(MIB, KIB64), (3 * MIB, KIB64)]
    kit.end(domain)


def test_a_killed_qemu_makes_the_spoilt_disks_full_once(domain: LabDomain) -> None:
    domain.kill()
    domain.start()
    domain.attach(Disk("vdc"))
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": FULL, "vdb": FULL, "vdc": FULL}
    assert {name: kit.reason(job, name) for name in ("vda", "vdb")} == {n: GONE.format(n) for n in ("vda", "vdb")}
    kit.end(domain)
    kit.run("virt_checkpoint", domain=domain.name, name="ck1", state="absent")
    domain.write("vdb", 0, KIB64)
    job = kit.backup(domain, incremental="ck2", checkpoint={"name": "ck3"})
    assert kit.levels(job) == dict.fromkeys(("vda", "vdb", "vdc"), incremental("ck2"))
    assert kit.dirty_map(job, "vdb") == [(0, KIB64)]
    kit.end(domain)
    assert domain.checkpoints() == ["ck2", "ck3"]


def test_a_domain_that_is_off_is_a_clear_error(domain: LabDomain) -> None:
    domain.destroy()
    off = f"domain: '{domain.name}' is not running, and {{}} needs a running QEMU; start the domain first"
    for check in (False, True):
        assert off.format("a backup") in kit.refusal("virt_backup", check=check, domain=domain.name)
        sentence = kit.refusal("virt_checkpoint", check=check, domain=domain.name, name="ck2")
        assert off.format("a checkpoint") in sentence
    assert "metadata_only" in kit.refusal("virt_checkpoint", domain=domain.name, name="ck1", state="absent")
    assert "is off" in kit.refusal("virt_checkpoint_info", domain=domain.name, size=True)
    assert not kit.end(domain)["changed"]
    known = kit.run("virt_checkpoint_info", domain=domain.name)["checkpoints"]
    assert [checkpoint["name"] for checkpoint in known] == ["ck1"]
    assert kit.run("virt_backup_info", domain=domain.name)["domain"]["state"] == "shutoff"


def test_power_off_during_a_job_ends_it_and_stopped_is_content(domain: LabDomain) -> None:
    kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    domain.destroy()
    assert not kit.end(domain)["changed"]
    domain.start()
    assert domain.checkpoints() == ["ck1", "ck2"]
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck3"})
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": incremental("ck1")}
    assert kit.dirty_map(job, "vda") == [(MIB, KIB64)]
    kit.end(domain)


# daemons, crashes, lost metadata


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_libvirtd_restarted_during_a_job_finds_it_again(domain: LabDomain, how: signal.Signals) -> None:
    frozen = domain.frozen_copy("vda")
    options = {"incremental": "ck1", "checkpoint": {"name": "ck2"}}
    first = kit.backup(domain, **options)
    services.restart(how=how)
    again = kit.backup(domain, **options)
    assert not again["changed"]
    assert kit.levels(again) == kit.levels(first)
    assert again["server"] == first["server"]
    domain.write("vda", 0, KIB64)
    assert kit.export_equals(again, "vda", frozen)
    assert kit.dirty_map(again, "vda") == [(MIB, KIB64)]
    assert kit.end(domain)["changed"]
    assert kit.nothing_left(domain, "ck1", "ck2")


def test_lost_metadata_is_redefined_and_increments_go_on(domain: LabDomain) -> None:
    kit.taken(domain, "ck2", incremental="ck1")
    saved = {name: checkpoint["xml"] for name, checkpoint in kit.checkpoints_of(domain).items()}
    for name in ("ck2", "ck1"):
        kit.run("virt_checkpoint", domain=domain.name, name=name, state="absent", metadata_only=True)
    assert domain.checkpoints() == []
    domain.write("vda", 5 * MIB, KIB64)
    assert kit.levels(kit.backup(domain, check=True, incremental="ck2"))["vda"] == FULL
    for name, xml in saved.items():
        options = {"domain": domain.name, "name": name, "redefine_xml": xml, "validate": True}
        assert kit.run("virt_checkpoint", check=True, **options)["changed"]
        assert kit.run("virt_checkpoint", **options)["changed"]
        assert not kit.run("virt_checkpoint", **options)["changed"]
    assert domain.checkpoints() == ["ck1", "ck2"]
    job = kit.backup(domain, incremental="ck2")
    assert kit.levels(job) == {"vda": incremental("ck2"), "vdb": incremental("ck2")}
    assert kit.dirty_map(job, "vda") == [(5 * MIB, KIB64)]
    kit.end(domain)


def test_a_definition_of_a_checkpoint_without_its_bitmap_is_refused_when_validated(domain: LabDomain) -> None:
    xml = kit.checkpoints_of(domain)["ck1"]["xml"].replace("ck1", "never")
    options = {"domain": domain.name, "name": "never", "redefine_xml": xml, "validate": True}
    assert "libvirt error 109" in kit.refusal("virt_checkpoint", **options)
    assert domain.checkpoints() == ["ck1"]


# other tools


def test_a_foreign_job_is_left_alone_by_started_and_stopped(domain: LabDomain, workdir: pathlib.Path) -> None:
    foreign = workdir / "foreign.xml"
    path = workdir / "foreign.sock"
    foreign.write_text(
        f"<domainbackup mode='pull'><server transport='unix' socket='{path}'/><disks>"
        f"<disk name='vda' backup='yes' type='file'><scratch file='{workdir}/scratch'/></disk></disks></domainbackup>",
        encoding="utf-8",
    )
    virsh("backup-begin", domain.name, foreign)
    theirs = domain.backup_xml()
    options = {"domain": domain.name, "incremental": "ck1", "checkpoint": {"name": "ck2"}}
    for check in (True, False):
        sentence = kit.refusal("virt_backup", check=check, **options)
        assert f"has another backup job active, the pull job that serves at {path}" in sentence
        sentence = kit.refusal("virt_backup", check=check, domain=domain.name, state="stopped")
        assert f"is the pull job that serves at {path}, which is not the one named here; it is left alone" in sentence
        push = {"state": "stopped", "mode": "push", "target_dir": str(workdir), "cancel": True}
        assert "it is left alone" in kit.refusal("virt_backup", check=check, domain=domain.name, **push)
    assert domain.backup_xml() == theirs
    assert domain.checkpoints() == ["ck1"]
    job = kit.run("virt_backup_info", domain=domain.name)["job"]
    assert job["whose"] == f"the pull job that serves at {path}"
    assert job["disks"] == [
        {
            "name": "vda",
            "level": "full",
            "incremental": "",
            "exportname": "vda",
            "exportbitmap": "",
            "path": f"{workdir}/scratch",
        }
    ]
    virsh("domjobabort", domain.name)


def test_our_own_job_with_other_disks_is_another_job(domain: LabDomain) -> None:
    kit.backup(domain, disks=[{"name": "vda"}])
    assert "another backup job active" in kit.refusal("virt_backup", domain=domain.name)
    only = [{"name": "vda", "incremental": "ck1", "backupmode": "incremental"}]
    assert "another backup job active" in kit.refusal("virt_backup", domain=domain.name, disks=only)
    kit.end(domain)


def test_foreign_checkpoints_are_no_obstacle_and_stay(domain: LabDomain) -> None:
    domain.make_checkpoint("theirs", "vda")
    domain.write("vda", 9 * MIB, KIB64)
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.dirty_map(job, "vda") == [(MIB, KIB64), (9 * MIB, KIB64)]
    kit.end(domain)
    kit.run("virt_checkpoint", domain=domain.name, name="ck1", state="absent")
    assert domain.checkpoints() == ["theirs", "ck2"]
    assert domain.dirty_bytes("theirs", "vda") == KIB64


def test_a_checkpoint_that_another_tool_makes_in_between_is_not_ours_to_delete(
    domain: LabDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = _libvirt.DomainHandle.begin_backup

    def late(self: _libvirt.DomainHandle, *arguments: object, **options: object) -> None:
        domain.make_checkpoint("ck2", "vda")
        begin(self, *arguments, **options)

    monkeypatch.setattr(_libvirt.DomainHandle, "begin_backup", late)
    sentence = kit.refusal("virt_backup", domain=domain.name, checkpoint={"name": "ck2"})
    assert "libvirt error 9: " in sentence
    assert kit.nothing_left(domain, "ck1", "ck2")


# changed disks


def test_a_disk_that_grew_is_incremental_with_its_new_size(domain: LabDomain) -> None:
    domain.resize("vda", 96 * MIB)
    domain.write("vda", 80 * MIB, KIB64)
    frozen = domain.frozen_copy("vda")
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": incremental("ck1")}
    assert kit.disk_of(job, "vda")["virtual_size"] == 96 * MIB
    assert kit.dirty_map(job, "vda") == [(MIB, KIB64), (80 * MIB, KIB64)]
    assert kit.export_equals(job, "vda", frozen)
    kit.end(domain)


def test_a_detached_disk_does_not_keep_its_checkpoint_alive(domain: LabDomain) -> None:
    domain.detach("vdb")
    (vda, vdb) = kit.checkpoints_of(domain)["ck1"]["disks"]
    assert (vda["usable"], vdb["usable"], vdb["reason"]) == (True, False, GONE.format("vdb"))
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": incremental("ck1")}
    kit.end(domain)
    assert kit.run("virt_checkpoint", domain=domain.name, name="ck1", state="absent")["changed"]
    assert domain.checkpoints() == ["ck2"]
    assert bitmaps(domain, "vda") == {"ck2"}


def test_a_replaced_disk_under_the_same_target_is_full(domain: LabDomain) -> None:
    domain.detach("vdb")
    domain.attach(Disk("vdb", image=_other_image(domain)))
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": FULL}
    assert kit.reason(job, "vdb") == GONE.format("vdb")
    kit.end(domain)
    done = kit.run("virt_checkpoint", domain=domain.name, name="ck1", state="absent")
    assert done["warnings"] == ["The bitmap of checkpoint 'ck1' was gone already on: vdb."]
    assert domain.checkpoints() == ["ck2"]
    assert bitmaps(domain, "vda") == bitmaps(domain, "vdb") == {"ck2"}


def _other_image(domain: LabDomain) -> pathlib.Path:
    path = domain.folder / f"{uuid.uuid4().hex}.qcow2"
    call("qemu-img", "create", "-q", "-f", "qcow2", path, str(64 * MIB))
    return path


def bitmaps(domain: LabDomain, disk: str) -> set[str]:
    """Return the bitmaps that QEMU has for a disk now."""
    source = str(domain.live_source(disk))
    nodes = [node for node in kit.qmp(domain, "query-named-block-nodes") if node["file"] == source]
    return {bitmap["name"] for node in nodes for bitmap in node.get("dirty-bitmaps", [])}


def test_a_checkpoint_is_deleted_also_when_one_bitmap_is_gone(domain: LabDomain) -> None:
    kit.lose_bitmap(domain, "vdb", "ck1")
    options = {"domain": domain.name, "name": "ck1", "state": "absent"}
    assert kit.run("virt_checkpoint", check=True, **options)["changed"]
    assert domain.checkpoints() == ["ck1"]
    done = kit.run("virt_checkpoint", **options)
    assert done["warnings"] == ["The bitmap of checkpoint 'ck1' was gone already on: vdb."]
    assert domain.checkpoints() == []
    assert bitmaps(domain, "vda") == set()
    assert not kit.run("virt_checkpoint", **options)["changed"]


def test_a_checkpoint_in_the_middle_is_repaired_without_harm_to_its_children(domain: LabDomain) -> None:
    kit.taken(domain, "ck2", incremental="ck1")
    kit.taken(domain, "ck3", incremental="ck2")
    kit.lose_bitmap(domain, "vdb", "ck2")
    done = kit.run("virt_checkpoint", domain=domain.name, name="ck2", state="absent")
    assert done["changed"]
    assert domain.checkpoints() == ["ck1", "ck3"]
    assert bitmaps(domain, "vda") == bitmaps(domain, "vdb") == {"ck1", "ck3"}
    assert all(disk["usable"] for disk in kit.checkpoints_of(domain)["ck3"]["disks"])


def test_a_checkpoint_is_deleted_when_all_its_bitmaps_are_gone(domain: LabDomain) -> None:
    for disk in ("vda", "vdb"):
        kit.lose_bitmap(domain, disk, "ck1")
    done = kit.run("virt_checkpoint", domain=domain.name, name="ck1", state="absent")
    assert done["warnings"] == ["The bitmap of checkpoint 'ck1' was gone already on: vda, vdb."]
    assert domain.checkpoints() == []


def test_children_go_with_it_the_broken_ones_too(domain: LabDomain) -> None:
    kit.taken(domain, "ck2", incremental="ck1")
    kit.taken(domain, "ck3", incremental="ck2")
    kit.lose_bitmap(domain, "vda", "ck3")
    kit.run("virt_checkpoint", domain=domain.name, name="ck2", state="absent", children=True)
    assert domain.checkpoints() == ["ck1"]
    assert bitmaps(domain, "vda") == bitmaps(domain, "vdb") == {"ck1"}


def test_a_live_external_snapshot_keeps_increments(domain: LabDomain) -> None:
    snapshot = ["--disk-only", "--no-metadata", "--diskspec", f"vda,file={domain.folder}/overlay.qcow2"]
    virsh("snapshot-create-as", domain.name, "s1", *snapshot, "--diskspec", "vdb,snapshot=no")
    domain.write("vda", 7 * MIB, KIB64)
    frozen = domain.frozen_copy("vda")
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": incremental("ck1")}
    assert kit.dirty_map(job, "vda") == [(MIB, KIB64), (7 * MIB, KIB64)]
    assert kit.export_equals(job, "vda", frozen)
    kit.end(domain)


# scratch files


def test_a_scratch_file_that_a_power_loss_left_is_removed_and_reported(domain: LabDomain) -> None:
    stale = kit.SCRATCH / f"virt-backup-{domain.uuid}-vda.qcow2"
    stale.write_text("left behind", encoding="utf-8")
    foreseen = kit.backup(domain, check=True)
    assert foreseen["leftovers"] == [str(stale)]
    assert stale.read_text(encoding="utf-8") == "left behind"
    assert kit.backup(domain)["leftovers"] == [str(stale)]
    assert image_info(stale)["format"] == "qcow2"
    kit.end(domain)
    assert kit.nothing_left(domain, "ck1")


def test_a_foreign_file_at_a_given_scratch_path_is_refused_and_kept(domain: LabDomain, workdir: pathlib.Path) -> None:
    theirs = workdir / "scratch.qcow2"
    theirs.write_text("precious", encoding="utf-8")
    options = {"domain": domain.name, "disks": [{"name": "vda", "scratch": str(theirs)}], "checkpoint": {"name": "ck2"}}
    sentence = kit.refusal("virt_backup", **options)
    assert sentence.startswith(f"disks[0].scratch: '{theirs}' exists already")
    assert theirs.read_text(encoding="utf-8") == "precious"
    assert kit.nothing_left(domain, "ck1")


def test_scratch_in_a_folder_closed_to_qemu_is_one_sentence_and_leaves_nothing(
    domain: LabDomain, workdir: pathlib.Path
) -> None:
    closed = workdir / "closed"
    closed.mkdir(mode=0o700)
    sentence = kit.refusal("virt_backup", domain=domain.name, scratch_dir=str(closed), checkpoint={"name": "ck2"})
    assert sentence.startswith(f"scratch_dir: '{closed}' cannot be entered")
    assert "QEMU runs as" in sentence
    assert list(closed.iterdir()) == []
    assert kit.nothing_left(domain, "ck1")


def test_images_are_as_the_domain_left_them(domain: LabDomain) -> None:
    frozen = domain.frozen_copy("vda")
    kit.taken(domain, "ck2", incremental="ck1")
    for name in ("ck1", "ck2"):
        kit.run("virt_checkpoint", domain=domain.name, name=name, state="absent")
    domain.destroy()
    call("qemu-img", "check", domain.disks["vda"].image)
    assert "bitmaps" not in image_info(domain.disks["vda"].image)["format-specific"]["data"]
    assert same_content(domain.disks["vda"].image, frozen) == ""
