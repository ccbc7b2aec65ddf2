# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a verification looks at, what it leaves out, and whom a damage breaks; two chains of two disks, one skipped once."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.verification import (
    broken_by,
    is_fresh,
    lineage,
    needed,
)
from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog
from ansible_collections.virt.backup.plugins.module_utils._model.verification import Depth, FileDamage, Verification
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    NOW,
    catalog,
    image,
    point,
    point_id,
)

# day 1: both full; 2: vda on 1; 3: both, vdb on 1; 4: vda full, vdb on 3
CHAINS = catalog(
    point(1, image("vda", 1), image("vdb", 1)),
    point(2, image("vda", 2, parent=1)),
    point(3, image("vda", 3, parent=2, chain=1), image("vdb", 3, parent=1)),
    point(4, image("vda", 4), image("vdb", 4, parent=3, chain=1)),
)


def days(*numbers: int) -> list[str]:
    return [point_id(number) for number in numbers]


def without(*numbers: int) -> Catalog:
    return catalog(*(entry for entry in CHAINS.points if entry.id not in days(*numbers)))


@pytest.mark.parametrize(
    ("day", "disk", "expected"), [(1, "vda", [1]), (3, "vda", [3, 2, 1]), (4, "vda", [4]), (4, "vdb", [4, 3, 1])]
)
def test_lineage(day: int, disk: str, expected: list[int]) -> None:
    assert lineage(CHAINS, point_id(day), disk) == days(*expected)


def test_lineage_ends_with_what_is_missing() -> None:
    assert lineage(without(2), point_id(3), "vda") == days(3, 2)


def test_lineage_ends_where_the_parent_is_newer() -> None:
    assert lineage(catalog(point(2, image("vda", 2, parent=3))), point_id(2), "vda") == days(2)


@pytest.mark.parametrize(
    ("wanted", "expected"), [([2], [1, 2]), ([4], [1, 3, 4]), ([4, 2], [1, 2, 3, 4]), ([7], []), ([], [])]
)
def test_needed(wanted: list[int], expected: list[int]) -> None:
    """Of day 3 only vdb is needed by day 4, yet it is one directory, looked at as a whole."""
    assert needed(CHAINS, days(*wanted)) == days(*expected)


def test_needed_leaves_out_what_is_missing() -> None:
    assert needed(without(1), days(4)) == days(3, 4)


@pytest.mark.parametrize(
    ("day", "disks", "expected"),
    [
        (1, ["vda"], [1, 2, 3]),
        (1, ["vdb"], [1, 3, 4]),
        (1, [], [1, 2, 3, 4]),
        (2, ["vda"], [2, 3]),
        (2, ["vdb"], []),
        (4, ["vda", "vdb"], [4]),
    ],
)
def test_broken_by(day: int, disks: list[str], expected: list[int]) -> None:
    assert broken_by(CHAINS, point_id(day), disks) == days(*expected)


def test_what_is_missing_breaks_what_needs_it() -> None:
    assert broken_by(without(2), point_id(2), ["vda"]) == days(3)


def record(age: int, depth: Depth, *, bad: bool = False, notes: tuple[str, ...] = ()) -> Verification:
    damage = (FileDamage("vda.qcow2", "it is damaged.", "vda"),) if bad else ()
    return Verification(NOW - datetime.timedelta(seconds=age), depth, damage, notes=notes)


@pytest.mark.parametrize(
    ("known", "depth", "secret", "fresh"),
    [
        (None, Depth.FILES, False, False),
        (record(59, Depth.FILES), Depth.FILES, False, True),
        (record(60, Depth.FILES), Depth.FILES, False, False),
        (record(-1, Depth.FILES), Depth.FILES, False, False),
        (record(0, Depth.FILES), Depth.CONTENT, False, False),
        (record(0, Depth.CONTENT), Depth.CONTENT, False, True),
        (record(0, Depth.CONTENT), Depth.FILES, False, True),
        (record(0, Depth.FILES, bad=True), Depth.FILES, False, False),
        (record(0, Depth.FILES, notes=("closed",)), Depth.FILES, False, True),
        (record(0, Depth.FILES, notes=("closed",)), Depth.FILES, True, False),
    ],
)
def test_is_fresh(known: Verification | None, depth: Depth, secret: bool, fresh: bool) -> None:
    assert is_fresh(known, depth, 60, NOW, secret=secret) is fresh


def test_an_error_is_never_fresh() -> None:
    failed = Verification(NOW, Depth.CONTENT, errors=("QEMU could not read it.",))
    assert not is_fresh(failed, Depth.FILES, 60, NOW)
