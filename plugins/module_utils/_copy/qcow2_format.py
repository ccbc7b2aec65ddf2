# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The parts of qcow2 that we write: version 3, 16-bit refcounts (QEMU's docs/interop/qcow2.txt)."""

from __future__ import annotations

import struct

from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER

MAGIC = b"QFI\xfb"
REFCOUNT_ORDER = 4
REFCOUNT_BYTES = 2
ENTRY_BYTES = 8
MOST_L1_ENTRIES = 32 * 1024 * 1024 // ENTRY_BYTES
"""``QCOW_MAX_L1_SIZE`` of QEMU's block/qcow2.h."""

COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO_CLUSTER = 1
"""Bit 0 of an L2 entry: reads as zero, whatever the backing image holds."""

_SECTOR = 512
_INCOMPATIBLE_COMPRESSION_TYPE = 1 << 3
EXTENSION_BACKING_FORMAT = 0xE2792ACA
_HEADER_LENGTH = 112
LONGEST_BACKING_NAME = 1023

COMPRESSION_TYPES = {"zlib": 0, "zstd": 1}


_INCOMPATIBLE_EXTERNAL_DATA = 1 << 2
_INCOMPATIBLE_FEATURES = struct.Struct(">Q")
_FEATURES_OFFSET = 72
HEAD_BYTES = _FEATURES_OFFSET + _INCOMPATIBLE_FEATURES.size


def keeps_data_elsewhere(head: bytes) -> bool:
    """Whether an image that begins like this names another file for its data, which QEMU would open and read."""
    if len(head) < HEAD_BYTES or not head.startswith(MAGIC) or int.from_bytes(head[4:8], "big") < 3:
        return False
    (features,) = _INCOMPATIBLE_FEATURES.unpack_from(head, _FEATURES_OFFSET)
    return bool(features & _INCOMPATIBLE_EXTERNAL_DATA)


def cluster_bits(cluster: int) -> int:
    """Return the power of two that a cluster's size is."""
    return cluster.bit_length() - 1


def compressed_entry(host_offset: int, length: int, cluster: int = CLUSTER) -> int:
    """Return the L2 entry of a compressed cluster of ``length`` bytes at any byte of the file.

    The length is told in sectors that are touched after the first one; readers stop where the stream ends.
    """
    more_sectors = (host_offset + length - 1) // _SECTOR - host_offset // _SECTOR
    return COMPRESSED | more_sectors << 62 - (cluster_bits(cluster) - 8) | host_offset


def header(
    *,
    size: int,
    l1_offset: int,
    l1_entries: int,
    refcount_offset: int,
    refcount_clusters: int,
    backing_file: str = "",
    backing_format: str = "",
    compression: str = "zlib",
    cluster: int = CLUSTER,
) -> bytes:
    """Return the first cluster of the file. ``size`` is a multiple of 512: of any other QEMU would lose the rest."""
    if size % _SECTOR:
        raise AssertionError(f"Contract violation: {size} is no multiple of {_SECTOR}")
    extensions = b""
    if backing_file:
        name = backing_format.encode()
        extensions += struct.pack(">II", EXTENSION_BACKING_FORMAT, len(name)) + name.ljust(
            -(-len(name) // 8) * 8, b"\0"
        )
    extensions += struct.pack(">II", 0, 0)
    backing = backing_file.encode()
    kind = COMPRESSION_TYPES[compression]
    fixed = struct.pack(
        ">4sIQIIQIIQQIIQQQQIIB7x",
        MAGIC,
        3,
        _HEADER_LENGTH + len(extensions) if backing else 0,
        len(backing),
        cluster_bits(cluster),
        size,
        0,  # no encryption
        l1_entries,
        l1_offset,
        refcount_offset,
        refcount_clusters,
        0,  # no snapshots
        0,
        _INCOMPATIBLE_COMPRESSION_TYPE if kind else 0,
        0,  # compatible features
        0,  # autoclear features
        REFCOUNT_ORDER,
        _HEADER_LENGTH,
        kind,
    )
    return (fixed + extensions + backing).ljust(cluster, b"\0")
