# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans as pictures. A disk is drawn cluster by cluster, four characters each where bytes within a cluster matter.

``A`` data, ``-`` a hole that may hold anything, ``0`` promised zero; in bitmaps ``x`` dirty, ``.`` clean.
"""

from __future__ import annotations

import itertools
import random

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy import plan
from ansible_collections.virt.backup.plugins.module_utils._model.extent import (
    BLOCK,
    CLUSTER,
    TABLE,
    Extent,
    Run,
    Segment,
    Task,
)

FLAGS = {"A": 0, "-": plan.HOLE, "0": plan.ZERO, "o": plan.ZERO | plan.HOLE, "x": plan.DIRTY, ".": 0}


def extents(picture: str, grain: int = CLUSTER) -> list[Extent]:
    """Return one extent for each character, as a server that does not merge would."""
    return [Extent(index * grain, grain, FLAGS[kind]) for index, kind in enumerate(picture)]


def draw(segments: list[Segment], clusters: int) -> str:
    """Draw what is to be done: ``R`` read, ``Z`` zero, space for nothing."""
    picture = [" "] * clusters
    for start, end, zero in segments:
        for index in range(start // CLUSTER, -(-end // CLUSTER)):
            assert picture[index] == " "
            picture[index] = "Z" if zero else "R"
    return "".join(picture)


def full(picture: str, grain: int = CLUSTER, size: int | None = None) -> str:
    size = len(picture) * grain if size is None else size
    runs = plan.rounded_out(plan.data_runs(extents(picture, grain)), size)
    return draw([Segment(*run, False) for run in runs], -(-size // CLUSTER))


def incremental(dirty: str, allocation: str, grain: int = CLUSTER, size: int | None = None) -> str:
    size = len(dirty) * grain if size is None else size
    runs = plan.rounded_out(plan.dirty_runs(extents(dirty, grain)), size)
    zeros = plan.rounded_in(plan.zero_runs(extents(allocation, grain)), size)
    return draw(list(plan.segments(runs, zeros)), -(-size // CLUSTER))


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("AAAA", "RRRR"),
        ("A0A-", "R RR"),  # a hole alone may hold anything: it is read
        ("0000", "    "),
        ("oA0o", " R  "),
        ("", ""),
    ],
)
def test_full_reads_all_that_is_not_promised_zero(picture: str, expected: str) -> None:
    assert full(picture) == expected


@pytest.mark.parametrize(
    ("picture", "expected"),
    [("0A000000", "R "), ("000A0000", "R "), ("000AA000", "RR"), ("0000A000", " R"), ("00000000", "  ")],
)
def test_full_rounds_out_to_clusters(picture: str, expected: str) -> None:
    assert full(picture, CLUSTER // 4) == expected


@pytest.mark.parametrize(
    ("dirty", "allocation", "expected"),
    [
        ("xx.x", "A0A0", "RZ Z"),  # zero inside of dirty is written, zero outside is not touched
        ("xx.x", "o-0A", "ZR R"),
        ("....", "A0A0", "    "),
        ("xxxx", "0000", "ZZZZ"),
        ("x..x", "AAAA", "R  R"),
    ],
)
def test_incremental_takes_dirty_and_nothing_else(dirty: str, allocation: str, expected: str) -> None:
    assert incremental(dirty, allocation) == expected


@pytest.mark.parametrize(
    ("dirty", "allocation", "expected"),
    [
        ("x.......", "AAAA0000", "R "),
        ("...xx...", "00000000", "ZZ"),  # the whole clusters are zero
        ("...xx...", "A0000000", "RZ"),  # a cluster that is zero in part is read
        ("......x.", "0000000A", " R"),
        ("xx......", "00oo0000", "Z "),  # zero told in pieces is zero as a whole
    ],
)
def test_incremental_rounds_dirty_out_and_zero_in(dirty: str, allocation: str, expected: str) -> None:
    assert incremental(dirty, allocation, CLUSTER // 4) == expected


def test_the_last_cluster_is_whole_when_its_bytes_are() -> None:
    size = CLUSTER + 512
    assert list(plan.rounded_out([Run(CLUSTER + 100, size)], size)) == [Run(CLUSTER, size)]
    assert list(plan.rounded_in([Run(0, size)], size)) == [Run(0, size)]
    assert list(plan.rounded_in([Run(0, size - 1)], size)) == [Run(0, CLUSTER)]


def test_merged_joins_what_touches() -> None:
    runs = [Run(0, 4), Run(4, 6), Run(5, 6), Run(8, 8), Run(9, 10)]
    assert list(plan.merged(runs)) == [Run(0, 6), Run(9, 10)]


def test_tasks_are_blocks() -> None:
    parts = [Segment(0, BLOCK + CLUSTER, False), Segment(BLOCK + 2 * CLUSTER, BLOCK + 3 * CLUSTER, True)]
    assert list(plan.tasks(parts)) == [
        Task(0, (Run(0, BLOCK),), ()),
        Task(BLOCK, (Run(BLOCK, BLOCK + CLUSTER),), (Run(BLOCK + 2 * CLUSTER, BLOCK + 3 * CLUSTER),)),
    ]


def test_zeroes_of_many_blocks_are_one_task_within_one_table() -> None:
    parts = [Segment(TABLE - 3 * BLOCK - CLUSTER, 2 * TABLE + BLOCK + CLUSTER, True)]
    found = [(task.offset, task.end) for task in plan.tasks(parts)]
    assert found == [
        (TABLE - 4 * BLOCK, TABLE - 3 * BLOCK),
        (TABLE - 3 * BLOCK, TABLE),
        (TABLE, 2 * TABLE),
        (2 * TABLE, 2 * TABLE + BLOCK),
        (2 * TABLE + BLOCK, 2 * TABLE + BLOCK + CLUSTER),
    ]


@pytest.mark.parametrize("seed", range(50))
def test_every_plan_does_what_the_pictures_mean(seed: int) -> None:
    """Against a model that knows only single sectors: random grains, sizes, and cuts of replies."""
    chance = random.Random(seed)
    grain = CLUSTER // 8
    count = chance.randint(1, 300)
    size = count * grain - chance.choice([0, 1, grain // 2])
    dirty = "".join(_picture(chance, "x.", count))
    allocation = "".join(_picture(chance, "A0o-", count))
    wanted = []
    for first in range(0, count, 8):
        touched = "x" in dirty[first : first + 8]
        zero = set(allocation[first : first + 8]) <= {"0", "o"}
        wanted.append("Z" if touched and zero else "R" if touched else " ")
    runs = plan.rounded_out(plan.dirty_runs(_clipped(extents(dirty, grain), size)), size)
    zeros = plan.rounded_in(plan.zero_runs(_clipped(extents(allocation, grain), size)), size)
    tasks = list(plan.tasks(plan.segments(runs, zeros)))
    parts = [Segment(*run, False) for task in tasks for run in task.reads]
    parts += [Segment(*run, True) for task in tasks for run in task.zeros]
    assert draw(parts, len(wanted)) == "".join(wanted)
    assert all(first.end <= second.offset for first, second in itertools.pairwise(tasks))
    assert all(end <= size for _start, end, _zero in parts)


def _picture(chance: random.Random, kinds: str, count: int) -> list[str]:
    picture: list[str] = []
    while len(picture) < count:
        picture += chance.choice(kinds) * chance.choice([1, 2, 8, 30])
    return picture[:count]


def _clipped(found: list[Extent], size: int) -> list[Extent]:
    return [Extent(start, min(length, size - start), flags) for start, length, flags in found]
