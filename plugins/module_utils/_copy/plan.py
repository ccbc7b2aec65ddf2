# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Extents in, tasks out: the arithmetic of a copy. Pure; all ranges come and go in ascending order.

A server may answer in any cut: extents of the same flags may follow each other, and only :func:`merged` runs can be
rounded to clusters. ``size`` is the end of the disk, which need not be the end of a cluster.
"""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.extent import (
    BLOCK,
    CLUSTER,
    TABLE,
    Extent,
    Run,
    Segment,
    Task,
    round_up,
)

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HOLE = 1
ZERO = 2
DIRTY = 1
"""Flags of the NBD contexts. DIRTY is bit 0 of ``qemu:dirty-bitmap:*``, the same value as HOLE of ``base:allocation``.
Only ZERO promises that a range reads as zero; a hole may read as anything, so it is read."""


def merged(runs: Iterable[Run]) -> Iterator[Run]:
    """Join runs that touch or overlap."""
    start = end = -1
    for run in runs:
        if run.start <= end:
            end = max(end, run.end)
            continue
        if end > start:
            yield Run(start, end)
        start, end = run
    if end > start:
        yield Run(start, end)


def data_runs(extents: Iterable[Extent]) -> Iterator[Run]:
    """Return what a full copy must read: everything that is not promised to be zero."""
    return merged(Run(start, start + length) for start, length, flags in extents if not flags & ZERO)


def zero_runs(extents: Iterable[Extent]) -> Iterator[Run]:
    """Return what ``base:allocation`` promises to be zero."""
    return merged(Run(start, start + length) for start, length, flags in extents if flags & ZERO)


def dirty_runs(extents: Iterable[Extent]) -> Iterator[Run]:
    """Return what a dirty bitmap's context marks as changed."""
    return merged(Run(start, start + length) for start, length, flags in extents if flags & DIRTY)


def rounded_out(runs: Iterable[Run], size: int, cluster: int = CLUSTER) -> Iterator[Run]:
    """Grow runs to whole clusters: the rest of a touched cluster is read from the same frozen disk."""
    return merged(Run(start // cluster * cluster, min(round_up(end, cluster), size)) for start, end in runs)


def rounded_in(runs: Iterable[Run], size: int, cluster: int = CLUSTER) -> Iterator[Run]:
    """Shrink runs to the whole clusters within them; the last cluster of the disk is whole when its bytes are."""
    for start, end in runs:
        first = round_up(start, cluster)
        last = end if end == size else end // cluster * cluster
        if first < last:
            yield Run(first, last)


def between(runs: Iterable[Run], start: int, end: int) -> Iterator[Run]:
    """Return what none of ``runs`` covers from ``start`` to ``end``, within which they lie."""
    position = start
    for run in runs:
        if run.start > position:
            yield Run(position, run.start)
        position = run.end
    if position < end:
        yield Run(position, end)


def segments(runs: Iterable[Run], zeros: Iterable[Run]) -> Iterator[Segment]:
    """Split each of ``runs`` into what lies in ``zeros`` and what does not. What lies in ``zeros`` alone is dropped."""
    rest = iter(zeros)
    zero = next(rest, None)
    for start, end in runs:
        position = start
        while position < end:
            while zero is not None and zero.end <= position:
                zero = next(rest, None)
            if zero is None or zero.start >= end:
                yield Segment(position, end, False)
                break
            if zero.start > position:
                yield Segment(position, zero.start, False)
                position = zero.start
            stop = min(zero.end, end)
            yield Segment(position, stop, True)
            position = stop


def tasks(parts: Iterable[Segment]) -> Iterator[Task]:
    """Group segments by block. Whole blocks of zero are not cut into blocks but into L2 tables."""
    reads: list[Run] = []
    zeros: list[Run] = []
    block = -1
    for start, end, zero in _cut(parts):
        if start // BLOCK != block and block >= 0:
            yield Task(block * BLOCK, tuple(reads), tuple(zeros))
            reads, zeros = [], []
        block = start // BLOCK
        (zeros if zero else reads).append(Run(start, end))
    if block >= 0:
        yield Task(block * BLOCK, tuple(reads), tuple(zeros))


def _cut(parts: Iterable[Segment]) -> Iterator[Segment]:
    """Cut segments so that none crosses a block; zeros may hold many whole blocks but cross no L2 table."""
    for start, end, zero in parts:
        position = start
        while position < end:
            stop = min(end, position // BLOCK * BLOCK + BLOCK)
            if zero and position % BLOCK == 0 and end - position >= BLOCK:
                stop = min(end // BLOCK * BLOCK, position // TABLE * TABLE + TABLE)
            yield Segment(position, stop, zero)
            position = stop
