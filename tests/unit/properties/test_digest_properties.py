# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a digest promises, whatever its construction: the same for the same content, another for any other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.virt.backup.plugins.module_utils._copy.digest import content_digest
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER

Cluster = tuple[bytes, bool]
"""The byte a cluster is full of, and whether the image holds it."""

clusters = st.lists(st.tuples(st.sampled_from((b"\0", b"a", b"b")), st.booleans()), min_size=1, max_size=40)
short = st.sampled_from((0, 1, 511, 512, 60000))


def digest(content: bytes, held: list[bool], *, incremental: bool) -> str:
    """Return the digest of a disk whose clusters are held or not; what is not held is another image's matter."""
    blocks = []
    for offset in range(0, len(content), BLOCK):
        block = content[offset : offset + BLOCK]
        first = offset // CLUSTER
        count = -(-len(block) // CLUSTER)
        mask = sum(1 << bit for bit in range(count) if held[first + bit] or not incremental)
        if mask:
            blocks.append((offset, mask, block))
    return content_digest(len(content), blocks, incremental=incremental)


def disk_of(disk: list[Cluster], less: int) -> bytes:
    content = b"".join(fill * CLUSTER for fill, _held in disk)
    return content[: len(content) - less]


@given(disk=clusters, less=short, incremental=st.booleans(), where=st.floats(0, 1, exclude_max=True))
def test_any_byte_that_is_held_counts(disk: list[Cluster], less: int, incremental: bool, where: float) -> None:
    content, held = disk_of(disk, less), [held for _fill, held in disk]
    at = int(where * len(content))
    changed = bytearray(content)
    changed[at] ^= 1
    same = incremental and not held[at // CLUSTER]
    before = digest(content, held, incremental=incremental)
    assert (digest(bytes(changed), held, incremental=incremental) == before) == same


@given(disk=clusters, less=short, where=st.floats(0, 1, exclude_max=True))
def test_an_increment_s_digest_tells_what_it_holds(disk: list[Cluster], less: int, where: float) -> None:
    """A zero cluster that is missing would show old data through the backing image."""
    content, held = disk_of(disk, less), [held for _fill, held in disk]
    other = list(held)
    other[int(where * len(held))] ^= True
    assert digest(content, held, incremental=True) != digest(content, other, incremental=True)


@given(disk=clusters, less=short, more=st.integers(1, 3 * CLUSTER))
def test_the_size_counts_in_sectors(disk: list[Cluster], less: int, more: int) -> None:
    content = disk_of(disk, less)
    longer = content + bytes(more)
    held = [True] * (-(-len(longer) // CLUSTER))
    same = -(-len(content) // 512) == -(-len(longer) // 512)
    assert (digest(content, held, incremental=False) == digest(longer, held, incremental=False)) == same
