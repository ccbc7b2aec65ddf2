# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What every end of a copy can do."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError

if t.TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.reflink import FileRange
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption


class EndError(BackupError):
    """An end could not be written, in the words of whoever said so. The caller knows which parameter it belongs to."""


class EndUnfit(BackupError):
    """What is to be overwritten can't take the disk: what is wrong with it, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


class Means(t.NamedTuple):
    """What an end may need beside its file.

    ``timeout`` is the longest silence, in seconds, of a server behind it; ``cancel`` ends its waits.
    ``direct`` asks for writes past the page cache.
    """

    compression: str
    encryption: Encryption | None
    timeout: float
    cancel: threading.Event
    connections: int = 1
    direct: bool = False


class End(t.Protocol):
    """Where the content of one image goes: a file that is open and empty, or what is overwritten in place.

    ``write``, ``zero`` and ``settled`` come from several threads. Offsets are whole clusters; so are lengths, but for
    zeroes that end with the disk. No cluster is named twice.
    """

    @property
    def durable(self) -> bool:
        """Whether what was written outlives a loss of power once it is finished and the caller has synced."""

    def write(self, offset: int, data: memoryview) -> None:
        """Store clusters that hold data; content past the end of the disk is zero and need not be stored."""

    def zero(self, start: int, end: int) -> None:
        """Make a range read as zero, whatever a backing image holds there."""

    def settled(self, offset: int) -> None:
        """Learn that everything below ``offset`` was written or zeroed, so that nothing about it need be remembered."""

    def finish(self) -> None:
        """Complete the file; called once, after the last write. The caller syncs it."""

    def close(self) -> None:
        """Let go of everything but the file; called last, and also when the copy failed."""


@t.runtime_checkable
class FileEnd(End, t.Protocol):
    """An end that is a new file on this machine, whose clusters are stored as they are."""

    def copy(self, offset: int, ranges: Sequence[FileRange]) -> bool:
        """Store clusters from bytes of other files; return whether they are shared with those."""


def write_all(fd: int, data: memoryview | bytes, offset: int) -> None:
    """Write everything: one ``pwrite`` may store less than it was given."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
