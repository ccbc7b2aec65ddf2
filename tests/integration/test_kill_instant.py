# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Something dies in the middle of an instant restore: the same play finishes it, and no write of the guest is lost.

``make faults`` runs every cell; otherwise one, from the seed that ``VIRT_BACKUP_SEED`` sets.
"""

from __future__ import annotations

import os
import pathlib
import random
import signal
import typing as t

import pytest
from integration import instant_kit as kit
from integration.controller import Controller, Sshd
from integration.kill_kit import SEED
from integration.protection import Protection
from lab import services
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import content_hash, file_hash

STOPS = {
    "overlaid": "Overlay | Start the domain on them",
    "started": "Overlay | See how long it took, without the time of waiting for others",
    "copying": "",
    "moved": "Instant | Remove the overlays, which nothing is on any more",
    "cleared": "Instant | Serve the backup no longer",
}
"""The tasks before which something happens; a copy is caught while it runs."""

ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles/restore"
VICTIMS = ("playbook", "qemu", "libvirtd", "server")
SLOW = MIB
"""Bytes per second of a copy that a test wants to meet in the middle."""


class Cell(t.NamedTuple):
    """Who dies, and where."""

    stop: str
    victim: str

    @property
    def id(self) -> str:
        return f"{self.stop}-{self.victim}"

    @property
    def runs(self) -> bool:
        """Whether the domain runs by then."""
        return self.stop != "overlaid"


CELLS = tuple(Cell(stop, victim) for stop in STOPS for victim in VICTIMS if (stop, victim) != ("overlaid", "qemu"))


def chosen() -> t.Sequence[Cell]:
    return CELLS if os.environ.get("VIRT_BACKUP_FAULTS") == "all" else [random.Random(SEED).choice(CELLS)]


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    domain = domains(Disk("vda", size=8 * MIB), Disk("vdb", size=8 * MIB))
    for name in ("vda", "vdb"):
        domain.write(name, 0, 6 * MIB, pattern=0x11)
    return domain


@pytest.fixture
def sshd(workdir: pathlib.Path) -> t.Iterator[Sshd]:
    sshd = Sshd(workdir)
    sshd.start()
    yield sshd
    sshd.cut()


def test_every_stop_is_a_task_of_the_role() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROLE / "tasks").glob("*.yml")]
    names = [line.strip().removeprefix("- name: ") for text in texts for line in text.splitlines()]
    assert [name for name in STOPS.values() if name and name not in names] == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", chosen(), ids=lambda cell: cell.id)
def test_the_same_play_finishes_it_and_no_write_is_lost(
    domain: LabDomain, sshd: Sshd, workdir: pathlib.Path, cell: Cell
) -> None:
    protection = Protection(domain, workdir / "repository")
    protection.backup()
    restoration = kit.Restoration(protection, workdir, restore_state="paused", **sshd.reached())
    domain.write("vda", 0, 8 * MIB, pattern=0xEE)
    places = kit.sources(domain)
    domain.destroy()
    slowly = {"restore_rate_limit": SLOW} if cell.stop == "copying" else {}
    with restoration.begin(STOPS[cell.stop], **slowly) as play:
        if STOPS[cell.stop]:
            play.wait_until_reached()
        else:
            play.wait_until(lambda: kit.copies(domain))
        if cell.runs:
            domain.write("vda", 5 * MIB, 2 * MIB, pattern=0x33)
        strike(cell, play, restoration)
    assert restoration.repository_is_as_it_was()

    restoration.finish()
    assert domain.state == "paused"
    assert kit.sources(domain) == kit.sources(domain, "--inactive") == places
    domain.write("vdb", 7 * MIB, MIB, pattern=0x44)
    changed, result = restoration.finish()
    assert (changed, result["changed"]) == (0, False)
    assert restoration.repository_is_as_it_was()
    assert restoration.nothing_is_left()
    domain.destroy()
    written = {"vda": b"\x11" * 5 * MIB + b"\x33" * 2 * MIB + bytes(MIB), "vdb": b"\x11" * 6 * MIB + bytes(MIB)}
    written["vdb"] += b"\x44" * MIB
    if not cell.runs:
        written["vda"] = b"\x11" * 6 * MIB + bytes(2 * MIB)
    for name, content in written.items():
        (workdir / "expected").write_bytes(content)
        assert content_hash(places[name]) == file_hash(workdir / "expected"), name


def strike(cell: Cell, play: Controller, restoration: kit.Restoration) -> None:
    """Let the victim die; whatever is left of the play goes on to its end, good or bad."""
    if cell.victim == "playbook":
        play.kill()
        return
    if cell.victim == "qemu":
        restoration.domain.kill()
    elif cell.victim == "libvirtd":
        services.restart("libvirtd", signal.SIGKILL)
    else:
        kit.kill(restoration.server())
    if STOPS[cell.stop]:
        play.let_go()
    play.end()
