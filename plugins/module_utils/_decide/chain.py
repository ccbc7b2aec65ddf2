# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Chains from manifests: which images an image needs, who needs an image, and which checkpoints nobody needs. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.level import Level

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, FoundStaging, Point
    from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import (
        DiskIdentity,
        Manifest,
        ManifestDisk,
    )


@dataclasses.dataclass(frozen=True)
class Chain:
    """The images of one disk that a restore point needs, as ids, the full one first.

    ``problem`` is empty when all are good.
    """

    ids: tuple[str, ...]
    problem: str = ""

    @property
    def increments(self) -> int:
        """How many increments stand on the full image."""
        return len(self.ids) - 1


def chain_of(catalog: Catalog, identifier: str, disk: str) -> Chain:
    """Follow the parents of a disk's image down to the full one.

    A parent has a lower id than its child, so this ends whatever the manifests say.
    """
    ids: list[str] = []
    problem = ""
    current = identifier
    while current:
        point = catalog.point(current)
        entry = point.manifest.disk(disk) if point else None
        if point is None or entry is None:
            child = f", on which {ids[-1]} builds," if ids else ""
            return Chain(tuple(reversed(ids)), problem or f"the image of {disk} in {current}{child} is missing")
        ids.append(current)
        problem = problem or point.fault(disk) or _link_problem(point, entry)
        if problem and entry.parent >= current:
            break
        current = entry.parent
    return Chain(tuple(reversed(ids)), problem)


def _link_problem(point: Point, entry: ManifestDisk) -> str:
    if entry.parent >= point.id:
        return f"the manifest of {point.id} names the newer {entry.parent} as the parent of {entry.name}"
    if (entry.level is Level.INCREMENTAL) != bool(entry.parent):
        what = f"{entry.name} is {entry.level.value} with the parent {entry.parent!r}"
        return f"the manifest of {point.id} contradicts itself: {what}"
    return ""


def problems_of(catalog: Catalog, point: Point) -> list[str]:
    """Return what stands between this restore point and a restore, a sentence each."""
    chains = [chain_of(catalog, point.id, disk.name) for disk in point.manifest.disks]
    return [f"{disk.name}: {chain.problem}" for disk, chain in zip(point.manifest.disks, chains) if chain.problem]


def newest_with(points: Sequence[Point], disk: str) -> tuple[Point, ManifestDisk] | None:
    """Return the newest restore point that has an image of the disk with that target name, and the image's entry."""
    for point in reversed(points):
        entry = point.manifest.disk(disk)
        if entry is not None:
            return point, entry
    return None


def dependants(points: Iterable[Point], stagings: Iterable[FoundStaging], identifier: str) -> list[str]:
    """Return the ids of everything, published or in progress, that builds directly on a restore point."""
    found = [point.id for point in points if any(disk.parent == identifier for disk in point.manifest.disks)]
    runs = [entry.staging for entry in stagings if entry.staging is not None]
    return found + [f"{run.id} (in progress)" for run in runs if any(disk.base == identifier for disk in run.disks)]


@dataclasses.dataclass(frozen=True)
class PresentDisk:
    """A disk that the domain has now; ``identity`` is ``None`` where only its name is known."""

    name: str
    identity: DiskIdentity | None = None


def superseded(manifests: Sequence[Manifest], disks: Iterable[PresentDisk], on_domain: Iterable[str]) -> list[str]:
    """Return which of our checkpoints that the domain has no next increment can start from any more.

    ``manifests`` are all of this repository for the domain, oldest first: a checkpoint that none of them names is not
    ours to judge (another repository's, a foreign one, a run's that failed). Kept is the checkpoint of the newest image
    of each disk the domain still has as it was; a disk of which only the name is known counts as unchanged.
    """
    needed = set()
    for disk in disks:
        newest = next((m for m in reversed(manifests) if m.disk(disk.name)), None)
        entry = newest.disk(disk.name) if newest else None
        if newest and entry and entry.bitmap and disk.identity in (None, entry.identity):
            needed.add(newest.checkpoint)
    ours = {manifest.checkpoint for manifest in manifests}
    return [name for name in on_domain if name in ours and name not in needed]


def orphans(catalog: Catalog, ours: str, on_domain: Iterable[str]) -> list[str]:
    """Return the domain's checkpoints whose names say that they are this repository's, but that it knows nothing of.

    ``ours`` is what such names begin with. A repository that was copied, or brought back from an older state, makes
    every living base look like one, so nobody removes them; they are only reported.
    """
    known = {point.manifest.checkpoint for point in catalog.points}
    known |= {ours + entry.id for entry in catalog.stagings} | {ours + entry.id for entry in catalog.unreadable}
    return [name for name in on_domain if name.startswith(ours) and name not in known]
