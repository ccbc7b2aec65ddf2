# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Clusters that a new file shares with the image they come from, where the file system can do that (XFS, btrfs).

Nothing is written and no room is taken until one of the two files changes, as with ``cp --reflink``.
"""

from __future__ import annotations

import fcntl
import os
import struct
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK

if t.TYPE_CHECKING:
    from collections.abc import Iterable

ALIGNED = 4096
"""What offsets and lengths that are shared are multiples of: no file system of this page size has larger blocks."""

_FICLONERANGE = 0x4020940D
"""``ioctl_ficlonerange(2)``; the number differs on some machines, which then answer that they do not know it."""


class ReadError(BackupError):
    """An image of a chain could not be read; the caller knows which disk it belongs to."""


class ImageFile(t.NamedTuple):
    """An open image. Once it is open, nobody who removes it is in the way."""

    path: str
    fd: int

    def read(self, into: memoryview, offset: int) -> int:
        """Read as much as there is at once; 0 at its end."""
        try:
            return os.preadv(self.fd, [into], offset)
        except OSError as error:
            raise ReadError(f"{self.path} can't be read at byte {offset} ({error.strerror})") from error


class FileRange(t.NamedTuple):
    """Bytes of an image. What of them lies beyond its end is zero, as it is to QEMU."""

    file: ImageFile
    offset: int
    length: int


def copy_ranges(ranges: Iterable[FileRange], target: int, offset: int) -> bool:
    """Bring ranges one behind another to a place of a file that is still a hole; return whether all could be shared.

    What can't be shared is read and written.
    """
    shared = True
    for part in ranges:
        if not _share(part, target, offset):
            shared = False
            _read_and_write(part, target, offset)
        offset += part.length
    return shared


def _share(part: FileRange, target: int, offset: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONERANGE, struct.pack("=qQQQ", part.file.fd, part.offset, part.length, offset))
    except OSError:
        return False
    return True


def _read_and_write(part: FileRange, target: int, offset: int) -> None:
    block = memoryview(bytearray(min(part.length, BLOCK)))
    done = 0
    while done < part.length:
        count = part.file.read(block[: part.length - done], part.offset + done)
        if not count:
            return
        written = 0
        while written < count:
            written += os.pwrite(target, block[written:count], offset + done + written)
        done += count
