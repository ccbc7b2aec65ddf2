# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The whole content of a chain, from the lists of digests of its images; ``docs/internals/digest.md`` says why.

What shows through a chain is a disk, and so has a list like that of a full image. It is merged here from the lists of
the images, one block at a time, in memory that does not grow with the disk.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import operator
import struct
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy import digest
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER, bits_to_runs, round_up

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_HEADER = len(digest.MAGIC) + 8
_LARGEST = 2**63 - 1


class BadList(Exception):
    """A list of digests that is none, or that its chain can't have; the message completes "it ..."."""


class Record(t.NamedTuple):
    """A block's record; ``hashes`` are those of the clusters in the mask ``data``, one behind the other."""

    offset: int
    data: int
    zero: int
    hashes: bytes


class Layer(t.NamedTuple):
    """The list of one image: its disk's size in bytes, and its records, which are read as they are needed."""

    size: int
    records: Iterator[Record]


class Difference(t.NamedTuple):
    """A range that does not read as its digests say, and the layer that holds it, the full image being 0."""

    start: int
    end: int
    layer: int


def read_list(file: t.BinaryIO) -> Layer:
    """Return the list in ``file``; this, and later its records, may raise :class:`BadList`."""
    head = file.read(_HEADER)
    if len(head) != _HEADER or not head.startswith(digest.MAGIC):
        raise BadList("is no list of digests")
    (size,) = struct.unpack_from(">Q", head, len(digest.MAGIC))
    if size > _LARGEST:
        raise BadList("is of a disk larger than any")
    return Layer(size, _records(file, size))


def _records(file: t.BinaryIO, size: int) -> Iterator[Record]:
    last, length = -1, digest.RECORD.size
    while True:
        head = file.read(length)
        if not head:
            return
        if len(head) != length:
            raise BadList("ends within a record")
        offset, data, zero = digest.RECORD.unpack(head)
        if offset <= last or offset % BLOCK or offset >= size or data & zero or not data | zero:
            raise BadList(f"has a wrong record behind the one at {max(last, 0)}")
        hashes = file.read(bin(data).count("1") * digest.HASH_BYTES)
        if len(hashes) != bin(data).count("1") * digest.HASH_BYTES:
            raise BadList("ends within a record")
        last = offset
        yield Record(offset, data, zero, hashes)


def root(layers: Sequence[Layer]) -> str:
    """Return the digest of all that shows through a chain: the one that a full image of that content has.

    ``layers`` begin with the full image. Raises :class:`BadList`, also where the lists can't tell.
    """
    total = hashlib.sha256(digest.header(layers[-1].size))
    for record in _shown(layers):
        total.update(digest.record(record.offset, record.data, 0, record.hashes))
    return f"sha256:{total.hexdigest()}"


def differences(layers: Sequence[Layer], blocks: Iterable[tuple[int, bytes]]) -> Iterator[Difference]:
    """Yield what differs from the lists, ascending, in whole clusters; a neighbour in the same layer is joined.

    ``blocks`` are (offset, content) of the whole disk as it shows through the chain: every block, ascending, whole but
    for one that ends with the disk.
    """
    size = layers[-1].size
    limits = _limits(layers)
    groups = _groups(layers)
    offset, held = next(groups, (size, []))
    found: Difference | None = None
    for at, content in blocks:
        while offset < at:
            offset, held = next(groups, (size, []))
        records = held if offset == at else []
        for index in _differing(_merge(at, records, limits), content):
            start = at + index * CLUSTER
            new = Difference(start, min(start + CLUSTER, size), _holder(records, index))
            if found and (found.end, found.layer) == (new.start, new.layer):
                found = found._replace(end=new.end)
                continue
            if found:
                yield found
            found = new
    if found:
        yield found


def _differing(record: Record, content: bytes) -> list[int]:
    """Return which clusters of a block are not what the record says."""
    padded = content.ljust(round_up(len(content), CLUSTER), b"\0")
    data = digest.data_mask(padded)
    if (data, digest.cluster_hashes(padded, data)) == (record.data, record.hashes):
        return []
    wanted = _by_cluster(record)
    found = _by_cluster(Record(record.offset, data, 0, digest.cluster_hashes(padded, data)))
    return [index for index in range(BLOCK // CLUSTER) if wanted.get(index) != found.get(index)]


def _holder(records: Sequence[tuple[int, Record]], index: int) -> int:
    """Return the topmost layer that holds a cluster of a block; what none holds is zero in the full image."""
    return max((layer for layer, record in records if (record.data | record.zero) >> index & 1), default=0)


def _shown(layers: Sequence[Layer]) -> Iterator[Record]:
    """Yield the records of what shows through the chain, as those of a full image."""
    limits = _limits(layers)
    for offset, records in _groups(layers):
        record = _merge(offset, records, limits)
        if record.data:
            yield record


def _groups(layers: Sequence[Layer]) -> Iterator[tuple[int, list[tuple[int, Record]]]]:
    """Yield for each block that any layer has a record of: its offset, and (layer, record) from the bottom up."""
    sources = [zip(itertools.repeat(number), layer.records) for number, layer in enumerate(layers)]
    merged = heapq.merge(*sources, key=lambda item: item[1].offset)  # stable, so the layers stay in order
    for offset, group in itertools.groupby(merged, key=lambda item: item[1].offset):
        yield offset, list(group)


def _limits(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """Return for each layer up to where it shows, and its own size.

    What lies beyond the end of an image reads as zero in all above it: also when those are longer again.
    """
    shown = itertools.accumulate((layer.size for layer in reversed(layers)), min)
    return list(zip(reversed(list(shown)), map(operator.attrgetter("size"), layers)))


def _merge(offset: int, records: Sequence[tuple[int, Record]], limits: Sequence[tuple[int, int]]) -> Record:
    """Lay a block's records on each other."""
    if len(records) == 1 and offset + BLOCK <= limits[records[0][0]][0]:
        return records[0][1]._replace(zero=0)
    shown: dict[int, tuple[int, bytes]] = {}
    for layer, record in records:
        for first, last in bits_to_runs(record.zero):
            for index in range(first, last):
                shown.pop(index, None)
        shown.update((index, (layer, content)) for index, content in _by_cluster(record).items())
    visible = {}
    for index, (layer, content) in sorted(shown.items()):
        start, (limit, size) = offset + index * CLUSTER, limits[layer]
        if start < limit < min(start + CLUSTER, size):
            raise BadList(f"has a cluster at {start} of which an image above, of {limit} bytes, shows only a part")
        if start < limit:
            visible[index] = content
    return Record(offset, sum(1 << index for index in visible), 0, b"".join(visible.values()))


def _by_cluster(record: Record) -> dict[int, bytes]:
    """Return the hash of each cluster with data."""
    length = digest.HASH_BYTES
    indexes = (index for first, last in bits_to_runs(record.data) for index in range(first, last))
    return {index: record.hashes[at * length : (at + 1) * length] for at, index in enumerate(indexes)}
