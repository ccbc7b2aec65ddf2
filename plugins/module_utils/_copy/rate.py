# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A limit on how fast a call reads, shared by all its connections."""

from __future__ import annotations

import threading
import time


class RateLimit:
    """Grant ``bytes_per_second``; 0 grants everything at once.

    Each reader is told how long to wait for its turn, so readers queue up in the order in which they asked.
    """

    def __init__(self, bytes_per_second: int = 0) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = 0.0

    def wait(self, length: int, cancel: threading.Event) -> None:
        """Return when ``length`` bytes may be asked for, or when ``cancel`` is set."""
        if not self._rate or not length:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(self._free_at, now)
            self._free_at = turn + length / self._rate
        if turn > now:
            cancel.wait(turn - now)
