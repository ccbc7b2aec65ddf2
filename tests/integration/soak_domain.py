# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain of the long run: its disks come, go, grow and shrink, its power fails, and it is backed up all the while.

What its disks hold is known twice: from what we wrote, and from copies that are taken beside libvirt in the frozen
moment. A backup is right when both are what ``qemu-img`` reads from the restore point, and when no disk was copied in
full without a reason that we know of.
"""

from __future__ import annotations

import pathlib
import random
import signal
import typing as t

from integration import virt_kit as kit
from integration.protection import FULL, Point, Protection, Run
from integration.soak_disk import SoakDisk, any_change, any_size
from integration.virt_kit import SCRATCH, SOCKETS, Result
from lab import services
from lab.disks import MIB, Attached
from lab.domains import LabDomain
from lab.tools import call
from lab.wait import until

TARGETS = ("vda", "vdb", "vdc", "vdd")
MOST_DISKS = 3
MOST_INCREMENTS = 6
FORMATS = ("qcow2", "qcow2", "qcow2", "raw")

Log = t.Callable[[str], None]


class SoakDomain:
    """A paused domain, its disks by target, those on the shelf, and its restore points."""

    def __init__(self, domain: LabDomain, repository: pathlib.Path, log: Log, dice: random.Random) -> None:
        """Define and start it with one disk."""
        self.lab, self.log = domain, log
        self.disks: dict[str, SoakDisk] = {}
        self.shelf: list[SoakDisk] = []
        self._made = 0
        first = self._new_disk("vda", any_size(dice, 8 * MIB), "qcow2")
        self.disks["vda"] = first
        self.lab.disks["vda"] = Attached(first.disk, self.lab.folder)
        self.lab.define()
        self.lab.start()
        self.protection = Protection(domain, repository)

    def _new_disk(self, target: str, size: int, form: str) -> SoakDisk:
        self._made += 1
        self.log(f"new disk {target}, {form}, {size} bytes")
        return SoakDisk.new(self.lab.folder / f"disk-{self._made}.{form}", target, size, form)

    # what happens to a domain

    def write(self, dice: random.Random, most: int = 4) -> None:
        """Change each disk a few times."""
        in_a_job = self.lab.has_job()
        for target, disk in self.disks.items():
            for _any in range(dice.randrange(most)):
                change = any_change(disk.size, dice, in_a_job=in_a_job)
                self.log(f"{target}: {change}")
                disk.change(self.lab, change)

    def plug(self, dice: random.Random) -> None:
        """Hot-plug a new disk, or one from the shelf, to which somebody may have written there."""
        free = [target for target in TARGETS if target not in self.disks]
        if len(self.disks) == MOST_DISKS:
            return
        if self.shelf and dice.random() < 0.6:
            disk = self.shelf.pop(dice.randrange(len(self.shelf)))
            for _any in range(dice.randrange(3)):
                change = any_change(disk.size, dice)
                self.log(f"on the shelf: {change}")
                disk.change_on_the_shelf(change)
            if disk.disk.target not in free or dice.random() < 0.3:
                disk.at(dice.choice(free))
            disk.excused = "was away"
        else:
            disk = self._new_disk(dice.choice(free), any_size(dice), dice.choice(FORMATS))
        self.log(f"plug {disk.image.name} as {disk.disk.target}")
        self.lab.attach(disk.disk)
        self.disks[disk.disk.target] = disk

    def unplug(self, dice: random.Random) -> None:
        """Detach a disk, and put it on the shelf."""
        if len(self.disks) > 1:
            target = dice.choice([target for target in self.disks if target != "vda"])
            self.log(f"unplug {target}")
            self.lab.detach(target)
            self.shelf.append(self.disks.pop(target))
            del self.shelf[:-2]

    def grow(self, dice: random.Random) -> None:
        """Make a disk larger while the domain has it; QEMU refuses that where a bitmap is spoilt."""
        disk = self.disks[dice.choice(list(self.disks))]
        size = min(disk.size + dice.randrange(1, 2048) * 512, 12 * MIB)
        if not disk.spoilt and size > disk.size:
            self.log(f"grow {disk.disk.target} to {size}")
            self.lab.resize(disk.disk.target, size)
            disk.resize(size)

    def shrink(self, dice: random.Random) -> None:
        """Make a disk smaller while the domain is off."""
        disk = self.disks[dice.choice(list(self.disks))]
        size = max(disk.size - dice.randrange(1, 2048) * 512, MIB)
        if not disk.spoilt and size < disk.size:
            self.log(f"shrink {disk.disk.target} to {size}")
            self.lab.destroy()
            call("qemu-img", "resize", "-q", "--shrink", "-f", disk.disk.format, disk.image, str(size))
            self.lab.start()
            disk.resize(size)

    def cycle(self, _dice: random.Random) -> None:
        """Stop it in order, and start it again."""
        self.log("power cycle")
        self.lab.power_cycle()

    def crash(self, _dice: random.Random) -> None:
        """Kill its QEMU, and start it again."""
        self.log("QEMU is killed")
        self.lab.kill()
        self.lab.start()
        self.spoil()

    def spoil(self) -> None:
        """Remember that QEMU was killed: every bitmap is spoilt until the next backup."""
        for disk in self.disks.values():
            disk.spoilt, disk.excused = True, "QEMU was killed"

    def restart_daemon(self, dice: random.Random) -> None:
        """Restart libvirtd."""
        how = dice.choice((signal.SIGTERM, signal.SIGKILL))
        self.log(f"libvirtd restarts after {how.name}")
        services.restart("libvirtd", how)

    # backups

    def stage(self, **policy: t.Any) -> Run:
        """Begin a run, and copy what the disks hold in its moment; that has to be what was written to them."""
        run = self.protection.stage(full_every_increments=MOST_INCREMENTS, **policy)
        names = [disk["name"] for disk in run.plan["disks"]]
        run.truth = {name: self.lab.frozen_copy(name, run.plan["id"]) for name in names}
        for name, copy in run.truth.items():
            wrong = self.disks[name].differs(copy)
            assert not wrong, f"{name} does not hold what was written to it: {wrong}"
        return run

    def backup(self, dice: random.Random) -> Point:
        """Make a restore point, with writes, a new disk, or a restart of libvirtd in the middle of it."""
        full = dice.random() < 0.1
        others = [name for name in self.disks if name != "vda"]
        left_out = [dice.choice(others)] if others and dice.random() < 0.15 else []
        compression = dice.choice(("none", "none", "zstd"))
        self.log(f"backup, full={full}, without {left_out}, compression {compression}")
        run = self.stage(full=full, exclude=left_out)
        self.protection.begin(run)
        self.write(dice, 3)
        if dice.random() < 0.1:
            self.plug(dice)
        restart = dice.random() < 0.15
        # Slow enough for the restart to come into the copy.
        options: Result = {"rate_limit": 2 * MIB} if restart else {}
        restarts = [restart]
        self.protection.copy(
            run, meanwhile=lambda: self._restart_once(restarts, dice), compression=compression, **options
        )
        self.write(dice, 2)
        self.protection.stop()
        point = self.protection.publish(run)
        point.check()
        self.published(point, full=full)
        return point

    def _restart_once(self, wanted: list[bool], dice: random.Random) -> None:
        if wanted.pop() if wanted else False:
            self.restart_daemon(dice)

    def published(self, point: Point, *, full: bool = False) -> None:
        """Check the levels, and remember that the disks have a base now."""
        levels = {name: level[0] for name, level in point.levels.items()}
        self.log(f"{point.id}: " + " ".join(f"{name}={level}" for name, level in levels.items()))
        for name, level in point.levels.items():
            disk = self.disks[name]
            because = full or disk.excused or not disk.has_bitmaps or disk.increments >= MOST_INCREMENTS
            assert level != FULL or because, f"{name} is full: {point.reason(name)}"
            disk.increments = 0 if level == FULL else disk.increments + 1
            disk.spoilt, disk.excused = False, ""

    def wait_for_the_lock(self) -> None:
        """Return when no run that may be alive holds the lock."""
        until("the lease has ended", lambda: (self.protection.look()["lock"] or {"expired": True})["expired"])

    def nothing_left(self) -> None:
        """Assert that nothing is there but restore points and what their next increments start from."""
        look = self.protection.look()
        assert (look["lock"], look["stagings"], look["problems"]) == (None, [], [])
        assert not self.lab.has_job()
        assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []
        strangers = set(self.lab.checkpoints()) - {point.checkpoint for point in self.protection.points}
        assert not strangers, f"checkpoints of no restore point: {sorted(strangers)}"
        assert self.lab.state == "paused"

    # what becomes of restore points

    def verify(self, _dice: random.Random) -> None:
        """Let the collection verify all of them."""
        self.log("verify")
        place = {"repository": str(self.protection.repository), "domain_uuid": self.lab.uuid}
        kit.run("restore_point_verify", content=True, **place)

    def expire(self, _dice: random.Random) -> None:
        """Remove what the newest image of no disk needs, children first; what others build on is refused before."""
        points = self.protection.points
        needed = self._needed()
        for point in [point for point in points if self._parents() & {point.id}][:1]:
            sentence = kit.refusal("restore_point", **self._removal(point))
            assert "build on it" in sentence
        for point in reversed([point for point in points if point.id not in needed]):
            self.remove(point)

    def drop_newest(self, _dice: random.Random) -> None:
        """Remove the newest restore point with its checkpoint, as somebody who has no use for it."""
        if len(self.protection.points) > 1:
            newest = self.protection.points[-1]
            self.remove(newest)
            kit.run("virt_checkpoint", domain=self.lab.name, name=newest.checkpoint, state="absent")
            for disk in self.disks.values():
                disk.excused = "its newest image was removed"

    def remove(self, point: Point) -> None:
        """Remove a restore point, which had to be right to its last day."""
        point.check()
        self.log(f"remove {point.id}")
        kit.run("restore_point", **self._removal(point))
        assert not point.path.exists()
        self.protection.points.remove(point)

    def _removal(self, point: Point) -> Result:
        place = {"repository": str(self.protection.repository), "domain_uuid": self.lab.uuid}
        return {**place, "id": point.id, "state": "absent"}

    def _parents(self) -> set[str]:
        return {disk["parent"] for point in self.protection.points for disk in point.manifest["disks"]} - {""}

    def _needed(self) -> set[str]:
        """Return the ids of the newest image of each disk, and of whatever these restore points build on."""
        parents = {point.id: {disk["parent"] for disk in point.manifest["disks"]} for point in self.protection.points}
        found = {name: point.id for point in self.protection.points for name in point.levels}
        needed, more = set[str](), set(found.values())
        while more:
            needed |= more
            more = set[str]().union(*(parents[identifier] for identifier in more)) - needed - {""}
        return needed
