# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill the module, the playbook, QEMU or libvirtd before and after each step, and let the next run be right.

``make faults`` runs every cell; otherwise a sample that is another one in each run, from a seed that
``VIRT_BACKUP_SEED`` sets. A cell is the same whenever it runs: its name is all that is needed to repeat it.
"""

from __future__ import annotations

import os
import pathlib
import random
import typing as t

import pytest
from integration.kill_kit import CELLS, SEED, STEPS, VICTIMS, Cell, DyingRun
from integration.protection import FULL, INCREMENTAL, Protection
from integration.virt_kit import SCRATCH, SOCKETS
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.wait import until

SAMPLE = 16


def chosen() -> t.Sequence[Cell]:
    if os.environ.get("VIRT_BACKUP_FAULTS") == "all":
        return CELLS
    return sample(random.Random(SEED))


def sample(dice: random.Random) -> list[Cell]:
    """Draw cells so that each step and each victim comes at least once: a step that is never reached shows at once."""
    victims = [*VICTIMS, *dice.choices(VICTIMS, k=SAMPLE - len(VICTIMS))]
    steps = [*STEPS, *dice.choices(STEPS, k=SAMPLE - len(STEPS))]
    dice.shuffle(victims)
    drawn = {Cell(step, dice.choice(("before", "after")), victim) for step, victim in zip(steps, victims)}
    return sorted(drawn, key=lambda cell: cell.id)


@pytest.fixture
def domain(domains: Domains) -> t.Iterator[LabDomain]:
    """Return a domain with a checkpoint of somebody else that stays as it is."""
    domain = domains(Disk("vda", size=8 * MIB))
    domain.make_checkpoint("foreign", "vda")
    domain.write("vda", 0, 2 * MIB, pattern=0xA0)
    yield domain
    assert "foreign" in domain.checkpoints()


@pytest.fixture
def protection(domain: LabDomain, workdir: pathlib.Path) -> Protection:
    """Return its protection, begun with a full backup."""
    protection = Protection(domain, workdir / "repository")
    protection.backup()
    return protection


@pytest.mark.parametrize("cell", chosen(), ids=lambda cell: cell.id)
def test_the_next_run_is_right_whoever_dies(domain: LabDomain, protection: Protection, cell: Cell) -> None:
    domain.write("vda", MIB, 2 * MIB, pattern=0x01)
    run = DyingRun(protection, cell)
    run.go()
    assert run.reached, f"the step never came: {run.said}"

    if cell.victim == "qemu":
        domain.start()
    assert domain.state == "paused"
    run.adopt()
    protection.check_all()

    domain.write("vda", 2 * MIB, 3 * MIB, pattern=0x02)
    until("no live run holds the lock", lambda: (protection.look()["lock"] or {"expired": True})["expired"])
    point = protection.backup()
    assert point.levels == {"vda": FULL if cell.victim == "qemu" else INCREMENTAL}
    protection.check_all()
    look = protection.look()
    assert (look["lock"], look["stagings"], look["problems"]) == (None, [], [])
    assert domain.checkpoints() == ["foreign", point.checkpoint]
    assert not domain.has_job()
    assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []
