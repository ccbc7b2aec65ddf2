# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The end that is a qcow2 file, written by ourselves.

The file only grows: whatever needs room takes it at the end, under one lock. Data lies in nearly the disk's order::

    header | data ... | L2 of 512 MiB | data ... | L2 | ... | refcount block of 2 GiB | ... | L1 | refcounts

so nothing about the disk need be known beforehand, and memory holds only the L2 tables that are still being filled.
The header is written last: a file that was not finished is no image.
"""

from __future__ import annotations

import array
import os
import sys
import threading
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy import qcow2_format as form
from ansible_collections.virt.backup.plugins.module_utils._copy.direct_file import open_data
from ansible_collections.virt.backup.plugins.module_utils._copy.ends import EndUnfit, write_all
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER, round_up

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.reflink import FileRange

    Words = array.array[int]


class Backing(t.NamedTuple):
    """The backing image, as it is to be stored: a path (relative to the image's folder) and its format."""

    file: str = ""
    format: str = ""


NO_BACKING = Backing()


class Qcow2File:
    """A new qcow2 file. Fulfils :class:`~.ends.FileEnd`.

    ``compress`` turns one cluster into fewer bytes, or into ``None`` when that gains nothing.
    ``direct`` writes data past the page cache; tables and header, clusters of their own, are too few to matter there.
    """

    durable = True

    def __init__(
        self,
        fd: int,
        size: int,
        backing: Backing = NO_BACKING,
        compression: str = "none",
        compress: Callable[[memoryview], bytes | None] | None = None,
        cluster: int = CLUSTER,
        *,
        direct: bool = False,
    ) -> None:
        self._cluster = cluster
        self._table_span = cluster // form.ENTRY_BYTES * cluster
        largest = form.MOST_L1_ENTRIES * self._table_span
        if size > largest:
            remedy = "use a larger cluster_size, or format raw"
            raise EndUnfit(f"is to hold a disk of {size} bytes, and QEMU opens none above {largest}", remedy)
        self._fd = fd
        self._data = open_data(fd, direct=direct, grows=True)
        self._size = round_up(size, 512)
        self._backing = backing
        self._compression = compression
        self._compress = compress
        self._lock = threading.Lock()
        self._room = _Room(fd, cluster)
        self._tables: dict[int, Words] = {}
        self._lowest_end = self._table_span  # no table that is still in memory ends before it
        self._l1 = _words("Q", max(-(-self._size // self._table_span), 1))

    def write(self, offset: int, data: memoryview) -> None:
        """Store clusters that hold data, compressed if this file is."""
        if self._compress is None:
            self._data.write(data, self._take(offset, len(data)))
            return
        for start in range(0, len(data), self._cluster):
            self._write_compressed(offset + start, data[start : start + self._cluster])

    def copy(self, offset: int, ranges: Sequence[FileRange]) -> bool:
        """Store clusters from bytes of other files; a compressed file takes none."""
        if self._compress:
            raise AssertionError("Contract violation: what is to be compressed has to be read")
        return self._data.copy(ranges, self._take(offset, sum(part.length for part in ranges)))

    def zero(self, start: int, end: int) -> None:
        """Mark whole clusters as zero; the range lies within one L2 table."""
        with self._lock:
            table, first = self._table(start)
            last = first + -(-(end - start) // self._cluster)
            table[first:last] = array.array("Q", [form.ZERO_CLUSTER]) * (last - first)

    def settled(self, offset: int) -> None:
        """Write out the L2 tables that end below ``offset``."""
        if offset < self._lowest_end:
            return
        with self._lock:
            self._lowest_end = offset // self._table_span * self._table_span + self._table_span
            done = [index for index in self._tables if (index + 1) * self._table_span <= offset]
            pending = [(self._place_table(index), self._tables.pop(index)) for index in sorted(done)]
        for host, table in pending:
            write_all(self._fd, _big_endian(table), host)

    def finish(self) -> None:
        """Write what describes the data, and the header last of all."""
        self.settled(round_up(self._size, self._table_span))
        l1_offset = self._room.take(len(self._l1) * 8)
        write_all(self._fd, _big_endian(self._l1), l1_offset)
        refcount_offset, refcount_clusters = self._room.write_refcounts()
        os.ftruncate(self._fd, self._room.end)
        first_cluster = form.header(
            size=self._size,
            l1_offset=l1_offset,
            l1_entries=len(self._l1),
            refcount_offset=refcount_offset,
            refcount_clusters=refcount_clusters,
            backing_file=self._backing.file,
            backing_format=self._backing.format,
            compression=self._compression if self._compress else "zlib",
            cluster=self._cluster,
        )
        write_all(self._fd, first_cluster, 0)
        self._data.finish()

    def close(self) -> None:
        """Nothing is held but the file."""
        self._data.close()

    def _take(self, offset: int, length: int) -> int:
        """Map whole clusters to new room and return where that is."""
        with self._lock:
            host = self._room.take(length)
            self._map_data(offset, host, length)
        return host

    def _write_compressed(self, offset: int, cluster: memoryview) -> None:
        if len(cluster) < self._cluster:
            cluster = memoryview(bytearray(cluster).ljust(self._cluster, b"\0"))
        packed = self._compress(cluster) if self._compress else None
        with self._lock:
            if packed is None:
                host = self._room.take(self._cluster)
                self._map_data(offset, host, self._cluster)
            else:
                host = self._room.take_bytes(len(packed))
                table, index = self._table(offset)
                table[index] = form.compressed_entry(host, len(packed), self._cluster)
        self._data.write(cluster if packed is None else packed, host)

    def _map_data(self, offset: int, host: int, length: int) -> None:
        table, first = self._table(offset)
        count = -(-length // self._cluster)  # the disk may end in the last one
        entries = range(form.COPIED | host, form.COPIED | (host + count * self._cluster), self._cluster)
        table[first : first + count] = array.array("Q", entries)

    def _table(self, offset: int) -> tuple[Words, int]:
        """Return the L2 table of a guest offset, and the offset's index in it."""
        index = offset // self._table_span
        if index not in self._tables:
            self._tables[index] = _words("Q", self._cluster // form.ENTRY_BYTES)
        return self._tables[index], offset % self._table_span // self._cluster

    def _place_table(self, index: int) -> int:
        host = self._room.take(self._cluster)
        self._l1[index] = form.COPIED | host
        return host


class _Room:
    """The room in the file, handed out from its growing end, and how often each of its clusters is referred to.

    A refcount block is written as soon as the file has grown past what it describes, 2 GiB with clusters of 64 KiB. Not
    safe for threads.
    """

    def __init__(self, fd: int, cluster: int) -> None:
        self.end = cluster  # the header's
        self._cluster = cluster
        self._per_block = cluster // form.REFCOUNT_BYTES
        self._fd = fd
        self._pack = 0
        self._counts: dict[int, Words] = {}
        self._blocks: list[int] = []
        self._count(0, 1)

    def take(self, length: int) -> int:
        """Return the offset of new whole clusters for ``length`` bytes."""
        host = self.end
        clusters = -(-length // self._cluster)
        self.end += clusters * self._cluster
        self._count(host // self._cluster, clusters)
        self._write_past_blocks()
        return host

    def take_bytes(self, length: int) -> int:
        """Return the offset of room for one compressed cluster, right behind the one before if that is possible.

        Each file cluster it touches counts one reference more.
        """
        room = -self._pack % self._cluster
        if length > room and self._pack + room != self.end:
            self._pack = self.end
            room = 0
        host = self._pack
        first, last = host // self._cluster, (host + length - 1) // self._cluster
        self.end = max(self.end, (last + 1) * self._cluster)
        self._count(first, last - first + 1)
        self._pack += length
        self._write_past_blocks()
        return host

    def write_refcounts(self) -> tuple[int, int]:
        """Write the remaining refcount blocks and the refcount table; return the table's offset and its clusters.

        They count themselves, so room is taken until all of it is covered.
        """
        covered = self._per_block * self._cluster
        table_offset, table_clusters = -1, 1
        while table_offset < 0 or len(self._blocks) * covered < self.end:
            if table_offset < 0:
                # A table cluster names 8192 blocks of 2 GiB; the file may grow by a few clusters while this is done.
                table_clusters = -(-(self.end // covered + 2) // (self._cluster // form.ENTRY_BYTES))
                table_offset = self._take_uncounted(table_clusters)
            self._blocks.append(self._take_uncounted(1))
        for index, host in enumerate(self._blocks):
            if index in self._counts:
                write_all(self._fd, _big_endian(self._counts.pop(index)), host)
        table = _words("Q", table_clusters * (self._cluster // form.ENTRY_BYTES))
        table[: len(self._blocks)] = array.array("Q", self._blocks)
        write_all(self._fd, _big_endian(table), table_offset)
        return table_offset, table_clusters

    def _take_uncounted(self, clusters: int) -> int:
        """Take room without writing blocks that are past, which would take room again."""
        host = self.end
        self.end += clusters * self._cluster
        self._count(host // self._cluster, clusters)
        return host

    def _count(self, first: int, clusters: int) -> None:
        """Count clusters once more, which may lie in several refcount blocks."""
        while clusters:
            index, position = divmod(first, self._per_block)
            here = min(clusters, self._per_block - position)
            if index not in self._counts:
                self._counts[index] = _words("H", self._per_block)
            counts = self._counts[index]
            for cluster in range(position, position + here):
                counts[cluster] += 1
            first += here
            clusters -= here

    def _write_past_blocks(self) -> None:
        """Write the refcount blocks whose 2 GiB are full: nothing will be taken there again.

        The cluster in which compressed data is being packed still counts up, so a block waits for that one too.
        """
        index = len(self._blocks)
        covered = self._per_block * self._cluster
        full = (index + 1) * covered
        if self.end >= full and (not self._pack or self._pack >= full):
            host = self._take_uncounted(1)
            self._blocks.append(host)
            write_all(self._fd, _big_endian(self._counts.pop(index)), host)


def _words(code: str, count: int) -> Words:
    return array.array(code, bytes(array.array(code).itemsize * count))


def _big_endian(words: Words) -> bytes:
    """Return the bytes of ``words`` as qcow2 wants them."""
    if sys.byteorder == "little":
        words = words[:]
        words.byteswap()
    return words.tobytes()
