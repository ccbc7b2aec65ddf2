# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any qcow2 image: what is written into it, and what it then has to show."""

from __future__ import annotations

import os
import random
import typing as t

from hypothesis import strategies as st

from ansible_collections.virt.backup.plugins.module_utils._copy.compress import compressor
from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2 import Backing, Qcow2File
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER, TABLE

if t.TYPE_CHECKING:
    from pathlib import Path

PER_BLOCK = BLOCK // CLUSTER
FILLS = ("zeroes", "ones", "noise", "half")


class Piece(t.NamedTuple):
    """Clusters that are written or marked as zero, ``gap`` clusters after the piece before; cut at the next block."""

    gap: int
    count: int
    fill: str


class Case(t.NamedTuple):
    """A whole image. ``less`` is what its last cluster lacks, ``beyond`` how many clusters follow the last piece."""

    pieces: list[Piece]
    beyond: int
    less: int
    backing: str
    compression: str
    shuffle: int

    @property
    def placed(self) -> list[tuple[int, int, str]]:
        """The pieces as (first cluster, number of clusters, fill), none across a block."""
        found, position = [], 0
        for gap, count, fill in self.pieces:
            position += gap
            most = PER_BLOCK - position % PER_BLOCK
            found.append((position, min(count, most), fill))
            position += min(count, most)
        return found

    @property
    def size(self) -> int:
        last = max((first + count for first, count, _fill in self.placed), default=0)
        return max((last + self.beyond) * CLUSTER - self.less, 512)

    def contents(self) -> dict[int, bytes]:
        """Return what each cluster that was named has to show."""
        chance = random.Random(self.shuffle)
        named = [(first + number, fill) for first, count, fill in self.placed for number in range(count)]
        contents = {number: _content(fill, chance) for number, fill in named}
        # Past the end of the disk content is zero: that is the contract of an end.
        return {
            number: content[: self.size - number * CLUSTER].ljust(CLUSTER, b"\0")
            for number, content in contents.items()
        }


def _content(fill: str, chance: random.Random) -> bytes:
    if fill == "zeroes":
        return bytes(CLUSTER)
    if fill == "ones":
        return b"\1" * CLUSTER
    noise = chance.getrandbits(8 * CLUSTER).to_bytes(CLUSTER, "little")
    return noise if fill == "noise" else noise[: CLUSTER // 2].ljust(CLUSTER, b"x")


def cases(*compressions: str) -> st.SearchStrategy[Case]:
    """Return any image of these compressions. Large gaps reach into other L2 tables and cost nothing."""
    gaps = st.one_of(st.integers(0, 20), st.sampled_from((TABLE // CLUSTER - 1, TABLE // CLUSTER, 20000)))
    pieces = st.builds(Piece, gaps, st.integers(1, PER_BLOCK), st.sampled_from(FILLS))
    return st.builds(
        Case,
        st.lists(pieces, max_size=6),
        st.sampled_from((0, 0, 1, 17, TABLE // CLUSTER)),
        st.sampled_from((0, 0, 1, 511, 512, 40000)),
        st.sampled_from(("", "base.qcow2", "../20261123T021500Z-7f3a/vda.qcow2", "ü" * 500)),
        st.sampled_from(compressions),
        st.integers(0, 2**32),
    )


def write(case: Case, path: Path) -> None:
    """Make the image with the collection's writer: pieces in any order, as several workers would."""
    backing = Backing(case.backing, "qcow2") if case.backing else Backing()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        end = Qcow2File(fd, case.size, backing, case.compression, compressor(case.compression))
        contents = case.contents()
        order = list(case.placed)
        random.Random(case.shuffle).shuffle(order)
        for first, count, fill in order:
            if fill == "zeroes":
                end.zero(first * CLUSTER, min((first + count) * CLUSTER, case.size))
            else:
                content = b"".join(contents[number] for number in range(first, first + count))
                end.write(first * CLUSTER, memoryview(bytearray(content)))
        end.settled(case.size)
        end.finish()
    finally:
        os.close(fd)
