# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""How an image's data reaches the disk past the page cache, so that what others keep there stays.

Two descriptors lead to one file. Whole pages go over the one with ``O_DIRECT``; what begins or ends within a page (the
odd end of a raw disk, compressed clusters) goes over the buffered one. They never touch the same page: a piece is
direct only if it is whole pages, and no byte of an image is written twice.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import sys
import threading
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.data_file import DataFile
from ansible_collections.virt.backup.plugins.module_utils._copy.ends import write_all
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, round_up

PAGE = max(4096, mmap.PAGESIZE)
"""What offset, length and memory of a direct write are multiples of. No disk has larger logical blocks than 4 KiB; a
machine may have larger pages, and within one of them both ways would meet."""

KEPT = 8 * BLOCK
"""How much the page cache may gather of what is written buffered before it is asked to let go."""


AHEAD = 16 * BLOCK
"""How far ahead room is taken in a file that grows. Direct writes that make a file longer wait for each other: 512 MiB
in pieces of 64 KiB, by four threads on ext4, took about half as long with it, and no less with 64 MiB."""


def open_data(fd: int, *, direct: bool, grows: bool = False) -> DataFile:
    """Return what writes to ``fd``; with ``direct`` past the page cache. To be closed by the caller.

    ``grows`` tells of a file whose room is taken from its end, and which is cut to its length when it is complete.
    """
    return DirectFile(fd, grows=grows) if direct else DataFile(fd)


def explained(error: OSError, folder: str) -> Exception:
    """Return what to raise when an open with ``O_DIRECT`` failed: the file system's refusal in words, else as it is."""
    if error.errno != errno.EINVAL:
        return error
    problem = f"is refused by the file system of {folder!r} (O_DIRECT: {error.strerror})"
    return InputError("direct", True, problem, "use false, or a dest on a file system that allows it, such as ext4")


class DirectFile(DataFile):
    """Writes to a file or device past the page cache. Safe for threads; each that writes holds a page-aligned block.

    Write-back need not be started early: nothing is left to write back.
    """

    def __init__(self, fd: int, *, grows: bool = False) -> None:
        super().__init__(fd)
        self._room = 0 if grows else sys.maxsize
        self._growing = threading.Lock()
        self._allocate: t.Any = ctypes.CDLL(None, use_errno=True).fallocate
        self._allocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        self._buffered = 0
        self._local = threading.local()
        name = f"/proc/self/fd/{fd}"
        # Opened for no more than the caller may do: a device that was closed after writing is probed by udev.
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        try:
            self._direct = os.open(name, access | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            raise explained(error, os.path.dirname(os.readlink(name))) from error

    def write(self, data: memoryview | bytes, offset: int) -> None:
        """Write everything: the whole pages directly, the rest buffered."""
        view = memoryview(data)
        whole = 0 if offset % PAGE else len(view) // PAGE * PAGE
        for start in range(0, whole, BLOCK):
            self._write_pages(view[start : min(start + BLOCK, whole)], offset + start)
        if whole < len(view):
            self._write_buffered(view[whole:], offset + whole)

    def finish(self) -> None:
        """Let go of what was written buffered. Only clean pages can be let go of, so it is synced first."""
        os.fdatasync(self._fd)
        self._let_go()

    def close(self) -> None:
        """Close the second descriptor; ``fd`` stays the caller's."""
        os.close(self._direct)

    def _write_pages(self, pages: memoryview, offset: int) -> None:
        """Write by way of a block of this thread, because the kernel reads from aligned memory only."""
        if not hasattr(self._local, "block"):
            self._local.block = mmap.mmap(-1, BLOCK)
        block = self._local.block
        block[: len(pages)] = pages
        if offset + len(pages) > self._room:
            self._grow(offset + len(pages))
        write_all(self._direct, memoryview(block)[: len(pages)], offset)

    def _grow(self, end: int) -> None:
        """Take room past ``end``. Where it can't be had, the writes take theirs, or tell why there is none."""
        with self._growing:
            if end > self._room:
                wanted = round_up(end, AHEAD)
                failed = self._allocate(self._fd, 0, self._room, wanted - self._room)
                self._room = sys.maxsize if failed else wanted

    def _write_buffered(self, data: memoryview, offset: int) -> None:
        write_all(self._fd, data, offset)
        self._buffered += len(data)  # two threads may lose a few bytes of it, and then it is asked a little later
        if self._buffered >= KEPT:
            self._buffered = 0
            self._let_go()

    def _let_go(self) -> None:
        """Drop the clean pages of the whole file, and begin to write the dirty ones, which waits for nothing.

        Costs as much as there is in the cache, whatever the length of the file.
        """
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
