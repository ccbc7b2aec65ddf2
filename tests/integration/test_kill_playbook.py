# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole playbook goes, with the real role, its leases and SSH: the job ends by itself, and the next run is right.

``make faults`` runs every cell; otherwise two, from the seed that ``VIRT_BACKUP_SEED`` sets: one in which a job is
active, and any other.
"""

from __future__ import annotations

import os
import pathlib
import random
import typing as t

import pytest
from integration import playbook
from integration.controller import Controller, Sshd
from integration.kill_kit import SEED
from integration.protection import INCREMENTAL, Point, Protection
from integration.virt_kit import SCRATCH, SOCKETS
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import file_hash
from lab.wait import until

LEASE = 10
"""Seconds, of the job and of the lock. A task takes one or two over SSH, and each gives a sign of life."""

STOPS = {
    "staged": "Begin | Begin the job with its checkpoint",
    "begun": "Copy | Confirm the lock before anything is copied",
    "copying": "",
    "copied": "Copy | End the job",
    "stopped": "Publish | Write the small files and the manifest, and give the restore point its name",
    "published": "Retire | Remove checkpoints that no increment starts from any more",
}
"""The tasks before which something happens; a copy is caught when it has written its first file."""

WAYS = ("killed", "cut", "hung")
"""The controller with all its processes is killed; SSH is cut for the rest of the run; the controller hangs for longer
than the leases, and then goes on."""


class Cell(t.NamedTuple):
    """What happens, and where."""

    stop: str
    way: str

    @property
    def id(self) -> str:
        return f"{self.stop}-{self.way}"


CELLS = tuple(Cell(stop, way) for stop in STOPS for way in WAYS if (stop, way) != ("copying", "hung"))


def chosen() -> t.Sequence[Cell]:
    if os.environ.get("VIRT_BACKUP_FAULTS") == "all":
        return CELLS
    dice = random.Random(SEED)
    first = dice.choice([cell for cell in CELLS if cell.stop in ("begun", "copying", "copied") and cell.way != "hung"])
    return [first, dice.choice([cell for cell in CELLS if cell.way != first.way])]


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    domain = domains(Disk("vda", size=8 * MIB))
    domain.write("vda", 0, 2 * MIB, pattern=0xA0)
    return domain


@pytest.fixture
def protection(domain: LabDomain, workdir: pathlib.Path) -> Protection:
    """Return its protection, begun with a full backup."""
    protection = Protection(domain, workdir / "repository")
    protection.backup()
    return protection


@pytest.fixture
def sshd(workdir: pathlib.Path) -> t.Iterator[Sshd]:
    sshd = Sshd(workdir)
    sshd.start()
    yield sshd
    sshd.cut()


@pytest.mark.parametrize("cell", chosen(), ids=lambda cell: cell.id)
def test_the_job_ends_by_itself_and_the_next_run_is_right(
    domain: LabDomain, protection: Protection, sshd: Sshd, workdir: pathlib.Path, cell: Cell
) -> None:
    domain.write("vda", MIB, 4 * MIB, pattern=0x01)
    unit = {"backup_domain": domain.name, "backup_repository": str(protection.repository), **sshd.reached()}
    leases = {"backup_lease": LEASE, "backup_job_lease": LEASE}
    slowly = {"backup_rate_limit": MIB, "backup_connections": 1} if cell.stop == "copying" else {}
    truth = domain.frozen_copy("vda")
    with Controller(workdir / "controller", STOPS[cell.stop], hv={**unit, **leases, **slowly}) as controller:
        if STOPS[cell.stop]:
            controller.wait_until_reached()
        else:
            controller.wait_until(lambda: [*protection.repository.glob("*/*.staging/.vda*")])
        assert domain.has_job() == (cell.stop in ("begun", "copying", "copied"))
        happen(controller, sshd, cell, protection)
    adopt(protection, truth)
    protection.check_all()

    leases_end(protection)
    assert domain.state == "paused"
    domain.write("vda", 2 * MIB, 3 * MIB, pattern=0x02)
    truth = domain.frozen_copy("vda")
    assert playbook.play_one(workdir, **unit).levels == {"vda": INCREMENTAL}
    adopt(protection, truth)
    protection.check_all()
    look = protection.look()
    assert (look["lock"], look["stagings"], look["problems"]) == (None, [], [])
    assert domain.checkpoints() == [look["latest"]["checkpoint"]]
    assert not domain.has_job()
    assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []


def leases_end(protection: Protection) -> None:
    """Wait for what nobody is left to end: the job on the hypervisor, the lock in the repository."""
    until("the job has ended by itself", lambda: not protection.domain.has_job(), 3 * LEASE)
    until("no live run holds the lock", lambda: (protection.look()["lock"] or {"expired": True})["expired"], 3 * LEASE)


def happen(controller: Controller, sshd: Sshd, cell: Cell, protection: Protection) -> None:
    """Let it happen; return when the playbook is over and SSH works again."""
    if cell.way == "killed":
        controller.kill()
    elif cell.way == "cut":
        sshd.cut()
        if STOPS[cell.stop]:
            controller.let_go()
        assert "UNREACHABLE" in controller.end()
        sshd.start()
    else:
        leases_end(protection)
        controller.let_go()
        ended = controller.ended()["hv"]
        # A copy that had not begun has nothing left to read from; any other had what it needs.
        assert ended.failed == (cell.stop == "begun"), ended.output


def adopt(protection: Protection, truth: pathlib.Path) -> None:
    """Take what was published since among the restore points that have to stay right."""
    known = {point.id for point in protection.points}
    for entry in protection.look()["restore_points"]:
        if entry["id"] not in known:
            protection.points.append(Point(pathlib.Path(entry["path"]), entry, {"vda": file_hash(truth)}))
    truth.unlink()
