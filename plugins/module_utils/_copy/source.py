# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The source of a copy: an NBD export, asked window by window what is to be read, so that memory never holds more."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy import plan
from ansible_collections.virt.backup.plugins.module_utils._model.extent import (
    BLOCK,
    CLUSTER,
    WINDOW,
    Extent,
    Run,
    Segment,
    Task,
)
from ansible_collections.virt.backup.plugins.module_utils._nbd import ALLOCATION, BITMAP_PREFIX

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NEAR = 16 * BLOCK
"""Dirty runs nearer to each other share one question for zeroes; else the server is spared the way between."""


class Describer(t.Protocol):
    """What planning needs of a connection."""

    contexts: frozenset[str]

    def extents(self, context: str, start: int, end: int) -> Iterable[Extent]:
        """Return what the context says about a range, ascending and without gaps."""


class FullSource:
    """Everything that is not promised to be zero. Without ``base:allocation`` that is everything."""

    def __init__(self, describer: Describer, size: int, cluster: int = CLUSTER) -> None:
        self._describer = describer
        self._cluster = cluster
        self._size = size
        self.extents = 0

    def segments(self) -> Iterator[Segment]:
        """Yield what to read, ascending; counts the extents on the way."""
        for start, end in _windows(self._size):
            for run in plan.rounded_out(plan.data_runs(self._ask(start, end)), self._size, self._cluster):
                self.extents += 1
                yield Segment(run.start, run.end, False)

    def tasks(self) -> Iterator[Task]:
        """Yield the units of work."""
        return plan.tasks(self.segments())

    def _ask(self, start: int, end: int) -> Iterable[Extent]:
        if ALLOCATION not in self._describer.contexts:
            return [Extent(start, end - start, 0)]
        return self._describer.extents(ALLOCATION, start, end)


class IncrementalSource:
    """What a dirty bitmap marks, in whole clusters, with zeroes told apart.

    ``scanner`` is asked for the bitmap over the whole disk; ``describer`` for zeroes, only near what is dirty, because
    the answer costs a walk through the metadata of the image behind the export. They may be one connection.
    ``clean`` is called with start and end of each range that is not dirty, in order.
    """

    def __init__(
        self,
        scanner: Describer,
        describer: Describer,
        bitmap: str,
        size: int,
        cluster: int = CLUSTER,
        *,
        clean: Callable[[int, int], None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._clean = clean
        self._scanner = scanner
        self._describer = describer
        self._context = BITMAP_PREFIX + bitmap
        self._size = size
        self.extents = 0

    def segments(self) -> Iterator[Segment]:
        """Yield what to read and what to mark as zero, ascending; counts the dirty extents on the way."""
        for start, end in _windows(self._size):
            marked = plan.dirty_runs(self._scanner.extents(self._context, start, end))
            dirty = list(plan.rounded_out(marked, self._size, self._cluster))
            self.extents += len(dirty)
            if self._clean:
                for run in plan.between(dirty, start, end):
                    self._clean(*run)
            for group in _near(dirty):
                yield from plan.segments(group, self._zeroes(group[0].start, group[-1].end))

    def tasks(self) -> Iterator[Task]:
        """Yield the units of work."""
        return plan.tasks(self.segments())

    def _zeroes(self, start: int, end: int) -> Iterable[Run]:
        if ALLOCATION not in self._describer.contexts:
            return []
        zeroes = plan.zero_runs(self._describer.extents(ALLOCATION, start, end))
        return plan.rounded_in(zeroes, self._size, self._cluster)


def _windows(size: int) -> Iterator[Run]:
    for start in range(0, size, WINDOW):
        yield Run(start, min(start + WINDOW, size))


def _near(runs: list[Run]) -> Iterator[list[Run]]:
    """Group runs with gaps smaller than :data:`NEAR`."""
    group: list[Run] = []
    for run in runs:
        if group and run.start - group[-1].end >= NEAR:
            yield group
            group = []
        group.append(run)
    if group:
        yield group
