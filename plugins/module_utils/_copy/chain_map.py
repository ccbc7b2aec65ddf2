# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Reading a chain's images themselves: QEMU says where each piece of the disk is, and no server is in between.

A server copies everything once more, through a socket and in another process: that is what makes a restore slower than
``qemu-img convert``. QEMU stays the only one who understands the images' tables.
"""

from __future__ import annotations

import collections
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy import plan
from ansible_collections.virt.backup.plugins.module_utils._copy.reflink import ImageFile, ReadError
from ansible_collections.virt.backup.plugins.module_utils._model.errors import ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, Run, Segment

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.engine import Reader
    from ansible_collections.virt.backup.plugins.module_utils._model.extent import Task
    from ansible_collections.virt.backup.plugins.module_utils._qemu import MapExtent


class Piece(t.NamedTuple):
    """A range of the disk and where it is: an image, counted from the top one, and a byte in it.

    ``host`` is -1 where only QEMU can read it, as it has to be decompressed.
    """

    start: int
    end: int
    depth: int
    host: int

    def clipped(self, start: int, end: int) -> Piece:
        """Return the part of it in a range that it touches."""
        first, last = max(self.start, start), min(self.end, end)
        return Piece(first, last, self.depth, self.host + first - self.start if self.host >= 0 else -1)


class MappedSource:
    """The tasks of a full copy of what ``extents`` describe, and the pieces of each task until it was read.

    Tasks are taken by one thread at a time; the pieces of a task are asked for by whoever took it.
    """

    def __init__(self, extents: Iterable[MapExtent], size: int, cluster: int) -> None:
        self._told = iter(extents)
        self._size = size
        self._cluster = cluster
        self._ahead: collections.deque[Piece] = collections.deque()
        self._of_block: dict[int, list[Piece]] = {}
        self.extents = 0

    def tasks(self) -> Iterator[Task]:
        """Yield the units of work, ascending; remembers where their content is."""
        for task in plan.tasks(self._segments()):
            self._of_block[task.offset] = list(self._until(task.offset, task.offset + BLOCK))
            yield task

    def pieces(self, start: int, end: int) -> list[Piece]:
        """Return where a range within one block is; forgets the block with its last piece."""
        block = start // BLOCK * BLOCK
        held = self._of_block[block]
        if held[-1].end <= end:
            del self._of_block[block]
        return [piece.clipped(start, end) for piece in held if piece.start < end and piece.end > start]

    def pieces_of(self, task: Task) -> list[Piece]:
        """Return where all of a task is, and forget nothing."""
        return self._of_block[task.offset]

    def forget(self, task: Task) -> None:
        """Let go of a task that needs no reading."""
        del self._of_block[task.offset]

    def _segments(self) -> Iterator[Segment]:
        for run in plan.rounded_out(plan.merged(self._data()), self._size, self._cluster):
            self.extents += 1
            yield Segment(run.start, run.end, False)

    def _data(self) -> Iterator[Run]:
        """Yield what is not zero; refuse a map that leaves out anything, which would be zero in the copy."""
        following = 0
        for start, length, depth, zero, host in self._told:
            if start != following:
                raise ToolError(f"qemu-img map left out what is between {following} and {start}.")
            following = start + length
            if not zero:
                self._ahead.append(Piece(start, following, depth, host))
                yield Run(start, following)
        if following != self._size:
            raise ToolError(f"qemu-img map ended at {following} of {self._size} bytes.")

    def _until(self, start: int, end: int) -> Iterator[Piece]:
        """Yield the pieces of a block; what lies below its end is not asked for again."""
        while self._ahead and self._ahead[0].end <= start:
            self._ahead.popleft()
        for piece in self._ahead:
            if piece.start >= end:
                return
            yield piece.clipped(start, end)


class MappedReader:
    """Reads the pieces from the images in ``files``, the top one first. Fulfils :class:`~.engine.Reader`.

    A read is done when it was asked for: what overlaps are threads. What only QEMU can read comes from ``served``.
    """

    def __init__(self, source: MappedSource, files: Sequence[ImageFile], served: Reader | None) -> None:
        self._source = source
        self._files = files
        self._served = served

    def start_read(self, into: memoryview, offset: int) -> list[int]:
        """Fill the memory, between the pieces with zeroes, as it held another block before."""
        cookies: list[int] = []
        end = position = offset
        end += len(into)
        for start, stop, depth, host in self._source.pieces(offset, end):
            _clear(into[position - offset : start - offset])
            part = into[start - offset : stop - offset]
            if host >= 0:
                _read(self._files[depth], part, host)
            elif self._served:
                cookies += self._served.start_read(part, start)
            else:
                raise ToolError(f"qemu-img map does not tell where the content at {start} is.")
            position = stop
        _clear(into[position - offset :])
        return cookies

    def finish_read(self, cookies: list[int]) -> None:
        """Wait for what QEMU reads."""
        if self._served and cookies:
            self._served.finish_read(cookies)


def open_image(path: str) -> ImageFile:
    """Open an image for reading; the caller closes it."""
    try:
        return ImageFile(path, os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError as error:
        raise ReadError(f"{path} can't be opened ({error.strerror})") from error


def _read(file: ImageFile, into: memoryview, offset: int) -> None:
    """Read all of it; what lies beyond the end of an image is zero, as it is to QEMU."""
    while into:
        count = file.read(into, offset)
        if not count:
            _clear(into)
            return
        into = into[count:]
        offset += count


def _clear(part: memoryview) -> None:
    if part:
        part[:] = bytes(len(part))
