# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small reader of qcow2, made from QEMU's docs/interop/qcow2.txt alone: no number in it comes from the writer.

It reads any cluster size and any refcount width, and is stricter than QEMU: every bit that the specification reserves
must be zero, and every cluster of the file must have just the references that its refcount says.
"""

from __future__ import annotations

import collections
import struct
import typing as t
import zlib

_FIELDS = (
    ("magic", 0, "4s"), ("version", 4, "I"), ("backing_offset", 8, "Q"), ("backing_size", 16, "I"),
    ("cluster_bits", 20, "I"), ("size", 24, "Q"), ("crypt_method", 32, "I"), ("l1_size", 36, "I"), ("l1_offset", 40, "Q"),
    ("refcount_offset", 48, "Q"), ("refcount_clusters", 56, "I"), ("snapshots", 60, "I"), ("snapshots_offset", 64, "Q"),
    ("incompatible", 72, "Q"), ("compatible", 80, "Q"), ("autoclear", 88, "Q"), ("refcount_order", 96, "I"),
    ("header_length", 100, "I"), ("compression_type", 104, "B"),
)  # fmt: skip
_BACKING_FORMAT = 0xE2792ACA
_OFFSET = (1 << 56) - (1 << 9)
_COPIED, _COMPRESSED, _ZERO = 1 << 63, 1 << 62, 1


class Image:
    """An image, read from the bytes of its file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.header: dict[str, t.Any] = {
            name: struct.unpack_from(f">{code}", data, offset)[0] for name, offset, code in _FIELDS
        }
        self.cluster = 1 << self.header["cluster_bits"]
        self.references: collections.Counter[int] = collections.Counter()
        self._check_header()
        self.backing_format = self._read_extensions()
        self.entries = self._read_tables()
        self._check_refcounts()

    @property
    def backing_file(self) -> str:
        start, length = self.header["backing_offset"], self.header["backing_size"]
        return self.data[start : start + length].decode()

    def read(self, number: int) -> bytes | None:
        """Return a cluster's content, or ``None`` if the image does not hold it."""
        entry = self.entries.get(number, 0)
        if entry & _COMPRESSED:
            return self._decompress(entry)
        if entry & _ZERO:
            return bytes(self.cluster)
        if not entry & _OFFSET:
            return None
        start = entry & _OFFSET
        return self.data[start : start + self.cluster].ljust(self.cluster, b"\0")

    def _check_header(self) -> None:
        header = self.header
        assert (header["magic"], header["version"]) == (b"QFI\xfb", 3)
        assert 9 <= header["cluster_bits"] <= 21
        assert len(self.data) % self.cluster == 0
        assert header["size"] % 512 == 0
        assert (header["crypt_method"], header["snapshots"], header["snapshots_offset"]) == (0, 0, 0)
        assert header["header_length"] >= 104
        assert header["header_length"] % 8 == 0
        # A compression type other than zlib is an incompatible feature; no other one is known here.
        assert header["incompatible"] == (1 << 3 if header["compression_type"] else 0)
        assert (header["compatible"], header["autoclear"]) == (0, 0)
        assert header["refcount_order"] <= 6
        for table in ("l1_offset", "refcount_offset"):
            assert header[table] % self.cluster == 0
            assert header[table] > 0
        assert header["backing_offset"] + header["backing_size"] <= self.cluster
        assert header["backing_size"] <= 1023
        self._refer(0, 1)

    def _read_extensions(self) -> str:
        """Walk through the header extensions; return the backing file's format."""
        position, found = self.header["header_length"], ""
        end = self.header["backing_offset"] or self.cluster
        while True:
            kind, length = struct.unpack_from(">II", self.data, position)
            position += 8
            if kind == 0:
                assert length == 0
                return found
            assert kind == _BACKING_FORMAT
            found = self.data[position : position + length].decode()
            position += -(-length // 8) * 8
            assert position < end

    def _read_tables(self) -> dict[int, int]:
        """Return the L2 entries that are not zero, by the number of the guest's cluster."""
        per_table = self.cluster // 8
        size = self.header["l1_size"]
        assert size >= -(-self.header["size"] // (per_table * self.cluster))
        self._refer(self.header["l1_offset"], -(-size * 8 // self.cluster))
        found: dict[int, int] = {}
        for index, first in enumerate(struct.unpack_from(f">{size}Q", self.data, self.header["l1_offset"])):
            if not first:
                continue
            assert first & ~_OFFSET == _COPIED
            assert first & _OFFSET & (self.cluster - 1) == 0
            self._refer(first & _OFFSET, 1)
            for number, entry in enumerate(struct.unpack_from(f">{per_table}Q", self.data, first & _OFFSET)):
                if entry:
                    self._check_entry(entry)
                    found[index * per_table + number] = entry
        assert all(number * self.cluster < self.header["size"] for number in found)
        return found

    def _check_entry(self, entry: int) -> None:
        if entry & _COMPRESSED:
            assert not entry & _COPIED
            start, length = self._compressed_range(entry)
            first, last = start // self.cluster, (start + length - 1) // self.cluster
            self._refer(first * self.cluster, last - first + 1)
            return
        assert entry & ~(_OFFSET | _COPIED | _ZERO) == 0
        host = entry & _OFFSET
        assert host % self.cluster == 0
        assert bool(entry & _COPIED) == bool(host)
        if host:
            self._refer(host, 1)

    def _compressed_range(self, entry: int) -> tuple[int, int]:
        bits = 62 - (self.header["cluster_bits"] - 8)
        start = entry & (1 << bits) - 1
        sectors = (entry & ~_COMPRESSED) >> bits
        return start, (sectors + 1) * 512 - start % 512

    def _decompress(self, entry: int) -> bytes:
        assert self.header["compression_type"] == 0
        start, length = self._compressed_range(entry)
        content = zlib.decompressobj(-12).decompress(self.data[start : start + length])
        assert len(content) == self.cluster
        return content

    def _refer(self, offset: int, clusters: int) -> None:
        for number in range(offset // self.cluster, offset // self.cluster + clusters):
            self.references[number] += 1
            assert number < len(self.data) // self.cluster

    def _check_refcounts(self) -> None:
        """Every cluster is counted as often as it is referred to: no leak, no corruption."""
        bits = 1 << self.header["refcount_order"]
        assert bits in (8, 16, 32, 64)
        per_block = self.cluster * 8 // bits
        code = {8: "B", 16: "H", 32: "I", 64: "Q"}[bits]
        offset, clusters = self.header["refcount_offset"], self.header["refcount_clusters"]
        self._refer(offset, clusters)
        blocks = struct.unpack_from(f">{clusters * self.cluster // 8}Q", self.data, offset)
        counted: dict[int, int] = {}
        for index, block in enumerate(blocks):
            if block:
                assert block % self.cluster == 0
                self._refer(block, 1)
                found = struct.unpack_from(f">{per_block}{code}", self.data, block)
                counted.update({index * per_block + number: count for number, count in enumerate(found) if count})
        assert counted == dict(self.references)
