# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Something dies at a numbered step of a backup (docs/internals/crash-safety.md), and the next run has to be right.

Nobody waits by the clock. The function that is a step is wrapped in the process that will fork the module; the module's
process announces that it has come to the step and stands still until the killer has done its work. The modules
themselves know nothing of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import pathlib
import random
import select
import signal
import typing as t

from integration import virt_kit as kit
from integration.protection import Point, Protection, Run
from integration.virt_kit import Result
from lab import services
from lab.tools import file_hash

from ansible_collections.virt.backup.plugins.filter.job_disks import job_disks
from ansible_collections.virt.backup.plugins.filter.merge_disks import merge_disks

_UTILS = "ansible_collections.virt.backup.plugins.module_utils."
SEED = os.environ.get("VIRT_BACKUP_SEED") or os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(random.randrange(10**6))
"""What the samples are drawn from: the same for all workers of a run."""

PATIENCE = 60
"""Seconds after which a module that neither announced its step nor ended is a failure of the test."""


class Step(t.NamedTuple):
    """A numbered step, the part of the run it belongs to, and the function that is it."""

    number: int
    name: str
    phase: str
    module: str
    function: str


STEPS = (
    Step(3, "lock", "stage", "_store.lock", "acquire"),
    Step(4, "staging", "stage", "_run.restore_point_staged", "make_staging"),
    Step(7, "begin", "begin", "_libvirt", "DomainHandle.begin_backup"),
    Step(9, "copy", "copy", "_copy.transfer", "Transfer.run"),
    Step(10, "names", "copy", "_copy.publish", "FileDraft.publish"),
    Step(11, "end", "stop", "_libvirt", "DomainHandle.abort_job"),
    Step(12, "manifest", "publish", "_run.restore_point_present", "_write"),
    Step(13, "commit", "publish", "_run.restore_point_present", "commit"),
    Step(14, "release", "publish", "_store.lock", "release"),
    Step(15, "link", "publish", "_run.restore_point_present", "ensure_link"),
    Step(16, "retire", "retire", "_libvirt", "DomainHandle.delete_checkpoint"),
)
FREEZE_STEPS = (
    Step(6, "freeze", "begin", "_libvirt", "DomainHandle.freeze"),
    Step(8, "thaw", "begin", "_libvirt", "DomainHandle.thaw"),
)
"""The steps that only a guest which runs can come to."""

VICTIMS = ("module", "module-sigterm", "module-sighup", "playbook", "qemu", "libvirtd")


class Cell(t.NamedTuple):
    """One way to die: who, at which step, before or after it."""

    step: Step
    when: str
    victim: str

    @property
    def id(self) -> str:
        return f"{self.step.number}-{self.step.name}-{self.when}-{self.victim}"


def cells_of(steps: t.Sequence[Step]) -> tuple[Cell, ...]:
    """Return every way to die around these steps."""
    return tuple(Cell(step, when, victim) for step in steps for when in ("before", "after") for victim in VICTIMS)


CELLS, FREEZE_CELLS = cells_of(STEPS), cells_of(FREEZE_STEPS)


@dataclasses.dataclass
class Stage:
    """The two pipes over which a step is announced and let go on."""

    announced: tuple[int, int]
    let_go: tuple[int, int]

    def announce(self) -> None:
        """In the module's process: say that the step is reached, and stand still."""
        os.write(self.announced[1], b"!")
        os.read(self.let_go[0], 1)


@contextlib.contextmanager
def announcing(cell: Cell) -> t.Iterator[Stage]:
    """Wrap the step's function, for processes that are forked meanwhile; only its first call is announced."""
    owner: t.Any = importlib.import_module(_UTILS + cell.step.module)
    *classes, name = cell.step.function.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original, stage, calls = getattr(owner, name), Stage(os.pipe(), os.pipe()), []

    def wrapped(*args: t.Any, **kwargs: t.Any) -> t.Any:
        first = not calls
        calls.append(1)
        if first and cell.when == "before":
            stage.announce()
        result = original(*args, **kwargs)
        if first and cell.when == "after":
            stage.announce()
        return result

    setattr(owner, name, wrapped)
    try:
        yield stage
    finally:
        setattr(owner, name, original)
        for descriptor in (*stage.announced, *stage.let_go):
            os.close(descriptor)


class DyingRun:
    """A run of the role's steps, of which something dies in the middle; goes on as the role would."""

    def __init__(self, protection: Protection, cell: Cell) -> None:
        self.protection, self.cell = protection, cell
        self.run: Run | None = None
        self.reached = False
        self.dead = False
        self.said: Result = {}
        self._superseded: list[str] = []
        # Now, while the domain is there to be asked: nothing writes to its disks before the run is over.
        self._truth = {name: protection.domain.frozen_copy(name, "dying") for name in protection.protected}

    def go(self) -> None:
        """Take every step until the run is dead, has failed and was undone, or is through."""
        for phase in (self._stage, self._begin, self._copy, self._stop, self._publish, self._retire):
            self.said = result = phase()
            if self.dead:
                return
            if result["failed"]:
                self._undo()
                return

    # the phases, as the role composes them

    def _stage(self) -> Result:
        info = kit.run("virt_backup_info", domain=self.protection.domain.name)
        result = self._module("stage", "restore_point", **self.protection.staging_options(info, lease=1))
        if not self.dead and not result["failed"]:
            self.run = Run(info, result)
        return result

    @property
    def _running(self) -> Run:
        assert self.run is not None
        return self.run

    def _begin(self) -> Result:
        run = self._running
        options = {"disks": job_disks(run.plan["disks"]), "checkpoint": {"name": run.checkpoint}}
        result = self._module("begin", "virt_backup", **self.protection.job, **self.protection.beginning, **options)
        if not self.dead and not result["failed"]:
            run.disks = merge_disks(run.plan["disks"], result["disks"])
        return result

    def _copy(self) -> Result:
        result = self._module("copy", "nbd_extract", **self.protection.extraction(self._running))
        if not self.dead and not result["failed"]:
            self._running.images = result["images"]
        return result

    def _stop(self) -> Result:
        return self._module("stop", "virt_backup", **self.protection.job, state="stopped")

    def _publish(self) -> Result:
        result = self._module("publish", "restore_point", **self.protection.publishing(self._running))
        self._superseded = result.get("superseded", []) if not self.dead else []
        return result

    def _retire(self) -> Result:
        """Failures after the commit are warnings."""
        for name in self._superseded:
            self._module("retire", "virt_checkpoint", domain=self.protection.domain.name, name=name, state="absent")
        return {"failed": False}

    def _undo(self) -> None:
        """The role's rescue: the staging stays where job or checkpoint could not be removed, since it names them."""
        if self.run is None:
            return
        stopped = kit.attempt("virt_backup", **self.protection.job, state="stopped")
        published = [point["id"] for point in self.protection.look()["restore_points"]]
        if self.run.plan["id"] in published:
            return
        options = {"domain": self.protection.domain.name, "name": self.run.checkpoint, "state": "absent"}
        removed = kit.attempt("virt_checkpoint", **options)
        if not (stopped["failed"] or removed["failed"]):
            kit.run("restore_point", **self.protection.removal(self.run))

    # one module, and who dies meanwhile

    def _module(self, phase: str, module: str, **options: t.Any) -> Result:
        if phase != self.cell.step.phase or self.reached:
            return kit.attempt(module, **options)
        with announcing(self.cell) as stage:
            pid, reading = kit.start_child(kit.work_of(module, **options))
            with open(reading, encoding="utf-8") as printed:
                ready = select.select([stage.announced[0], printed], [], [], PATIENCE)[0]
                assert ready, f"{module} neither came to step {self.cell.step.name} nor ended"
                if stage.announced[0] in ready:
                    self.reached = True
                    self._strike(pid)
                os.write(stage.let_go[1], b"!")
                said = printed.read()
            os.waitpid(pid, 0)
        if self.reached and self.cell.victim in ("module", "playbook"):
            self.dead = True
            return {"failed": True}
        return kit.result_in(said)

    def _strike(self, pid: int) -> None:
        victim = self.cell.victim
        if victim == "module":
            os.kill(pid, signal.SIGKILL)
        elif victim == "module-sigterm":
            os.kill(pid, signal.SIGTERM)
        elif victim == "module-sighup":
            os.kill(pid, signal.SIGHUP)
        elif victim == "qemu":
            self.protection.domain.kill()
        elif victim == "libvirtd":
            services.restart("libvirtd", signal.SIGKILL)

    def adopt(self) -> bool:
        """Take the restore point, if it came to be, among those that have to stay right; return whether it did."""
        truth = {name: file_hash(path) for name, path in self._truth.items()}
        for path in self._truth.values():
            path.unlink()
        for entry in self.protection.look()["restore_points"] if self.run else ():
            if entry["id"] == self._running.plan["id"]:
                self.protection.points.append(Point(pathlib.Path(entry["path"]), entry, truth))
                return True
        return False
