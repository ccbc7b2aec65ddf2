# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The ends there are. A new end is a new file and a new line here."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.compress import compressor
from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2 import Backing, Qcow2File
from ansible_collections.virt.backup.plugins.module_utils._copy.qemu_file import QemuFile
from ansible_collections.virt.backup.plugins.module_utils._copy.raw import RawFile

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.virt.backup.plugins.module_utils._copy.ends import End, Means
    from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest


def _qcow2(fd: int, size: int, image: ImageRequest, means: Means) -> End:
    if means.encryption:
        return _qemu(fd, size, image, means)
    backing = Backing(image.backing_file, image.backing_format) if image.backing_file else Backing()
    return Qcow2File(fd, size, backing, means.compression, compressor(means.compression))


def _qemu(fd: int, size: int, image: ImageRequest, means: Means) -> End:
    if means.compression != "none":
        raise AssertionError("Contract violation: QEMU does not encrypt what it compresses")
    return QemuFile(fd, size, image.backing_file, image.backing_format, means)


def _raw(fd: int, size: int, image: ImageRequest, means: Means) -> End:
    if image.backing_file or means.compression != "none" or means.encryption:
        raise AssertionError("Contract violation: a raw image has neither backing file nor compression nor encryption")
    return RawFile(fd, size)


ENDS: dict[str, Callable[[int, int, ImageRequest, Means], End]] = {"qcow2": _qcow2, "raw": _raw}


def open_end(fd: int, size: int, image: ImageRequest, means: Means) -> End:
    """Return the end for an image's format, on a file that is new and empty. To be closed by the same thread."""
    return ENDS[image.format](fd, size, image, means)
