# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of a server, and how little: windows, and zeroes only near what is dirty."""

from __future__ import annotations

from ansible_collections.virt.backup.plugins.module_utils._copy.source import NEAR, FullSource, IncrementalSource
from ansible_collections.virt.backup.plugins.module_utils._model.extent import (
    BLOCK,
    CLUSTER,
    WINDOW,
    Extent,
    Run,
    Segment,
)
from ansible_collections.virt.backup.plugins.module_utils._nbd import ALLOCATION, BITMAP_PREFIX

BITMAP = BITMAP_PREFIX + "b"


class Disk:
    """A server's answers, from the runs that each context flags; notes what it was asked."""

    def __init__(self, size: int, **flagged: list[Run]) -> None:
        self.size = size
        self.asked: list[tuple[str, int, int]] = []
        self._flagged = {ALLOCATION: (flagged.get("zero"), 2), BITMAP: (flagged.get("dirty"), 1)}
        self.contexts = frozenset(name for name, (runs, _flag) in self._flagged.items() if runs is not None)

    def extents(self, context: str, start: int, end: int) -> list[Extent]:
        self.asked.append((context, start, end))
        runs, flag = self._flagged[context]
        found, position = [], start
        for run in runs or []:
            first, last = max(run.start, start), min(run.end, end)
            if first < last:
                found += [Extent(position, first - position, 0)] * (first > position)
                found.append(Extent(first, last - first, flag))
                position = last
        return found + [Extent(position, end - position, 0)] * (end > position)


def test_full_asks_window_by_window() -> None:
    disk = Disk(2 * WINDOW + BLOCK, zero=[Run(CLUSTER, 2 * WINDOW + CLUSTER)])
    source = FullSource(disk, disk.size)
    assert list(source.segments()) == [
        Segment(0, CLUSTER, False),
        Segment(2 * WINDOW + CLUSTER, 2 * WINDOW + BLOCK, False),
    ]
    assert [end - start for _context, start, end in disk.asked] == [WINDOW, WINDOW, BLOCK]
    assert source.extents == 2


def test_full_without_the_context_reads_everything_and_asks_nothing() -> None:
    disk = Disk(3 * BLOCK + 5)
    assert list(FullSource(disk, disk.size).segments()) == [Segment(0, disk.size, False)]
    assert disk.asked == []


def test_incremental_asks_for_zeroes_only_near_what_is_dirty() -> None:
    far = NEAR + 10 * BLOCK
    disk = Disk(
        WINDOW,
        dirty=[Run(0, CLUSTER), Run(BLOCK, BLOCK + CLUSTER), Run(far, far + CLUSTER)],
        zero=[Run(BLOCK, 2 * BLOCK)],
    )
    source = IncrementalSource(disk, disk, "b", disk.size)
    assert list(source.segments()) == [
        Segment(0, CLUSTER, False),
        Segment(BLOCK, BLOCK + CLUSTER, True),
        Segment(far, far + CLUSTER, False),
    ]
    assert disk.asked == [
        (BITMAP, 0, WINDOW),
        (ALLOCATION, 0, BLOCK + CLUSTER),
        (ALLOCATION, far, far + CLUSTER),
    ]
    assert source.extents == 3


def test_incremental_tells_what_is_clean_in_whole_clusters_window_by_window() -> None:
    disk = Disk(
        WINDOW + 3 * BLOCK,
        dirty=[Run(5, CLUSTER + 1), Run(WINDOW - 1, WINDOW + 1), Run(WINDOW + BLOCK, WINDOW + BLOCK)],
    )
    clean: list[tuple[int, int]] = []
    source = IncrementalSource(disk, disk, "b", disk.size, clean=lambda start, end: clean.append((start, end)))
    list(source.segments())
    assert clean == [(2 * CLUSTER, WINDOW - CLUSTER), (WINDOW + CLUSTER, disk.size)]


def test_incremental_without_allocation_reads_all_that_is_dirty() -> None:
    disk = Disk(BLOCK, dirty=[Run(5, CLUSTER + 1)])
    assert list(IncrementalSource(disk, disk, "b", disk.size).segments()) == [Segment(0, 2 * CLUSTER, False)]


def test_nothing_dirty_asks_for_no_zeroes() -> None:
    disk = Disk(3 * WINDOW, dirty=[], zero=[])
    assert list(IncrementalSource(disk, disk, "b", disk.size).tasks()) == []
    assert {context for context, _start, _end in disk.asked} == {BITMAP}
