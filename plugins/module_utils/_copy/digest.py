# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The digest of an image's content, made so that anyone who can read the image through QEMU can make it again.

``docs/internals/digest.md`` describes the construction. In short: the disk is cut into blocks of 1 MiB and these into
clusters of 64 KiB; each block that holds something gives one record with the SHA-256 of each of its clusters. A
header and all records, ascending, are the list beside the image, and the SHA-256 of that list is the digest. Both
depend on the content alone, not on how it was read or stored.
"""

from __future__ import annotations

import hashlib
import struct
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER, bits_to_runs, round_up

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAGIC = b"virt.backup content 1\n"
HASH_BYTES = 32
ZEROS = bytes(CLUSTER)
RECORD = struct.Struct(">QHH")


def header(size: int) -> bytes:
    """Return what every list begins with. ``size`` is the disk's, rounded up to 512 as QEMU shows it."""
    return MAGIC + struct.pack(">Q", round_up(size, 512))


def record(offset: int, data: int, zero: int, hashes: bytes = b"") -> bytes:
    """Return the record of the block at ``offset``.

    ``data`` and ``zero`` are masks of its clusters, bit 0 the first: those that hold something else than zeroes, and
    (increments only) those that hold only zeroes. ``hashes`` are those of the clusters in ``data``, in order.
    """
    return RECORD.pack(offset, data, zero) + hashes


def zero_records(start: int, end: int) -> bytes:
    """Return the records of whole blocks that hold only zeroes."""
    pack = RECORD.pack
    return b"".join([pack(offset, 0, 0xFFFF) for offset in range(start, end, BLOCK)])


def cluster_hashes(block: bytes | bytearray, data: int) -> bytes:
    """Return the SHA-256 of each cluster in the mask ``data``, one behind the other. The block holds whole clusters."""
    sha256, view = hashlib.sha256, memoryview(block)
    return b"".join(
        [
            sha256(view[index * CLUSTER : (index + 1) * CLUSTER]).digest()
            for first, last in bits_to_runs(data)
            for index in range(first, last)
        ]
    )


def data_mask(block: bytes | bytearray) -> int:
    """Return which of a block's whole clusters hold something else than zeroes."""
    return sum(1 << bit for bit in range(len(block) // CLUSTER) if not block.startswith(ZEROS, bit * CLUSTER))


def content_list(size: int, blocks: Iterable[tuple[int, int, bytes]], *, incremental: bool) -> Iterator[bytes]:
    """Yield, piece by piece, the list of content that was read by other means; what the engine is compared with.

    ``blocks`` are (offset, mask of the clusters the image holds, content of the block), ascending; a content that ends
    with the disk is padded with zeroes to a cluster. For a full image every block counts, with all its clusters.
    """
    yield header(size)
    for offset, covered, content in blocks:
        padded = content.ljust(round_up(len(content), CLUSTER), b"\0")
        data = data_mask(padded) & covered
        zero = covered & ~data if incremental else 0
        if data or zero:
            yield record(offset, data, zero, cluster_hashes(padded, data))


def content_digest(size: int, blocks: Iterable[tuple[int, int, bytes]], *, incremental: bool) -> str:
    """Return the digest of the same: the SHA-256 of the list."""
    total = hashlib.sha256()
    for piece in content_list(size, blocks, incremental=incremental):
        total.update(piece)
    return f"sha256:{total.hexdigest()}"
