# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong in the long run. Each fault ends a run, or damages what the next one would start from.

Whatever it was, the next backup has to be right without help.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import typing as t

from integration import virt_kit as kit
from integration.kill_kit import CELLS, DyingRun
from integration.protection import Run
from integration.soak_domain import SoakDomain
from integration.virt_kit import SCRATCH, Result
from lab.disks import MIB
from lab.tools import call, virsh

ROOM = 512
"""MiB of the file system that all restore points of a long run are on."""

Fault = t.Callable[[SoakDomain, random.Random], None]


def somebody_dies(domain: SoakDomain, dice: random.Random) -> None:
    """The module, the playbook, QEMU or libvirtd is killed at a step: any cell of the kill matrix."""
    cell = dice.choice(CELLS)
    domain.log(f"dies: {cell.id}")
    run = DyingRun(domain.protection, cell)
    run.go()
    killed = run.reached and cell.victim == "qemu"
    if killed:
        domain.lab.start()
    if run.adopt():
        domain.published(domain.protection.points[-1])
        domain.protection.points[-1].check()
    if killed:
        domain.spoil()


def nobody_goes_on(domain: SoakDomain, dice: random.Random) -> None:
    """A run ends between two modules, and its domain may lose its power afterwards."""
    where = dice.randrange(4)
    domain.log(f"a run is abandoned: {('staged', 'begun', 'copied', 'stopped')[where]}")
    run = domain.stage(lease=1)
    if where >= 1:
        domain.protection.begin(run)
    if where >= 2:
        domain.protection.copy(run)
    if where == 3:
        domain.protection.stop()
    forget(run)
    if dice.random() < 0.4:
        dice.choice((domain.cycle, domain.crash))(dice)


def no_room_is_left(domain: SoakDomain, dice: random.Random) -> None:
    """The repository is full when the images are written, or when the manifest is."""
    late, undone_in_time = dice.random() < 0.5, dice.random() < 0.5
    domain.log(f"no room for the {'manifest' if late else 'images'}, undone {'before' if undone_in_time else 'after'}")
    run = domain.stage(lease=1)
    domain.protection.begin(run)
    with contextlib.ExitStack() as full:
        if not late:
            full.enter_context(no_room(domain))
        result = kit.attempt("nbd_extract", **domain.protection.extraction(run))
        if not result["failed"]:
            domain.protection.copied(run, result)
            domain.protection.stop()
            full.enter_context(no_room(domain))
            result = kit.attempt("restore_point", **domain.protection.publishing(run))
            assert result["failed"], "a restore point was published where there is no room for its manifest"
        assert "No space left on device" in result["msg"]
        if undone_in_time:
            undo(domain, run)
    if not undone_in_time:
        undo(domain, run)


@contextlib.contextmanager
def no_room(domain: SoakDomain) -> t.Iterator[None]:
    """Fill the repository's file system to its last page."""
    filler = domain.protection.repository.parent / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(MIB)):
            pass
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    try:
        yield
    finally:
        filler.unlink()


def the_server_stalls(domain: SoakDomain, _dice: random.Random) -> None:
    """QEMU stands still for longer than the copy waits."""
    domain.log("the server stalls")
    run = domain.stage()
    domain.protection.begin(run)
    pid = domain.lab.qemu_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        result = kit.attempt("nbd_extract", **domain.protection.extraction(run, timeout=1))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert result["failed"]
    undo(domain, run)


def somebody_ends_the_job(domain: SoakDomain, _dice: random.Random) -> None:
    """The job is aborted before its bytes were read."""
    domain.log("somebody ends the job")
    run = domain.stage()
    domain.protection.begin(run)
    virsh("domjobabort", domain.lab.name)
    assert kit.attempt("nbd_extract", **domain.protection.extraction(run))["failed"]
    undo(domain, run)


def libvirt_forgets(domain: SoakDomain, dice: random.Random) -> None:
    """The metadata of checkpoints are lost, of all or of any."""
    known = domain.lab.checkpoints()
    names = known if dice.random() < 0.5 else [name for name in known if dice.random() < 0.5]
    domain.log(f"libvirt forgets {len(names)} of {len(known)} checkpoints")
    for name in names:
        virsh("checkpoint-delete", domain.lab.name, name, "--metadata")


def a_bitmap_is_removed(domain: SoakDomain, dice: random.Random) -> None:
    """A careless tool removes a bitmap behind libvirt's back."""
    target = dice.choice([name for name, disk in domain.disks.items() if disk.has_bitmaps])
    newest = next((point for point in reversed(domain.protection.points) if target in point.levels), None)
    if newest is not None and newest.checkpoint in kit.bitmaps_of(domain.lab, target):
        domain.log(f"the bitmap of {target} is removed")
        kit.lose_bitmap(domain.lab, target, newest.checkpoint)
        domain.disks[target].excused = "its bitmap was removed"


FAULTS: tuple[tuple[Fault, int], ...] = (
    (somebody_dies, 6),
    (nobody_goes_on, 3),
    (no_room_is_left, 2),
    (the_server_stalls, 1),
    (somebody_ends_the_job, 1),
    (libvirt_forgets, 2),
    (a_bitmap_is_removed, 2),
)
"""Each with how often it comes, compared with the others."""


def any_fault(dice: random.Random) -> Fault:
    """Draw a fault."""
    faults, weights = zip(*FAULTS)
    drawn: Fault = dice.choices(faults, weights)[0]
    return drawn


def undo(domain: SoakDomain, run: Run) -> None:
    """Do what the role's rescue does; what can't be removed now is left to the next run."""
    protection = domain.protection
    stopped = kit.attempt("virt_backup", **protection.job, state="stopped")
    gone = kit.attempt("virt_checkpoint", domain=domain.lab.name, name=run.checkpoint, state="absent")
    if not (stopped["failed"] or gone["failed"]):
        kit.attempt("restore_point", **protection.removal(run))
    forget(run)


def forget(run: Run) -> None:
    """Remove the copies of a run that comes to nothing."""
    for path in run.truth.values():
        path.unlink()


def call_the_doctor(domain: SoakDomain, _dice: random.Random) -> None:
    """Let the doctor clean up, as an operator would, instead of the next run."""
    domain.wait_for_the_lock()
    place: Result = {"domain": domain.lab.name, "repository": str(domain.protection.repository)}
    done = kit.run("virt_backup_doctor", **place, scratch_dir=str(SCRATCH))
    domain.log(f"the doctor repairs: {[repair['kind'] for repair in done['repairs']]}")


@contextlib.contextmanager
def repository_in_memory(folder: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Return a folder on a small file system of its own."""
    folder.mkdir()
    call("mount", "-t", "tmpfs", "-o", f"size={ROOM}M", "tmpfs", folder)
    try:
        yield folder
    finally:
        call("umount", folder)
