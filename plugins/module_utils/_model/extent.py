# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Pieces of a disk, and the units of work a copy is cut into. All offsets and lengths are bytes of the guest's disk."""

from __future__ import annotations

import typing as t

CLUSTER = 64 * 1024
"""The grain of everything: the zero check, the digest, and, unless larger ones are asked for, qcow2's clusters."""

CLUSTER_SIZES = tuple(CLUSTER << more for more in range(5))
"""Sizes that an image's clusters may have: whole grains, and never more than a :data:`BLOCK`."""

BLOCK = 1024 * 1024
"""The largest piece that is read, hashed and written as one; blocks start at multiples of it."""

WINDOW = 4096 * BLOCK - BLOCK
"""How much of a disk is planned at once. NBD's 32-bit block status asks for less than 4 GiB; QEMU before 8.2 wants a
cluster of its bitmap less than that, so this is the last multiple of :data:`BLOCK` that suits all."""

TABLE = CLUSTER // 8 * CLUSTER
"""What one L2 table of qcow2 maps (512 MiB); no unit of work crosses a multiple of it."""


class Extent(t.NamedTuple):
    """A range of which the server said the same of every byte; ``flags`` mean what the asked context defines."""

    offset: int
    length: int
    flags: int


class Run(t.NamedTuple):
    """A range from ``start`` up to, not including, ``end``."""

    start: int
    end: int


class Segment(t.NamedTuple):
    """A run with what is to be done: ``zero`` is known to read as zero, all else is to be read."""

    start: int
    end: int
    zero: bool


class Task(t.NamedTuple):
    """One unit of work: the ranges to read and the ranges known to be zero, ascending, within one block.

    A task without reads may span many blocks, all of it zero, within one L2 table.
    All ranges begin and end at clusters, or end with the disk.
    """

    offset: int
    reads: tuple[Run, ...]
    zeros: tuple[Run, ...]

    @property
    def end(self) -> int:
        """The end of the last range."""
        if not self.zeros:
            return self.reads[-1].end
        return max(self.zeros[-1].end, self.reads[-1].end if self.reads else 0)


def round_up(number: int, multiple: int) -> int:
    """Return the smallest multiple of ``multiple`` that is not less than ``number``."""
    return -(-number // multiple) * multiple


def bits_to_runs(mask: int) -> t.Iterator[tuple[int, int]]:
    """Yield the runs of ones in ``mask`` as (first bit, bit after the last), lowest first.

    >>> list(bits_to_runs(0b0110111))
    [(0, 3), (4, 6)]
    """
    position = 0
    while mask:
        skip = (mask & -mask).bit_length() - 1
        mask >>= skip
        position += skip
        count = (~mask & (mask + 1)).bit_length() - 1
        yield position, position + count
        mask >>= count
        position += count
