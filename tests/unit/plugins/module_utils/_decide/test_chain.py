# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Chains, what depends on what, and which checkpoints nobody needs. Days stand for restore points."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.chain import (
    PresentDisk,
    chain_of,
    dependants,
    newest_with,
    orphans,
    problems_of,
    superseded,
)
from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, FoundStaging, Unreadable
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.staging import PlannedDisk, Staging
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    NOW,
    UUID,
    catalog,
    checkpoint_of,
    identity,
    image,
    point,
    point_id,
)

POINTS = catalog(
    point(1, image("vda", 1), image("vdb", 1)),
    point(2, image("vda", 2, 1)),
    point(3, image("vda", 3, 2, 1), image("vdb", 3, 1)),
    point(4, image("vda", 4)),
)


@pytest.mark.parametrize(
    ("day", "disk", "days"),
    [(1, "vda", [1]), (2, "vda", [1, 2]), (3, "vda", [1, 2, 3]), (3, "vdb", [1, 3]), (4, "vda", [4])],
)
def test_chain(day: int, disk: str, days: list[int]) -> None:
    chain = chain_of(POINTS, point_id(day), disk)
    assert (list(chain.ids), chain.problem) == ([point_id(each) for each in days], "")
    assert chain.increments == len(days) - 1


def test_a_disk_that_is_not_in_the_restore_point_has_no_chain() -> None:
    chain = chain_of(POINTS, point_id(2), "vdb")
    assert chain.ids == ()
    assert "the image of vdb in" in chain.problem


def test_a_manifest_that_names_itself_or_a_newer_one_ends() -> None:
    for parent in (2, 3):
        wrong = dataclasses.replace(image("vda", 2, 1), parent=point_id(parent))
        chain = chain_of(catalog(point(2, wrong), point(3, image("vda", 3, 2))), point_id(3), "vda")
        assert "as the parent of vda" in chain.problem


def test_a_full_image_with_a_parent_contradicts_itself() -> None:
    wrong = dataclasses.replace(image("vda", 2, 1), level=Level.FULL)
    assert (
        "contradicts itself"
        in chain_of(catalog(point(1, image("vda", 1)), point(2, wrong)), point_id(2), "vda").problem
    )


def test_problems_are_told_per_disk() -> None:
    broken = point(1, image("vda", 1), image("vdb", 1), faults={"vda": "vda.qcow2 is missing"})
    above = point(2, image("vda", 2, 1), image("vdb", 2, 1))
    assert problems_of(catalog(broken, above), above) == ["vda: vda.qcow2 is missing"]
    assert problems_of(POINTS, POINTS.points[2]) == []


def test_newest_with() -> None:
    found = newest_with(POINTS.points, "vdb")
    assert found is not None
    assert found[0].id == point_id(3)
    assert newest_with(POINTS.points, "vdc") is None


def _staging(day: int, base: int) -> FoundStaging:
    disk = PlannedDisk("vda", Level.INCREMENTAL, "", identity(), point_id(base), checkpoint_of(base))
    staging = Staging(point_id(day), "t", checkpoint_of(day), UUID, "web", NOW, disks=(disk,))
    return FoundStaging(point_id(day), "/x", staging)


@pytest.mark.parametrize(("day", "days"), [(1, [2, 3]), (2, [3]), (3, []), (4, [])])
def test_dependants(day: int, days: list[int]) -> None:
    assert dependants(POINTS.points, (), point_id(day)) == [point_id(each) for each in days]


def test_a_run_in_progress_depends_on_its_base() -> None:
    found = Catalog(POINTS.points, stagings=(_staging(5, 4), FoundStaging(point_id(6), "/y", None, "unreadable")))
    assert dependants(found.points, found.stagings, point_id(4)) == [f"{point_id(5)} (in progress)"]


A, B = PresentDisk("vda", identity("vda")), PresentDisk("vdb", identity("vdb"))


@pytest.mark.parametrize(
    ("disks", "on_domain", "gone"),
    [
        ([A], [1, 2, 3, 4], [1, 2, 3]),
        ([A, B], [1, 2, 3, 4], [1, 2]),  # vdb was left out of 4: its own last image's checkpoint stays
        ([A, PresentDisk("vdb")], [1, 2, 3, 4], [1, 2]),  # skipped, only the name is known: kept
        ([A, PresentDisk("vdb", identity("vdb", source="/new"))], [1, 2, 3, 4], [1, 2, 3]),  # another disk now
        ([A, B], [4], []),
        ([A, B], [3, 4], []),
        ([A], [4, 9], []),  # 9 is in no manifest: not ours to judge
        ([], [1, 4], [1, 4]),
    ],
)
def test_superseded(disks: list[PresentDisk], on_domain: list[int], gone: list[int]) -> None:
    manifests = [point.manifest for point in POINTS.points]
    names = [checkpoint_of(day) for day in on_domain] + ["virt-backup.000000000000." + point_id(1), "foreign"]
    assert superseded(manifests, disks, names) == [checkpoint_of(day) for day in gone]


def test_a_disk_that_was_not_tracked_keeps_no_checkpoint() -> None:
    manifests = [
        point(1, image("vda", 1), image("vdb", 1, bitmap=False)).manifest,
        point(2, image("vda", 2, 1)).manifest,
    ]
    assert superseded(manifests, [A, B], [checkpoint_of(1), checkpoint_of(2)]) == [checkpoint_of(1)]


def test_orphans_are_ours_by_name_and_known_to_nothing() -> None:
    found = Catalog(POINTS.points, (Unreadable(point_id(5), "/x", "no JSON"),), (FoundStaging(point_id(6), "/y"),))
    names = [checkpoint_of(day) for day in (1, 5, 6, 7)] + ["virt-backup.000000000000." + point_id(1), "foreign"]
    assert orphans(found, checkpoint_of(1).removesuffix(point_id(1)), names) == [checkpoint_of(7)]
