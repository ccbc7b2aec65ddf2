# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The end that is a raw file: sparse where the disk is zero."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.direct_file import open_data

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.reflink import FileRange


class RawFile:
    """A new raw file of exactly ``size`` bytes. Fulfils :class:`~.ends.FileEnd`."""

    durable = True

    def __init__(self, fd: int, size: int, *, direct: bool = False) -> None:
        self._data = open_data(fd, direct=direct)
        self._size = size
        os.ftruncate(fd, size)

    def write(self, offset: int, data: memoryview) -> None:
        """Write, up to the end of the disk."""
        self._data.write(data[: self._size - offset], offset)

    def copy(self, offset: int, ranges: Sequence[FileRange]) -> bool:
        """Write bytes of other files, which end with the disk at the latest."""
        return self._data.copy(ranges, offset)

    def zero(self, start: int, end: int) -> None:
        """Nothing to do: what was never written to a new file is a hole and reads as zero."""

    def settled(self, offset: int) -> None:
        """Nothing is remembered."""

    def finish(self) -> None:
        """Nothing is left to write."""
        self._data.finish()

    def close(self) -> None:
        """Nothing is held but the file."""
        self._data.close()
