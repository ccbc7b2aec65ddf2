# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk in memory that a guest changes, with a dirty bitmap, told as the extents of a server that may tell them oddly."""

from __future__ import annotations

import itertools
import typing as t

from ansible_collections.virt.backup.tests.integration.nbd_fake import ALLOCATION, BITMAP, Disk, Manners

if t.TYPE_CHECKING:
    import random

DIRTY, HOLE, ZERO = 1, 1, 2


class ModelDisk:
    """Bytes, and what changed since the bitmap began. Sizes are any number of bytes; nothing here knows of clusters."""

    def __init__(self, size: int, chance: random.Random) -> None:
        self.content = bytearray(size)
        self._chance = chance
        self._granularity = 512
        self._dirty: set[int] = set()

    def begin_bitmap(self, granularity: int) -> None:
        """Forget what changed, and record from now on."""
        self._granularity = granularity
        self._dirty = set()

    def change(self, times: int) -> None:
        """Write anywhere, of any length: data or zeroes."""
        size = len(self.content)
        for _unused in range(times):
            start = self._chance.randrange(size)
            length = min(self._chance.choice([1, 511, 4096, 65536, 70000, 300001, 2**20]), size - start)
            self.content[start : start + length] = self._data(length)
            self._dirty |= set(range(start // self._granularity, (start + length - 1) // self._granularity + 1))

    def served(self, *, allocation: bool = True) -> Disk:
        """Return what a server serves of this moment. To QEMU it is told no allocation: it takes any hole for zeroes."""
        grain = self._chance.choice([512 if len(self.content) < 2**20 else 4096, 4096, 65536])
        kinds = [self._kind(start, grain) for start in range(0, len(self.content), grain)]
        count = -(-len(self.content) // self._granularity)
        dirty = [DIRTY if number in self._dirty else 0 for number in range(count)]
        contexts = {BITMAP: self._extents(dirty, self._granularity)}
        if allocation:
            contexts[ALLOCATION] = self._extents(kinds, grain)
        return Disk(bytes(self.content), contexts)

    def _data(self, length: int) -> bytes:
        kind = self._chance.randrange(4)
        if kind == 0:
            return bytes(length)
        return self._chance.randbytes(length) if kind == 1 else bytes([self._chance.randrange(1, 256)]) * length

    def _kind(self, start: int, grain: int) -> int:
        """Return the flags of a piece: zeroes may be promised or not, and a hole may hold anything."""
        if any(self.content[start : start + grain]):
            return self._chance.choice([0, 0, 0, HOLE])
        return self._chance.choice([ZERO, ZERO | HOLE, ZERO | HOLE, HOLE, 0])

    def _extents(self, flags: list[int], grain: int) -> list[tuple[int, int]]:
        """Return the extents, merged or left in pieces, the last of them cut to the disk."""
        if self._chance.random() < 0.3:
            groups = [(flag, 1) for flag in flags]
        else:
            groups = [(flag, len(list(group))) for flag, group in itertools.groupby(flags)]
        extents = [(count * grain, flag) for flag, count in groups]
        beyond = len(flags) * grain - len(self.content)
        return [*extents[:-1], (extents[-1][0] - beyond, extents[-1][1])]


def odd_manners(chance: random.Random) -> Manners:
    """Return any manners that the protocol allows."""
    several = chance.random() < 0.7
    return Manners(
        multi_conn=several,
        cuts=tuple(chance.choice([1, 2, 7, 10**9]) for _unused in range(chance.choice([1, 2]))),
        overshoot=chance.random() < 0.5,
        piece=chance.choice([4096, 33333, 2**32]),
        insists=chance.choice([(0, 0), (0, 0), (1, 65536), (1, 1000000)]),
        admits=10**9 if several else 1,
    )
