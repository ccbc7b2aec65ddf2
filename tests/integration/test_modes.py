# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files are 0600 and directories 0700 unless asked otherwise, whatever the umask: while a backup runs, and after it."""

from __future__ import annotations

import os
import pathlib
import stat
import typing as t

import pytest
from integration import virt_kit as kit
from integration.modes import open_to_others, umask
from integration.protection import Protection, Run
from lab.disks import KIB, MIB, Disk
from lab.domains import Domains, LabDomain

from ansible_collections.virt.backup.plugins.filter.job_disks import job_disks
from ansible_collections.virt.backup.plugins.filter.merge_disks import merge_disks

MASKS = pytest.mark.parametrize("mask", [0o000, 0o077], ids=["000", "077"])
NOBODY = 65534


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    return domains(Disk("vda", size=8 * MIB), Disk("vdb", size=8 * MIB, format="raw"))


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def begin(protection: Protection, run: Run) -> None:
    """Begin a job under a dead man's switch."""
    switch: dict[str, t.Any] = {"lease": 300, "signs_of_life": [run.plan["status_file"], run.plan["lock"]]}
    disks = job_disks(run.plan["disks"])
    run.job = kit.run("virt_backup", **protection.job, **switch, disks=disks, checkpoint={"name": run.checkpoint})


@MASKS
def test_a_backup_is_closed_to_others_all_the_time(domain: LabDomain, workdir: pathlib.Path, mask: int) -> None:
    with umask(mask):
        protection = Protection(domain, workdir / "repository")
        for _unused in range(2):
            domain.write("vda", 0, 64 * KIB, pattern=7)
            run = protection.stage()
            begin(protection, run)
            run.disks = merge_disks(run.plan["disks"], run.job["disks"])
            assert while_it_runs(protection) == {}
            protection.copy(run)
            assert pathlib.Path(run.plan["status_file"]).exists()
            assert open_to_others(protection.repository) == {}
            protection.stop()
            protection.publish(run)
            kit.run("restore_point_verify", repository=str(protection.repository), domain_uuid=domain.uuid)
        left = protection.stage()
    assert open_to_others(protection.repository) == {}
    names = {path.name for path in protection.repository.rglob("*")}
    assert {"verified.json", "SHA256SUMS", "vda.digests", "lock", "lock.guard", "by-name", "staging.json"} <= names
    protection.undo(left)


def while_it_runs(protection: Protection) -> dict[str, int]:
    """Return what of a running job others could open: QEMU's user has the scratch, and the socket lies in a closed place."""
    found = {}
    lease = pathlib.Path(f"{protection.socket}.lease")
    assert lease.exists()
    scratch = list(kit.SCRATCH.iterdir())
    assert len(scratch) == 2
    for path in (lease, *scratch):
        if mode_of(path) != 0o600:
            found[path.name] = mode_of(path)
    if mode_of(pathlib.Path(protection.socket)) & 0o007 and mode_of(kit.SOCKETS) & 0o007:
        found["socket"] = mode_of(pathlib.Path(protection.socket))
    return found


@MASKS
def test_a_repository_for_a_group(domain: LabDomain, workdir: pathlib.Path, mask: int) -> None:
    """Owner, group and mode are asked of the repository, once, and all in it follows."""
    with umask(mask):
        path = workdir / "repository"
        kit.run("backup_repository", path=str(path), owner=str(NOBODY), group=str(NOBODY), mode="0750")
        protection = Protection(domain, path)
        protection.backup()
        kit.run("restore_point_verify", repository=str(path), domain_uuid=domain.uuid)
    assert open_to_others(path, directories=0o750, files=0o640, owner=(NOBODY, NOBODY)) == {}


@MASKS
def test_images_of_any_mode(domain: LabDomain, workdir: pathlib.Path, mask: int) -> None:
    out = workdir / "out"
    out.mkdir(mode=0o700)
    job = kit.backup(domain, checkpoint={"name": "new"})
    status = str(out / "status.json")

    def extract(name: str, **options: t.Any) -> None:
        image = {"uri": job["disks"][0]["uri"], "dest": str(out / f"{name}.qcow2"), "source_id": "new"}
        kit.run("nbd_extract", images=[image], status_file=status, **options)

    with umask(mask):
        extract("plain")
        extract("open", mode="0644", owner=str(NOBODY), group=str(NOBODY))
    kit.end(domain)
    assert {path.name: mode_of(path) for path in out.iterdir() if not path.name.startswith("open")} == {
        **dict.fromkeys(("plain.qcow2", "plain.json", "plain.digests", "status.json"), 0o600)
    }
    assert {mode_of(path) for path in out.glob("open.*")} == {0o644}
    assert {os.stat(path).st_uid for path in out.glob("open.*")} == {NOBODY}
    kit.run("virt_checkpoint", domain=domain.name, name="new", state="absent")
