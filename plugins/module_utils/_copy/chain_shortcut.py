# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Which parts of a chain a new file can share with it: whole clusters of the file, all of them in plain images."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.reflink import ALIGNED, FileRange

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.chain_map import MappedSource, Piece
    from ansible_collections.virt.backup.plugins.module_utils._copy.ends import FileEnd
    from ansible_collections.virt.backup.plugins.module_utils._copy.reflink import ImageFile
    from ansible_collections.virt.backup.plugins.module_utils._model.extent import Task


class Shared(t.NamedTuple):
    """A run of the disk, and where its bytes are, one range behind another."""

    start: int
    length: int
    ranges: list[FileRange]


class Shortcut:
    """Fulfils :class:`~.engine.Shortcut`, until it turns out that the file system shares nothing. Safe for threads.

    ``cluster`` is that of the end, which takes whole ones.
    """

    def __init__(self, source: MappedSource, files: Sequence[ImageFile], end: FileEnd, cluster: int) -> None:
        self._source = source
        self._files = files
        self._end = end
        self._grain = max(cluster, ALIGNED)
        self.possible = True

    def runs(self, task: Task) -> list[Shared] | None:
        """Return what the task consists of, or ``None`` if some of it has to be written."""
        if not self.possible:
            return None
        runs = _runs(self._source.pieces_of(task))
        return [self._shared(run) for run in runs] if all(self._fits(run) for run in runs) else None

    def skip(self, task: Task) -> None:
        """Learn that the task is not going to be read."""
        self._source.forget(task)

    def share(self, runs: Sequence[Shared]) -> int:
        """Bring them to the end; return their bytes."""
        for run in runs:
            if not self._end.copy(run.start, run.ranges):
                self.possible = False
        return sum(run.length for run in runs)

    def _fits(self, run: list[Piece]) -> bool:
        whole = not run[0].start % self._grain and not run[-1].end % self._grain
        # An image without a place (-1) is compressed there.
        return whole and not any(piece.host % ALIGNED or (piece.end - piece.start) % ALIGNED for piece in run)

    def _shared(self, run: list[Piece]) -> Shared:
        ranges = [FileRange(self._files[piece.depth], piece.host, piece.end - piece.start) for piece in run]
        return Shared(run[0].start, run[-1].end - run[0].start, ranges)


def _runs(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """Return the pieces in lists of those that lie one behind another on the disk."""
    runs: list[list[Piece]] = []
    for piece in pieces:
        if runs and runs[-1][-1].end == piece.start:
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs
