# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of a chain from the lists of its images, against chains that are read byte by byte."""

from __future__ import annotations

import io
import random
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy import digest
from ansible_collections.virt.backup.plugins.module_utils._copy.content import (
    BadList,
    Difference,
    Layer,
    differences,
    root,
)
from ansible_collections.virt.backup.plugins.module_utils._copy.content import read_list as read
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER, round_up

Held = dict[int, bytes]
"""What an image holds: the content of its clusters, by their number."""


class Image(t.NamedTuple):
    """One image of a chain that lives in memory; ``size`` in bytes."""

    size: int
    held: Held

    def listed(self, *, incremental: bool) -> bytes:
        """Return the list of digests, as the reference makes it."""
        blocks = []
        for offset in range(0, self.size, BLOCK):
            numbers = range(offset // CLUSTER, -(-min(offset + BLOCK, self.size) // CLUSTER))
            covered = sum(1 << number - numbers[0] for number in numbers if number in self.held)
            content = b"".join(self.held.get(number, bytes(CLUSTER)) for number in numbers)
            blocks.append((offset, covered if incremental else (1 << len(numbers)) - 1, content))
        return b"".join(digest.content_list(self.size, blocks, incremental=incremental))


def show(images: t.Sequence[Image]) -> bytes:
    """Read a chain from the top, as QEMU does: what lies beyond the end of an image is zero to those above."""
    shown = b""
    for image in images:
        below = bytearray(shown[: image.size].ljust(image.size, b"\0"))
        for number, content in image.held.items():
            end = min((number + 1) * CLUSTER, image.size)
            below[number * CLUSTER : end] = content[: end - number * CLUSTER]
        shown = bytes(below)
    return shown


def layers(images: t.Sequence[Image]) -> list[Layer]:
    return [read(io.BytesIO(image.listed(incremental=bool(number)))) for number, image in enumerate(images)]


def blocks_of(content: bytes) -> list[tuple[int, bytes]]:
    return [(offset, content[offset : offset + BLOCK]) for offset in range(0, len(content), BLOCK)]


def full_digest(content: bytes) -> str:
    blocks = [(offset, 0xFFFF, block) for offset, block in blocks_of(content)]
    return digest.content_digest(len(content), blocks, incremental=False)


def random_chain(seed: int) -> list[Image]:
    """Return a chain of one to five images; each is as long as the one below, or longer, or shorter."""
    chance = random.Random(seed)
    images: list[Image] = []
    size = 512 * chance.randrange(1, 3 * BLOCK // 512)
    for number in range(chance.randrange(1, 6)):
        if number and chance.random() < 0.4:
            size = CLUSTER * chance.randrange(1, 3 * BLOCK // CLUSTER)
        clusters = -(-size // CLUSTER)
        touched = chance.sample(range(clusters), chance.randrange(clusters + 1))
        held = {}
        for index in touched:
            length = min(CLUSTER, size - index * CLUSTER)
            held[index] = (bytes([chance.choice([0, 1, 2, 3])]) * length).ljust(CLUSTER, b"\0")
        images.append(Image(size, held))
    return images


@pytest.mark.parametrize("seed", range(60))
def test_the_root_is_the_digest_of_a_full_image_of_the_same_content(seed: int) -> None:
    images = random_chain(seed)
    content = show(images)
    sizes = [image.size for image in images]
    if any(size % CLUSTER and size > min(sizes[at:]) for at, size in enumerate(sizes)):
        images[0] = Image(round_up(sizes[0], CLUSTER), images[0].held)
        content = show(images)
    assert root(layers(images)) == full_digest(content)
    assert list(differences(layers(images), blocks_of(content))) == []


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_is_found_with_the_layer_that_holds_it(seed: int) -> None:
    chance = random.Random(seed)
    images = [Image(round_up(image.size, CLUSTER), image.held) for image in random_chain(seed)]
    content = bytearray(show(images))
    at = chance.randrange(len(content))
    content[at] ^= 1 << chance.randrange(8)
    start = at // CLUSTER * CLUSTER
    holders = [number for number, image in enumerate(images) if at // CLUSTER in image.held]
    found = list(differences(layers(images), blocks_of(bytes(content))))
    assert [(one.start, one.end) for one in found] == [(start, start + CLUSTER)]
    assert found[0].layer == (holders[-1] if holders and holders[-1] else 0)


def test_neighbours_in_one_layer_are_one_range() -> None:
    size = 2 * BLOCK + 512
    images = [Image(size, dict.fromkeys(range(33), b"a" * CLUSTER)), Image(size, {3: b"b" * CLUSTER})]
    images[0].held[32] = b"a" * 512 + bytes(CLUSTER - 512)
    bad = bytes(size)
    assert list(differences(layers(images), blocks_of(bad))) == [
        Difference(0, 3 * CLUSTER, 0),
        Difference(3 * CLUSTER, 4 * CLUSTER, 1),
        Difference(4 * CLUSTER, size, 0),
    ]


def test_data_where_all_layers_are_zero() -> None:
    image = Image(3 * BLOCK, {})
    content = bytearray(3 * BLOCK)
    content[BLOCK + CLUSTER] = 1
    assert list(differences(layers([image, image]), blocks_of(bytes(content)))) == [
        Difference(BLOCK + CLUSTER, BLOCK + 2 * CLUSTER, 0)
    ]


def test_a_disk_that_shrank_within_a_cluster_and_did_not_store_it() -> None:
    """The digest of the whole cluster says nothing about a part of it."""
    full, small = Image(BLOCK, {1: b"a" * CLUSTER}), Image(CLUSTER + 512, {})
    with pytest.raises(BadList, match="a cluster at 65536 of which an image above, of 66048 bytes, shows only a part"):
        root(layers([full, small]))
    stored = Image(CLUSTER + 512, {1: b"b" * 512 + bytes(CLUSTER - 512)})
    assert root(layers([full, stored])) == full_digest(show([full, stored]))


def test_memory_does_not_grow_with_the_disk() -> None:
    """A record is dropped before the next is read: the list is longer than what is ever held of it."""

    class Counted(io.BytesIO):
        most = 0

        def read(self, length: int | None = -1) -> bytes:
            assert length is not None
            assert 0 <= length <= 1024
            return super().read(length)

    record = b"".join(digest.record(offset, 1, 0, bytes(32)) for offset in range(0, 4096 * BLOCK, BLOCK))
    assert root([read(Counted(digest.header(4096 * BLOCK) + record))]).startswith("sha256:")


HEAD = digest.header(2 * BLOCK)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no list"),
        (b"virt.backup content 2\n" + bytes(8), "is no list"),
        (HEAD[:-1], "is no list"),
        (HEAD + digest.record(0, 1, 0), "ends within a record"),
        (HEAD + digest.record(0, 1, 0, bytes(32))[:5], "ends within a record"),
        (HEAD + digest.record(512, 1, 0, bytes(32)), "wrong record"),
        (HEAD + digest.record(2 * BLOCK, 1, 0, bytes(32)), "wrong record"),
        (HEAD + digest.record(BLOCK, 0, 1) + digest.record(0, 0, 1), "wrong record behind the one at 1048576"),
        (HEAD + digest.record(0, 0, 1) * 2, "wrong record"),
        (HEAD + digest.record(0, 1, 1, bytes(32)), "wrong record"),
        (HEAD + digest.record(0, 0, 0), "wrong record"),
    ],
)
def test_what_is_no_list(content: bytes, words: str) -> None:
    with pytest.raises(BadList, match=words):
        root([read(io.BytesIO(content))])
