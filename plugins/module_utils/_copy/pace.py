# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""How many blocks each connection of an image has in flight: few when the server is near, more when the way is long.

A link is full when round-trip time x bandwidth is on its way: 12.5 MB for 1 Gbit/s and 100 ms. Near a server all that
only fills the processor's caches, so the depth grows (:func:`deeper`, pure) while a growth pays, and never shrinks:
what it may cost is bounded by :data:`MOST_OF_AN_IMAGE` and by the :class:`Budget` that all images of a call share.
"""

from __future__ import annotations

import threading
import time
import typing as t

DEPTH = 1
LONE_DEPTH = 4
"""Blocks in flight: on each of several connections, which overlap each other, and on a lone one. More of them only fill
the processor's caches when the server is near: 2 on each of 4 connections cost a tenth more CPU."""

NEAR = 0.002
"""Seconds of a round trip below which no greater depth is tried: 4 connections with a block each still get 1.4 GiB/s.
The fastest answer of all connections counts: a busy machine is no long way."""

FAR = 0.02
"""Seconds of a round trip above which a second probe tells nothing new, and the depth grows in larger steps."""

PROBES = 3
"""Small reads with which each connection begins, until one of them shows that the server is near, or surely far."""

SHORTEST = 0.1
"""Seconds over which a rate is measured at least; within less it is chance."""

GAIN = 1.25
"""How much faster a greater depth must have been to grow again; on a link that is not full it is 2 or more."""

MOST_OF_AN_IMAGE = 32
MOST_OF_A_CALL = 128
"""Blocks in flight, of an image in all and of a call above the first of each worker. 1 Gbit/s and 100 ms need 12 full
blocks, and on a disk of many small pieces a block is less than half full. A call of 16 images stays below 256 MiB."""


def deeper(depth: int, most: int, round_trip: float, rate: float, rate_before: float) -> int:
    """Return the depth to go on with; equal to ``depth`` when more would not help.

    ``rate`` is what all connections got per second at ``depth``, ``rate_before`` at the depth before, or 0.
    """
    if round_trip < NEAR or rate < rate_before * GAIN:
        return depth
    return max(depth, min(depth * (4 if round_trip >= FAR else 2), most))


class Budget:
    """Blocks that all images of a call may hold beyond the first of each worker. Safe for threads."""

    def __init__(self, blocks: int = MOST_OF_A_CALL) -> None:
        self._left = blocks
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one, if there is one left."""
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            return True

    def give_back(self, blocks: int) -> None:
        """Return what was taken."""
        with self._lock:
            self._left += blocks


class Pace:
    """The depth of all connections of one image. Safe for threads.

    It is looked at again when twice as many blocks have arrived as were in flight, and not before :data:`SHORTEST`.
    """

    def __init__(
        self,
        depth: int = DEPTH,
        workers: int = 1,
        budget: Budget | None = None,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self.depth = depth
        self.budget = budget or Budget()
        self.clock = clock
        self._workers = workers
        self._most = MOST_OF_AN_IMAGE // workers
        self._lock = threading.Lock()
        self._round_trip = float("inf")
        self._rate_before = 0.0
        self._growing = True
        self._restart()

    @property
    def near(self) -> bool:
        """Whether some answer came so fast that the way can't be long."""
        return self._round_trip < NEAR

    @property
    def far(self) -> bool:
        """Whether all answers took so long that it can't be chance."""
        return FAR <= self._round_trip < float("inf")

    def answered(self, seconds: float) -> None:
        """Learn how long a read took on a connection that had nothing else to do."""
        if seconds < self._round_trip:
            self._round_trip = seconds

    def arrived(self, length: int) -> None:
        """Learn that a block of ``length`` bytes is there."""
        if not self._growing or not length:
            return
        with self._lock:
            self._blocks += 1
            self._bytes += length
            seconds = self.clock() - self._began
            if self._blocks >= 2 * self._workers * self.depth and seconds >= SHORTEST:
                self._decide(self._bytes / seconds)

    def _decide(self, rate: float) -> None:
        depth = deeper(self.depth, self._most, self._round_trip, rate, self._rate_before)
        self._growing = depth > self.depth
        self.depth, self._rate_before = depth, rate
        self._restart()

    def _restart(self) -> None:
        self._began = self.clock()
        self._blocks = self._bytes = 0
