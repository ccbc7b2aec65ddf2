# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The digest of an image's content, made so that anyone who can read the image through QEMU can make it again.

``docs/internals/digest.md`` describes the construction. In short: the disk is cut into blocks of 1 MiB and these into
clusters of 64 KiB; each block that holds something gives one record, and the digest is the SHA-256 of a header and of
all records in ascending order. It depends on the content alone, not on how it was read or stored.
"""

from __future__ import annotations

import hashlib
import struct
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER, bits_to_runs, round_up

if t.TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = b"virt.backup content 1\n"
EMPTY = hashlib.sha256().digest()
ZEROS = bytes(CLUSTER)
_RECORD = struct.Struct(">QHH32s")


def header(size: int) -> bytes:
    """Return what every digest begins with. ``size`` is the disk's, rounded up to 512 as QEMU shows it."""
    return MAGIC + struct.pack(">Q", round_up(size, 512))


def record(offset: int, data: int, zero: int, sha256: bytes = EMPTY) -> bytes:
    """Return the record of the block at ``offset``.

    ``data`` and ``zero`` are masks of its clusters, bit 0 the first: those that hold something else than zeroes, and
    (increments only) those that hold only zeroes. ``sha256`` is that of the clusters in ``data``, in order.
    """
    return _RECORD.pack(offset, data, zero, sha256)


def zero_records(start: int, end: int) -> bytes:
    """Return the records of whole blocks that hold only zeroes."""
    pack = _RECORD.pack
    return b"".join([pack(offset, 0, 0xFFFF, EMPTY) for offset in range(start, end, BLOCK)])


def content_digest(size: int, blocks: Iterable[tuple[int, int, bytes]], *, incremental: bool) -> str:
    """Return the digest of content that was read by other means; the reference that the engine is compared with.

    ``blocks`` are (offset, mask of the clusters the image holds, content of the block), ascending; a content that ends
    with the disk is padded with zeroes to a cluster. For a full image every block counts, with all its clusters.
    """
    total = hashlib.sha256(header(size))
    for offset, covered, content in blocks:
        padded = content.ljust(round_up(len(content), CLUSTER), b"\0")
        data = sum(1 << bit for bit in range(len(padded) // CLUSTER) if not padded.startswith(ZEROS, bit * CLUSTER))
        data &= covered
        zero = covered & ~data if incremental else 0
        if data or zero:
            body = b"".join(padded[first * CLUSTER : last * CLUSTER] for first, last in bits_to_runs(data))
            total.update(record(offset, data, zero, hashlib.sha256(body).digest()))
    return f"sha256:{total.hexdigest()}"
