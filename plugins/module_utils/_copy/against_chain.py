# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Did the bitmap tell the truth? The frozen disk and the chain below its increment, read at the same clean places.

``docs/internals/clean-sample.md`` says what this finds, and how likely it is to miss it.
"""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.digest import ZEROS
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER, Run

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ansible_collections.virt.backup.plugins.module_utils._copy.engine import Reader

CANDIDATES = 8
"""Clusters that are drawn for each that is wanted: of a disk that is half empty, half of them are zero in the chain."""

_AHEAD = 8  # clusters on their way while one is compared


class Below(t.Protocol):
    """What is needed of a chain."""

    def holds(self, run: Run) -> bool:
        """Whether it holds something there; else it reads as zero."""

    def start(self, into: bytearray, run: Run) -> list[int]:
        """Ask for the bytes. What lies beyond its end is zero."""

    def finish(self, cookies: list[int]) -> None:
        """Wait for them."""


class Findings(t.NamedTuple):
    """How many clusters were compared, and which of them differ, ascending."""

    compared: int
    differing: tuple[Run, ...]


class _Flight(t.NamedTuple):
    run: Run
    disk: bytearray
    of_disk: list[int]
    below: bytearray
    of_below: list[int]


class Comparison:
    """Compares clusters, a few of them on their way at a time, in blocks that are used again.

    ``wanted`` is the number of clusters of each kind: of those that the chain holds, and of those that are zero in it.
    ``before_read`` is called with the length of each read that is expected to bring data.
    """

    def __init__(self, export: Reader, below: Below, wanted: int, before_read: Callable[[int], None]) -> None:
        self._export = export
        self._below = below
        self._wanted = wanted
        self._before_read = before_read
        self._flights: collections.deque[_Flight] = collections.deque()
        self._idle: list[bytearray] = []
        self._seen: set[Run] = set()
        self._differing: list[Run] = []
        self._held = self._zero = 0

    @property
    def few(self) -> bool:
        """Whether less than what is wanted of clusters that the chain holds came by."""
        return self._held < self._wanted

    def take(self, drawn: Iterable[Run]) -> None:
        """Compare clean clusters in the order given, until there are enough."""
        for run in drawn:
            if self._held == self._wanted:
                return
            if self._below.holds(run):
                self._take_held(run)
            elif self._zero < self._wanted:
                self._zero += 1
                self._start(run, held=False)

    def take_held(self, drawn: Iterable[Run], is_clean: Callable[[Run], bool]) -> None:
        """Compare what is clean among clusters that the chain holds, until there are enough."""
        for run in drawn:
            if self._held == self._wanted:
                return
            if run not in self._seen and is_clean(run):
                self._take_held(run)

    def end(self) -> Findings:
        """Wait for what is on its way."""
        while self._flights:
            self._finish()
        return Findings(len(self._seen), tuple(sorted(self._differing)))

    def _take_held(self, run: Run) -> None:
        self._held += 1
        self._before_read(run.end - run.start)
        self._start(run, held=True)

    def _start(self, run: Run, *, held: bool) -> None:
        if len(self._flights) > _AHEAD:
            self._finish()
        length = run.end - run.start
        disk, below = self._block(length), self._block(length) if held else bytearray()
        of_disk = self._export.start_read(memoryview(disk), run.start)
        of_below = self._below.start(below, run) if held else []
        self._flights.append(_Flight(run, disk, of_disk, below, of_below))
        self._seen.add(run)

    def _block(self, length: int) -> bytearray:
        return self._idle.pop() if self._idle and length == CLUSTER else bytearray(length)

    def _finish(self) -> None:
        flight = self._flights.popleft()
        self._export.finish_read(flight.of_disk)
        self._below.finish(flight.of_below)
        if flight.disk != (flight.below or ZEROS[: len(flight.disk)]):
            self._differing.append(flight.run)
        self._idle += [block for block in (flight.disk, flight.below) if len(block) == CLUSTER]
