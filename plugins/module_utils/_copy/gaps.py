# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What nobody wrote: the ranges that an end with old content has to zero."""

from __future__ import annotations

import threading

from ansible_collections.virt.backup.plugins.module_utils._model.extent import Run


class Gaps:
    """Learns of writes in any order, and tells once of each range that stayed without. Safe for threads.

    A copy leaves out what is zero, and says only how far it is settled: below that, all that was not written is zero.
    Memory holds the writes that are not settled yet.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._written: list[tuple[int, int]] = []
        self._told = 0

    def wrote(self, start: int, end: int) -> None:
        """Note a write."""
        with self._lock:
            self._written.append((start, end))

    def below(self, offset: int) -> list[Run]:
        """Return the gaps below ``offset``, where all writes are known, that were not told before."""
        with self._lock:
            if offset <= self._told:
                return []
            self._written.sort()
            gaps, position, later = [], self._told, []
            for start, end in self._written:
                if start >= offset:
                    later.append((start, end))
                    continue
                if start > position:
                    gaps.append(Run(position, start))
                position = max(position, end)
            if position < offset:
                gaps.append(Run(position, offset))
            self._written = later
            self._told = max(offset, position)
        return gaps
