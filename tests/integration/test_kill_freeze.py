# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cells of the kill matrix that need a guest: around the freeze (step 6) and around the thaw (step 8).

Whoever dies, the guest thaws by itself, and the next run is right. ``make faults`` runs every cell; otherwise a sample
comes to both sides of both steps, from the seed that ``VIRT_BACKUP_SEED`` sets.
"""

from __future__ import annotations

import os
import pathlib
import random
import typing as t
import uuid

import pytest
from integration import virt_kit as kit
from integration.kill_kit import FREEZE_CELLS, FREEZE_STEPS, SEED, VICTIMS, Cell, DyingRun
from integration.protection import FULL, INCREMENTAL, Protection
from integration.virt_kit import SCRATCH, SOCKETS
from lab.disks import MIB, Disk
from lab.guest import Guest
from lab.tools import virsh
from lab.wait import until

THAWED_WITHIN = 30
"""Seconds from a death to the thaw. The watchdog acts as soon as its owner has gone or says so; libvirtd may have to
start first."""


def chosen() -> t.Sequence[Cell]:
    if os.environ.get("VIRT_BACKUP_FAULTS") == "all":
        return FREEZE_CELLS
    dice = random.Random(SEED)
    sides = [(step, when) for step in FREEZE_STEPS for when in ("before", "after")]
    return [Cell(step, when, victim) for (step, when), victim in zip(sides, dice.sample(VICTIMS, len(sides)))]


class FrozenGuest(Guest):
    """A guest that writes to ``vdb``, which can be frozen; ``vda`` is written to from outside and is backed up."""

    def __init__(self) -> None:
        super().__init__(f"guest-{uuid.uuid4().hex[:8]}", Disk("vda", size=8 * MIB), Disk("vdb", size=16 * MIB))

    def boot(self) -> None:
        """Start it, and mount what is to freeze."""
        self.start()
        self.wait_for_agent()
        self.make_filesystem("vdb", "/data")

    def frozen_copy(self, target: str, name: str = "") -> pathlib.Path:
        """Return a copy as of one moment; the guest stands still for it."""
        virsh("suspend", self.name)
        try:
            return super().frozen_copy(target, name)
        finally:
            virsh("resume", self.name)

    def file_systems(self) -> str:
        """Return what the agent says of the guest's file systems: ``frozen`` or ``thawed``."""
        return str(self.agent("guest-fsfreeze-status")["return"])


@pytest.fixture(scope="module")
def running() -> t.Iterator[FrozenGuest]:
    """Return one running guest for all cells."""
    with FrozenGuest() as guest:
        guest.define()
        guest.boot()
        yield guest


@pytest.fixture
def protection(running: FrozenGuest, workdir: pathlib.Path) -> t.Iterator[Protection]:
    """Return the protection of its disk vda, begun with a full backup, and forget it afterwards."""
    protection = Protection(running, workdir / "repository")
    protection.excluded, protection.beginning = ("vdb",), {"quiesce": "require"}
    running.write("vda", 0, 2 * MIB, pattern=0xA0)
    protection.backup()
    yield protection
    for name in running.checkpoints():
        kit.run("virt_checkpoint", domain=running.name, name=name, state="absent")


@pytest.mark.parametrize("cell", chosen(), ids=lambda cell: cell.id)
def test_the_guest_thaws_and_the_next_run_is_right(running: FrozenGuest, protection: Protection, cell: Cell) -> None:
    guest = running
    guest.write("vda", MIB, 2 * MIB, pattern=0x01)
    run = DyingRun(protection, cell)
    run.go()
    assert run.reached, f"the step never came: {run.said}"

    if cell.victim == "qemu":
        guest.boot()
    guest.wait_for_agent(THAWED_WITHIN)
    until("the guest is thawed", lambda: guest.file_systems() == "thawed", THAWED_WITHIN)
    guest.sh("echo still writable > /data/after && sync", seconds=20)
    assert guest.state == "running"
    run.adopt()
    protection.check_all()

    guest.write("vda", 2 * MIB, 3 * MIB, pattern=0x02)
    until("no live run holds the lock", lambda: (protection.look()["lock"] or {"expired": True})["expired"])
    point = protection.backup()
    assert point.levels == {"vda": FULL if cell.victim == "qemu" else INCREMENTAL}
    protection.check_all()
    look = protection.look()
    assert (look["lock"], look["stagings"], look["problems"]) == (None, [], [])
    assert guest.checkpoints() == [point.checkpoint]
    assert not guest.has_job()
    assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []
