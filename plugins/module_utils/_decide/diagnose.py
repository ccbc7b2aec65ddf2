# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What dead runs and lost bitmaps have left of a domain's backups, and what sets each of it right. Pure.

Only what is ours is a repair: what the staging of a dead run names, and checkpoints that a manifest of this repository
names. Whatever else looks left behind (an older or copied repository makes every living base look so) is told and left
alone.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.chain import newest_with, problems_of
from ansible_collections.virt.backup.plugins.module_utils._model.repair import Diagnosis, Repair, RepairKind

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog
    from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint
    from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob


@dataclasses.dataclass(frozen=True)
class DeadRun:
    """What the staging of a run that died names; ``checkpoint`` follows from the id where the staging can't be read."""

    id: str
    path: str
    checkpoint: str
    socket: str = ""


@dataclasses.dataclass(frozen=True)
class Facts:
    """Both sides, as they were found.

    ``in_progress`` is whose run holds the lock, empty when none is alive. ``checkpoints`` are those of the domain,
    measured when it is ``active``; ``definitions`` the XML that the repository has of its own checkpoints, by name;
    ``superseded`` and ``orphans`` what :mod:`.chain` says of the domain's checkpoints. ``files`` are the sockets and
    scratch files of ours that exist, ``served`` the sockets among them at which the domain's QEMU listens.
    """

    catalog: Catalog
    in_progress: str = ""
    dead_runs: tuple[DeadRun, ...] = ()
    active: bool = True
    job: BackupJob | None = None
    disks: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    definitions: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    superseded: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    served: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()

    @property
    def known(self) -> dict[str, Checkpoint]:
        """The domain's checkpoints by name."""
        return {checkpoint.name: checkpoint for checkpoint in self.checkpoints}


def diagnose(facts: Facts) -> Diagnosis:
    """Return what to repair, in the order in which it is safe, and what is beyond repair."""
    problems = tuple(_problems(facts))
    if facts.in_progress:
        return Diagnosis((), problems, facts.in_progress)
    order = list(RepairKind)
    repairs = sorted(_repairs(facts), key=lambda repair: order.index(repair.kind))
    return Diagnosis(tuple(repairs), problems)


def _repairs(facts: Facts) -> Iterator[Repair]:
    yield from _dead_runs(facts)
    yield from _scratch(facts)
    for path in facts.catalog.unfinished:
        yield Repair(RepairKind.FINISH_REMOVAL, path, "a removal was interrupted")
    yield from _forgotten(facts)
    if facts.active:
        yield from _superseded(facts)
        yield from _spoilt(facts)


def _dead_runs(facts: Facts) -> Iterator[Repair]:
    active_socket = facts.job.server.socket if facts.job and facts.job.server else ""
    for run in facts.dead_runs:
        if run.socket and run.socket == active_socket:
            yield Repair(RepairKind.END_JOB, run.socket, f"the run for {run.id} died and left its job")
        elif run.socket in facts.served:
            reason = f"the run for {run.id} died, and libvirt has lost its job while QEMU goes on serving"
            yield Repair(RepairKind.STOP_SERVER, run.socket, reason)
        elif run.socket in facts.sockets:
            yield Repair(RepairKind.REMOVE_SOCKET, run.socket, f"the run for {run.id} died, and so did its job")
        removable = facts.active or run.checkpoint not in facts.known
        if run.checkpoint in facts.known and facts.active:
            reason = f"the run for {run.id} died before it published, so this is no base"
            yield Repair(RepairKind.REMOVE_CHECKPOINT, run.checkpoint, reason)
        if removable:
            yield Repair(RepairKind.REMOVE_STAGING, run.id, "the run died before it published")


def _scratch(facts: Facts) -> Iterator[Repair]:
    if facts.job is None:
        for path in facts.scratch:
            yield Repair(RepairKind.REMOVE_SCRATCH, path, "no backup job is active, so nothing uses it")


def _forgotten(facts: Facts) -> Iterator[Repair]:
    """Yield the bases that libvirt has forgotten, parents first: ids only grow, and names hold the id."""
    names: dict[str, list[str]] = {}
    for disk in facts.disks:
        newest = newest_with(facts.catalog.points, disk)
        if newest and newest[1].bitmap and not newest[0].fault(disk):
            names.setdefault(newest[0].manifest.checkpoint, []).append(disk)
    for name in sorted(names):
        if name not in facts.known and facts.definitions.get(name):
            reason = "libvirt has forgotten it, and the next increment starts from it"
            yield Repair(RepairKind.REDEFINE_CHECKPOINT, name, reason, tuple(names[name]), facts.definitions[name])


def _superseded(facts: Facts) -> Iterator[Repair]:
    for name in facts.superseded:
        yield Repair(RepairKind.REMOVE_CHECKPOINT, name, "no increment can start from it any more")


def _spoilt(facts: Facts) -> Iterator[Repair]:
    """Yield our checkpoints that have bitmaps which record nothing any more: they are no base, and hinder a resize."""
    ours = {point.manifest.checkpoint for point in facts.catalog.points} - set(facts.superseded)
    for checkpoint in facts.checkpoints:
        spoilt = tuple(
            disk.name for disk in checkpoint.disks if checkpoint.measured and disk.bitmap and disk.dirty_bytes is None
        )
        if checkpoint.name in ours and spoilt:
            reason = f"the bitmap is missing or broken on {', '.join(spoilt)}"
            yield Repair(RepairKind.REMOVE_BITMAPS, checkpoint.name, reason, spoilt)


def _problems(facts: Facts) -> Iterator[str]:
    catalog = facts.catalog
    yield from (entry.problem for entry in catalog.unreadable)
    yield from (entry.problem for entry in catalog.stagings if entry.problem)
    for point in catalog.points:
        yield from (f"{point.id}: {problem}" for problem in problems_of(catalog, point))
    yield from (f"{path} is nothing that belongs here; it is left alone." for path in catalog.strangers)
    for name in facts.orphans:
        yield f"{name} looks like a checkpoint of this repository, which has no such restore point; it is left alone."
    if not facts.active and not facts.in_progress:
        for run in facts.dead_runs:
            if run.checkpoint in facts.known:
                yield (
                    f"{run.checkpoint} is the checkpoint of a run that died, and the domain is off; "
                    "start the domain, then repair again."
                )
