# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""How an image's data reaches the disk: early, so that the one fsync at the end finds little left to wait for."""

from __future__ import annotations

import ctypes
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.ends import write_all
from ansible_collections.virt.backup.plugins.module_utils._copy.reflink import copy_ranges

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.reflink import FileRange

START_WRITING = 2
"""``SYNC_FILE_RANGE_WRITE`` of ``sync_file_range(2)``: begin to write out the dirty pages of a range, wait for none."""


class DataFile:
    """Writes to a file or device and starts the write-back of what it wrote. Safe for threads.

    ``fd`` stays the caller's, who also syncs it: starting write-back makes nothing durable by itself.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._start: t.Any = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
        if self._start is not None:
            self._start.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

    def write(self, data: memoryview | bytes, offset: int) -> None:
        """Write everything, and let the kernel begin with it now instead of at the end.

        What the call answers does not matter: a file system that cannot start early writes at the fsync, which is
        also where an error of the disk is told (one that was told here would be told there no more; it is not asked
        for, as ``SYNC_FILE_RANGE_WRITE`` alone waits for nothing).
        """
        write_all(self._fd, data, offset)
        if self._start is not None:
            self._start(self._fd, offset, len(data), START_WRITING)

    def copy(self, ranges: Sequence[FileRange], offset: int) -> bool:
        """Take over bytes of other files where nothing was written yet; return whether they are shared with those."""
        return copy_ranges(ranges, self._fd, offset)

    def finish(self) -> None:
        """Nothing to do: the caller's sync waits for what is on its way."""

    def close(self) -> None:
        """Nothing is held but the file."""
