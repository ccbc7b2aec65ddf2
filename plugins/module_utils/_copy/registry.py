# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The ends there are. A new end is a new file and a new line here."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.block_device import BlockDevice
from ansible_collections.virt.backup.plugins.module_utils._copy.compress import compressor
from ansible_collections.virt.backup.plugins.module_utils._copy.nbd_export import NbdExport
from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2 import Backing, Qcow2File
from ansible_collections.virt.backup.plugins.module_utils._copy.qemu_file import QemuFile
from ansible_collections.virt.backup.plugins.module_utils._copy.raw import RawFile
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.virt.backup.plugins.module_utils._copy.ends import End, Means
    from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest


def _qcow2(fd: int, size: int, image: ImageRequest, means: Means) -> End:
    if means.encryption:
        return qemu(fd, size, image, means)
    backing = Backing(image.backing_file, image.backing_format) if image.backing_file else Backing()
    compress = compressor(means.compression)
    return Qcow2File(fd, size, backing, means.compression, compress, image.cluster_size, direct=means.direct)


def qemu(fd: int, size: int, image: ImageRequest, means: Means) -> End:
    """Return the end that has QEMU write a qcow2 file."""
    if means.compression != "none":
        raise AssertionError("Contract violation: QEMU does not encrypt what it compresses")
    return QemuFile(fd, size, image.backing_file, image.backing_format, means)


def _raw(fd: int, size: int, image: ImageRequest, means: Means) -> End:
    _insist_on_plain(image, means)
    return RawFile(fd, size, direct=means.direct)


def _device(fd: int, size: int, image: ImageRequest, means: Means) -> End:
    _insist_on_plain(image, means)
    return BlockDevice(fd, size, direct=means.direct)


def _server(_fd: int, size: int, image: ImageRequest, means: Means) -> End:
    _insist_on_plain(image, means)
    return NbdExport(image.dest, size, means)


ENDS: dict[tuple[Place, str], Callable[[int, int, ImageRequest, Means], End]] = {
    (Place.FILE, "qcow2"): _qcow2,
    (Place.FILE, "raw"): _raw,
    (Place.DEVICE, "raw"): _device,
    (Place.SERVER, "raw"): _server,
}


def open_end(fd: int, size: int, image: ImageRequest, means: Means) -> End:
    """Return the end for an image: on a file that is new and empty, or on what it is to overwrite, still untouched.

    Raises :class:`~.ends.EndUnfit` where the disk has no room. To be closed by the same thread.
    """
    return ENDS[image.place, image.format](fd, size, image, means)


def _insist_on_plain(image: ImageRequest, means: Means) -> None:
    if image.backing_file or means.compression != "none" or means.encryption:
        raise AssertionError("Contract violation: a raw image has neither backing file nor compression nor encryption")
