# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several at once: two runs for one domain, many domains, a removal during a backup."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest
from integration import playbook
from integration import virt_kit as kit
from integration.controller import Controller
from integration.protection import FULL, INCREMENTAL, Protection
from integration.virt_kit import Result
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import same_content

MANY = 20
HELD = (
    "holds the lock of this domain",
    "took this domain's lock a moment ago",
    "takes over this domain's expired lock",
)


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    domain = domains(Disk("vda", size=8 * MIB))
    domain.write("vda", 0, 2 * MIB, pattern=0xA0)
    return domain


@pytest.fixture
def protection(domain: LabDomain, workdir: pathlib.Path) -> Protection:
    return Protection(domain, workdir / "repository")


def at_once(works: t.Sequence[t.Callable[[], None]]) -> list[str]:
    """Do all of them at the same time, each in a child that waits for the others; return what each printed."""
    ready, go = os.pipe(), os.pipe()
    os.set_blocking(ready[0], True)

    def waiting(work: t.Callable[[], None]) -> t.Callable[[], None]:
        def wait_and_work() -> None:
            os.close(go[1])
            os.write(ready[1], b"!")
            os.read(go[0], 1)
            work()

        return wait_and_work

    children = [kit.start_child(waiting(work)) for work in works]
    for _child in children:
        os.read(ready[0], 1)
    os.close(go[1])
    printed = []
    for pid, reading in children:
        with open(reading, encoding="utf-8") as pipe:
            printed.append(pipe.read())
        os.waitpid(pid, 0)
    for descriptor in (*ready, go[0]):
        os.close(descriptor)
    return printed


def test_of_two_runs_at_once_one_works_and_the_other_says_why_not(domain: LabDomain, protection: Protection) -> None:
    for _turn in range(10):
        options = protection.staging_options(kit.run("virt_backup_info", domain=domain.name))
        works = [kit.work_of("restore_point", **{**options, "run": f"run {number}"}) for number in (1, 2)]
        results = [kit.result_in(said) for said in at_once(works)]
        won = [result for result in results if not result["failed"]]
        lost = [result for result in results if result["failed"]]
        assert (len(won), len(lost)) == (1, 1), results
        assert any(words in lost[0]["msg"] for words in HELD), lost[0]["msg"]
        look = protection.look()
        assert [staging["id"] for staging in look["stagings"]] == [won[0]["id"]]
        removal = {"id": won[0]["id"], "token": won[0]["token"], "state": "absent", "staging": True}
        kit.run("restore_point", repository=str(protection.repository), domain_uuid=domain.uuid, **removal)
        assert protection.look()["stagings"] == []


def test_of_two_playbooks_at_once_one_works_and_the_other_says_why_not(
    domain: LabDomain, protection: Protection, workdir: pathlib.Path
) -> None:
    protection.backup()
    domain.write("vda", MIB, 2 * MIB, pattern=0x01)
    truth = domain.frozen_copy("vda")
    unit = {"backup_domain": domain.name, "backup_repository": str(protection.repository)}
    with Controller(workdir / "first", "Copy | Copy all disks at the same time", hv=unit) as first:
        first.wait_until_reached()
        before = domain.backup_xml(), domain.checkpoints(), protection.look()["stagings"]
        second = playbook.play(workdir, hv=unit)["hv"]
        assert (domain.backup_xml(), domain.checkpoints(), protection.look()["stagings"]) == before
        first.let_go()
        ended = first.ended()["hv"]
    assert second.failed
    assert "the run 'hv' holds the lock of this domain" in second.result["reason"]
    assert (ended.failed, ended.levels) == (False, {"vda": INCREMENTAL}), ended.output
    assert same_content(pathlib.Path(ended.result["path"]) / "vda.qcow2", truth) == ""
    assert (protection.look()["lock"], protection.look()["stagings"]) == (None, [])


def test_twenty_domains_at_once_full_then_incremental(domains: Domains, workdir: pathlib.Path) -> None:
    guests = [domains(Disk("vda", size=4 * MIB)) for _number in range(MANY)]
    protections = [Protection(guest, workdir / "repository") for guest in guests]

    def backup(protection: Protection) -> t.Callable[[], None]:
        return lambda: print(json.dumps(protection.backup().levels))

    for turn, level in enumerate((FULL, INCREMENTAL)):
        for number, guest in enumerate(guests):
            guest.write("vda", turn * MIB, MIB, pattern=number + 1)
        said = at_once([backup(protection) for protection in protections])
        assert [json.loads(line) for line in said] == [{"vda": level}] * MANY
    for protection in protections:
        look = protection.look()
        assert [point["complete"] for point in look["restore_points"]] == [True, True]
        assert (look["lock"], look["stagings"], look["problems"]) == (None, [], [])


def test_a_removal_during_a_backup_takes_nothing_that_the_run_needs(domain: LabDomain, protection: Protection) -> None:
    protection.backup()
    old = protection.backup(full=True)
    domain.write("vda", MIB, 2 * MIB, pattern=0x02)
    refused: list[Result] = []
    place = {"repository": str(protection.repository), "domain_uuid": domain.uuid}

    def remove_both() -> None:
        if not refused:
            for point in protection.points:
                refused.append(kit.attempt("restore_point", **place, id=point.id, state="absent"))

    assert protection.backup(meanwhile=remove_both).levels == {"vda": INCREMENTAL}
    assert [result["failed"] for result in refused] == [True, True]
    assert "holds the lock of this domain" in refused[0]["msg"]
    assert f"{old.id} can't be removed" in refused[1]["msg"]
    protection.check_all()
    gone = protection.points.pop(0)
    assert kit.run("restore_point", **place, id=gone.id, state="absent")["removed"] == [str(gone.path)]
    protection.check_all()
