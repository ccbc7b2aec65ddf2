# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans of any disk, against a model that knows single bytes' fates and nothing of runs."""

from __future__ import annotations

import itertools
import typing as t

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.virt.backup.plugins.module_utils._copy.source import FullSource, IncrementalSource
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER, TABLE, Extent, Task
from ansible_collections.virt.backup.plugins.module_utils._nbd import ALLOCATION, BITMAP_PREFIX

HOLE, ZERO, DIRTY = 1, 2, 1
BITMAP = BITMAP_PREFIX + "b"
GRAINS = (512, 4096, CLUSTER, BLOCK)

# Runs of a flag: short ones, and such that fill tables.
pieces = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from((1, 2, 3, 15, 16, 17, 100, 700))), min_size=1, max_size=40
)


class Told(t.NamedTuple):
    """One context: flags in runs of a grain."""

    grain: int
    runs: list[tuple[int, int]]

    @property
    def size(self) -> int:
        return self.grain * sum(count for _flags, count in self.runs)

    def extents(self, size: int) -> list[Extent]:
        """Return them up to ``size``; past the last run nothing is said of a byte, which is data and clean."""
        found, position = [], 0
        for flags, count in [*self.runs, (0, -(-size // self.grain))]:
            length = min(count * self.grain, size - position)
            if length > 0:
                found.append(Extent(position, length, flags))
                position += length
        return found


class Disk:
    """Answers from what was told, clipped to the question as the gateway does."""

    def __init__(self, size: int, **told: Told) -> None:
        names = {"allocation": ALLOCATION, "bitmap": BITMAP}
        self._extents = {names[name]: context.extents(size) for name, context in told.items()}
        self.contexts = frozenset(self._extents)

    def extents(self, context: str, start: int, end: int) -> t.Iterator[Extent]:
        for offset, length, flags in self._extents[context]:
            first, last = max(offset, start), min(offset + length, end)
            if first < last:
                yield Extent(first, last - first, flags)


told = st.builds(Told, st.sampled_from(GRAINS), pieces)
cut = st.sampled_from((0, 1, 511, 512, 5000, CLUSTER - 1))


def clusters(extents: t.Iterable[Extent], wanted: int, *, whole: bool, size: int) -> set[int]:
    """Return the clusters of which the flag is set on any byte, or on all of them."""
    found: set[int] = set()
    lacking: set[int] = set()
    for offset, length, flags in extents:
        touched = range(offset // CLUSTER, -(-(offset + length) // CLUSTER))
        (found if flags & wanted else lacking).update(touched)
    return found - lacking if whole else found


def clusters_of(start: int, end: int) -> range:
    return range(start // CLUSTER, -(-end // CLUSTER))


def drawn(tasks: list[Task], size: int) -> tuple[set[int], set[int]]:
    """Return the clusters that are read and those that are marked zero; the tasks must be what the engine expects."""
    reads: list[int] = []
    zeros: list[int] = []
    for task in tasks:
        for start, end in task.reads + task.zeros:
            assert task.offset <= start < end <= size
            assert start % CLUSTER == 0
            assert end % CLUSTER == 0 or end == size
            assert start // TABLE == (end - 1) // TABLE
        reads += [number for run in task.reads for number in clusters_of(*run)]
        zeros += [number for run in task.zeros for number in clusters_of(*run)]
        assert task.offset % BLOCK == 0
        assert not task.reads or task.end - task.offset <= BLOCK
    assert all(first.end <= second.offset for first, second in itertools.pairwise(tasks))
    assert len(reads) == len(set(reads))
    assert len(zeros) == len(set(zeros))
    assert not set(reads) & set(zeros)
    return set(reads), set(zeros)


@given(bitmap=told, allocation=told, less=cut)
def test_an_increment_is_what_is_dirty_and_nothing_else(bitmap: Told, allocation: Told, less: int) -> None:
    size = max(bitmap.size - less, 1)
    disk = Disk(size, bitmap=bitmap, allocation=allocation)
    source = IncrementalSource(disk, disk, "b", size)
    reads, zeros = drawn(list(source.tasks()), size)
    dirty = clusters(bitmap.extents(size), DIRTY, whole=False, size=size)
    assert reads | zeros == dirty
    assert zeros == dirty & clusters(allocation.extents(size), ZERO, whole=True, size=size)
    assert sum(end - start for start, end, _zero in source.segments()) == bytes_of(dirty, size)


@given(bitmap=told, less=cut)
def test_an_increment_without_allocation_reads_all_that_is_dirty(bitmap: Told, less: int) -> None:
    size = max(bitmap.size - less, 1)
    disk = Disk(size, bitmap=bitmap)
    reads, zeros = drawn(list(IncrementalSource(disk, disk, "b", size).tasks()), size)
    assert (reads, zeros) == (clusters(bitmap.extents(size), DIRTY, whole=False, size=size), set())


@given(allocation=told, less=cut)
def test_a_full_copy_reads_all_that_is_not_zero_and_nothing_else(allocation: Told, less: int) -> None:
    size = max(allocation.size - less, 1)
    disk = Disk(size, allocation=allocation)
    reads, zeros = drawn(list(FullSource(disk, size).tasks()), size)
    zero = clusters(allocation.extents(size), ZERO, whole=True, size=size)
    data = set(range(-(-size // CLUSTER))) - zero
    assert zeros == set()
    assert reads == data


def bytes_of(numbers: set[int], size: int) -> int:
    return sum(min((number + 1) * CLUSTER, size) - number * CLUSTER for number in numbers)
