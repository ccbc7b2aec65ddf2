# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ``backup`` when something goes wrong: the first error, no trace, and the next run as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import pathlib
import typing as t

import pytest
from integration import playbook
from integration.protection import INCREMENTAL, Protection
from integration.virt_kit import SCRATCH, SOCKETS
from lab.disks import MIB, Disk
from lab.domains import Domains
from lab.tools import call, same_content, virsh
from lab.wait import until


@contextlib.contextmanager
def small_file_system(folder: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Mount a file system on which one full backup has room."""
    folder.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=6M", "tmpfs", folder)
    try:
        yield folder
    finally:
        call("umount", folder)


def unit(protection: Protection, **variables: t.Any) -> playbook.Data:
    """Return the variables of the inventory host that stands for a domain."""
    place = {"backup_domain": protection.domain.name, "backup_repository": str(protection.repository)}
    return {**place, **variables}


def nothing_of_a_run(protection: Protection) -> bool:
    """Whether there is no job, no lock, no staging, and no checkpoint but the last restore point's."""
    look = protection.look()
    assert (look["lock"], look["stagings"]) == (None, [])
    assert protection.domain.checkpoints() == [look["latest"]["checkpoint"]]
    assert not protection.domain.has_job()
    return True


@pytest.mark.timeout(900)
def test_each_domain_fails_or_recovers_for_itself(domains: Domains, workdir: pathlib.Path) -> None:
    with small_file_system(workdir / "small") as small:
        made = {}
        for name in ("full", "off", "unknown", "dead", "forgotten"):
            domain = domains(Disk("vda", size=12 * MIB))
            domain.write("vda", 0, MIB, pattern=0x01)
            made[name] = Protection(domain, small if name == "full" else workdir / name)
            made[name].backup()
            domain.write("vda", 0, 8 * MIB, pattern=0x02)
        until_dead(made["dead"])
        forgotten = made["forgotten"]
        virsh("checkpoint-delete", forgotten.domain.name, forgotten.points[0].checkpoint, "--metadata")
        truth = {name: made[name].domain.frozen_copy("vda") for name in ("full", "dead", "forgotten")}
        made["off"].domain.destroy()

        hosts = {name: unit(protection) for name, protection in made.items()}
        hosts["unknown"]["backup_include_disks"] = ["vdz"]
        ended = playbook.play(workdir, **hosts)
        assert {name: end.failed for name, end in ended.items()} == {
            "full": True,
            "off": True,
            "unknown": True,
            "dead": False,
            "forgotten": False,
        }
        assert "No space left on device" in ended["full"].result["reason"]
        assert f"Domain {made['off'].domain.name} is off (shutoff)" in ended["off"].result["reason"]
        assert "the domain has no disk 'vdz'" in ended["unknown"].result["reason"]
        for name in ("full", "off", "unknown"):
            assert not ended[name].result["protected"]
        for name in ("full", "dead", "forgotten"):
            assert nothing_of_a_run(made[name])
        assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []

        call("mount", "-o", "remount,size=32M", small)
        ended["full"] = playbook.play(workdir, full=hosts["full"])["full"]
        for name, frozen in truth.items():
            assert ended[name].levels == {"vda": INCREMENTAL}, name
            assert ended[name].result["disks"][0]["parent"] == made[name].points[0].id
            assert same_content(pathlib.Path(ended[name].result["path"]) / "vda.qcow2", frozen) == "", name


def until_dead(protection: Protection) -> None:
    """Leave a job, a checkpoint, a staging and a lock whose lease has ended."""
    protection.start(protection.stage(lease=1))
    until("the lease has ended", lambda: protection.look()["lock"]["expired"])


STEAL = """
import json, pathlib, sys
lock = pathlib.Path(sys.argv[1])
if lock.exists():
    content = json.loads(lock.read_text())
    content.update(token="0" * 32, run="the successor", id="20990101T000000Z-0000")
    lock.write_text(json.dumps(content))
print(sys.argv[2], end="")
"""
# A variable that is looked up in the task before the confirmation which has to notice the loss, with the value it should
# have, and whether images were copied by then.
LOSSES = {
    "before-the-begin": ("backup_uri", "qemu:///system", False),
    "before-the-copy": ("backup_scratch_min_free", "10%", False),
    "before-the-end": ("backup_timeout", "60", True),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_that_lost_its_lock_changes_nothing_of_its_successors(
    domains: Domains, workdir: pathlib.Path, loss: str
) -> None:
    variable, value, copied = LOSSES[loss]
    domain = domains(Disk("vda", size=8 * MIB))
    protection = Protection(domain, workdir / "repository")
    protection.backup()
    before = domain.checkpoints()
    domain.write("vda", 0, MIB, pattern=0x07)
    lock, thief = protection.repository / domain.uuid / "lock", workdir / "steal.py"
    thief.write_text(STEAL, encoding="utf-8")
    stolen = f"{{{{ lookup('ansible.builtin.pipe', 'python3 {thief} {lock} {value}') }}}}"
    ended = playbook.play(workdir, hv=unit(protection, **{variable: stolen}))["hv"]

    assert ended.failed
    assert ended.result["reason"].startswith("token: this run lost the lock of the domain to the run 'the successor'")
    assert not ended.result["protected"]
    assert not domain.has_job()
    assert domain.checkpoints() == before
    assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []
    assert json.loads(lock.read_text(encoding="utf-8"))["run"] == "the successor"
    look = protection.look()
    assert [point["id"] for point in look["restore_points"]] == [protection.points[0].id]
    staging = pathlib.Path(look["stagings"][0]["path"])
    assert bool([*staging.glob("*.qcow2")]) == copied

    protection.break_lock()
    assert playbook.play_one(workdir, **unit(protection)).levels == {"vda": INCREMENTAL}
    assert nothing_of_a_run(protection)
