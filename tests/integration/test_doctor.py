# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What dead runs, crashes and lost metadata leave, on real libvirt: found, repaired once, and nothing foreign touched."""

from __future__ import annotations

import pathlib
import socket
import typing as t

import pytest
from integration import virt_kit as kit
from integration.protection import FULL, INCREMENTAL, Protection, Run
from integration.virt_kit import SCRATCH, SOCKETS, Result
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import virsh
from lab.wait import until


@pytest.fixture
def domain(domains: Domains) -> t.Iterator[LabDomain]:
    """Return a domain of two disks, with a checkpoint of somebody else that stays as it is."""
    domain = domains(Disk("vda", size=8 * MIB), Disk("vdb", size=8 * MIB))
    domain.make_checkpoint("foreign", "vda")
    yield domain
    assert "foreign" in domain.checkpoints()


@pytest.fixture
def protection(domain: LabDomain, workdir: pathlib.Path) -> Protection:
    """Return its protection, begun with a full backup."""
    protection = Protection(domain, workdir / "repository")
    domain.write("vda", 0, 1 * MIB, pattern=0x11)
    domain.write("vdb", 0, 1 * MIB, pattern=0x22)
    protection.backup()
    return protection


def doctor(protection: Protection, *, check: bool = False, **options: t.Any) -> Result:
    """Repair, or in check mode only say what would be."""
    place = {"domain": protection.domain.name, "repository": str(protection.repository)}
    return kit.run("virt_backup_doctor", check=check, **place, scratch_dir=str(SCRATCH), **options)


def kinds(result: Result, *, tried: bool = False) -> list[str]:
    """Return what was repaired; with ``tried`` also what was tried in vain, or can only be found out by trying."""
    return [repair["kind"] for repair in result["repairs"] if repair["repaired"] or tried]


def repaired(protection: Protection, *expected: str) -> Result:
    """Check, repair, check, repair: changed, changed, not, not; and the plan was what was done."""
    planned = doctor(protection, check=True)
    done = doctor(protection)
    foreseen = [kind for kind in expected if kind != "redefine_checkpoint"]
    assert (planned["changed"], done["changed"]) == (bool(foreseen), bool(expected))
    assert (kinds(planned), kinds(done)) == (foreseen, list(expected))
    for check in (True, False):
        again = doctor(protection, check=check)
        assert (again["changed"], kinds(again)) == (False, [])
    return done


def dead_run(protection: Protection, *, begun: bool = True) -> Run:
    """Let a run die in the middle: staged, its job begun, a first file copied."""
    run = protection.stage(lease=1)
    if begun:
        protection.begin(run)
        pathlib.Path(run.plan["staging"], ".vda.qcow2.part-0000").write_bytes(b"x")
    until("the lease has ended", lambda: protection.look()["lock"]["expired"])
    return run


def test_a_healthy_domain_is_left_as_it_is(protection: Protection) -> None:
    result = repaired(protection)
    assert (result["problems"], result["in_progress"]) == ([], "")


def test_all_of_a_dead_run_goes_and_the_next_is_incremental(protection: Protection) -> None:
    run = dead_run(protection)
    result = repaired(protection, "end_job", "remove_checkpoint", "remove_staging")
    assert [repair["subject"] for repair in result["repairs"]] == [protection.socket, run.checkpoint, run.plan["id"]]
    assert not protection.domain.has_job()
    assert protection.domain.checkpoints() == ["foreign", protection.points[-1].checkpoint]
    look = protection.look()
    assert (look["lock"], look["stagings"], look["problems"]) == (None, [], [])
    assert protection.backup().levels == {"vda": INCREMENTAL, "vdb": INCREMENTAL}


def test_a_server_whose_job_libvirt_has_lost_is_stopped(protection: Protection, domain: LabDomain) -> None:
    run = dead_run(protection, begun=False)
    # What a libvirtd leaves in QEMU that is killed while it ends a job, made by hand: the moment is hard to meet.
    node = next(node["node-name"] for node in kit.qmp(domain, "query-named-block-nodes") if node["drv"] == "qcow2")
    kit.qmp(domain, "nbd-server-start", addr={"type": "unix", "data": {"path": protection.socket}})
    kit.qmp(domain, "block-export-add", **{"type": "nbd", "id": f"libvirt-nbd-{node}", "node-name": node})
    assert not domain.has_job()
    result = repaired(protection, "stop_server", "remove_staging")
    assert [repair["subject"] for repair in result["repairs"]] == [protection.socket, run.plan["id"]]
    assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []
    domain.write("vda", 1 * MIB, 1 * MIB, pattern=0x55)
    assert protection.backup().levels == {"vda": INCREMENTAL, "vdb": INCREMENTAL}


def test_a_run_that_is_alive_is_left_alone(protection: Protection) -> None:
    run = protection.stage(lease=600)
    protection.begin(run)
    result = doctor(protection)
    assert (result["changed"], result["repairs"]) == (False, [])
    assert result["in_progress"].startswith(f"the tests, for {run.plan['id']} until ")
    assert protection.domain.has_job()
    protection.undo(run)


def test_a_foreign_job_is_left_alone_and_what_is_ours_goes(protection: Protection, domain: LabDomain) -> None:
    run = dead_run(protection, begun=False)
    server = {"transport": "unix", "socket": str(SOCKETS / "foreign.sock")}
    kit.backup(domain, server=server)
    result = doctor(protection)
    assert kinds(result) == ["remove_staging"]
    assert result["repairs"][0]["subject"] == run.plan["id"]
    assert domain.has_job()
    kit.end(domain, server=server)


def test_what_a_killed_qemu_leaves_is_removed_and_the_next_is_full(protection: Protection, domain: LabDomain) -> None:
    run = dead_run(protection)
    domain.kill()
    pathlib.Path(protection.socket).unlink(missing_ok=True)
    # What a host leaves that lost its power: libvirt had no time to remove its files.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(protection.socket)
    (SCRATCH / f"virt-backup-{domain.uuid}-vda.qcow2").write_bytes(b"old")
    while_off = doctor(protection)
    assert kinds(while_off) == ["remove_socket", "remove_scratch"]
    assert any("start the domain" in problem for problem in while_off["problems"])
    assert [entry["id"] for entry in protection.look()["stagings"]] == [run.plan["id"]]
    domain.start()
    repaired(protection, "remove_checkpoint", "remove_staging", "remove_bitmaps")
    assert domain.checkpoints() == ["foreign"]
    assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []
    assert protection.backup().levels == {"vda": FULL, "vdb": FULL}


def test_a_forgotten_checkpoint_comes_back(protection: Protection, domain: LabDomain) -> None:
    checkpoint = protection.points[-1].checkpoint
    virsh("checkpoint-delete", domain.name, checkpoint, "--metadata")
    assert domain.checkpoints() == ["foreign"]
    domain.write("vda", 1 * MIB, 1 * MIB, pattern=0x33)
    assert kinds(doctor(protection, check=True), tried=True) == ["redefine_checkpoint"]
    repaired(protection, "redefine_checkpoint")
    assert checkpoint in domain.checkpoints()
    assert protection.backup().levels == {"vda": INCREMENTAL, "vdb": INCREMENTAL}


def test_a_forgotten_checkpoint_comes_back_for_the_disks_that_kept_their_bitmap(
    protection: Protection, domain: LabDomain
) -> None:
    checkpoint = protection.points[-1].checkpoint
    kit.lose_bitmap(domain, "vda", checkpoint)
    virsh("checkpoint-delete", domain.name, checkpoint, "--metadata")
    repaired(protection, "redefine_checkpoint")
    found = kit.checkpoints_of(domain)[checkpoint]["disks"]
    assert {disk["name"]: disk["checkpoint"] for disk in found} == {"vda": "no", "vdb": "bitmap"}
    assert protection.backup().levels == {"vda": FULL, "vdb": INCREMENTAL}


def test_a_forgotten_checkpoint_without_bitmaps_is_told(protection: Protection, domain: LabDomain) -> None:
    virsh("checkpoint-delete", domain.name, protection.points[-1].checkpoint)
    result = doctor(protection)
    assert (result["changed"], kinds(result, tried=True)) == (False, ["redefine_checkpoint"])
    assert result["repairs"][0]["problem"] == "its bitmaps are gone, so the next backup of its disks is full"
    assert domain.checkpoints() == ["foreign"]


def test_a_lost_bitmap_leaves_the_checkpoint_to_the_other_disk(protection: Protection, domain: LabDomain) -> None:
    checkpoint = protection.points[-1].checkpoint
    kit.lose_bitmap(domain, "vda", checkpoint)
    domain.write("vdb", 2 * MIB, 1 * MIB, pattern=0x44)
    result = repaired(protection, "remove_bitmaps")
    assert result["repairs"][0]["disks"] == ["vda"]
    assert protection.backup().levels == {"vda": FULL, "vdb": INCREMENTAL}


def test_a_superseded_checkpoint_goes(protection: Protection, domain: LabDomain) -> None:
    old = protection.points[-1].checkpoint
    xml = virsh("checkpoint-dumpxml", domain.name, old, "--no-domain")
    # The bitmap is kept and the name forgotten for the time of a backup, as a run that died after its commit leaves it.
    virsh("checkpoint-delete", domain.name, old, "--metadata")
    protection.backup(exclude=[])
    kit.run("virt_checkpoint", domain=domain.name, name=old, redefine_xml=xml)
    result = repaired(protection, "remove_checkpoint")
    assert result["repairs"][0]["reason"] == "no increment can start from it any more"
    assert domain.checkpoints() == ["foreign", protection.points[-1].checkpoint]


def test_a_lost_image_is_told_and_not_touched(protection: Protection) -> None:
    image = protection.points[-1].tip("vda")
    image.rename(image.with_suffix(".away"))
    result = doctor(protection)
    assert not result["changed"]
    assert any("vda" in problem for problem in result["problems"])


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("timeout", 0, "timeout: 0 is not between 1 and 300; 60 suits most."),
        ("scratch_dir", "scratch", "scratch_dir: 'scratch'"),
        ("repository", "/nowhere", "repository: '/nowhere'"),
    ],
)
def test_wrong_parameters(domain: LabDomain, workdir: pathlib.Path, option: str, value: t.Any, sentence: str) -> None:
    kit.run("backup_repository", path=str(workdir / "repository"))
    options = {"domain": domain.name, "repository": str(workdir / "repository"), option: value}
    assert kit.refusal("virt_backup_doctor", **options).startswith(sentence)
