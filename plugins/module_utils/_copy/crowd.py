# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Workers on several connections. They connect all at once, since each takes some round trips before its first read."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.engine import Worker
from ansible_collections.virt.backup.plugins.module_utils._copy.pace import DEPTH, Pace

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.virt.backup.plugins.module_utils._copy.crew import FirstError
    from ansible_collections.virt.backup.plugins.module_utils._copy.engine import Job
    from ansible_collections.virt.backup.plugins.module_utils._copy.pace import Budget
    from ansible_collections.virt.backup.plugins.module_utils._copy.rate import RateLimit
    from ansible_collections.virt.backup.plugins.module_utils._nbd import Connection


class Crowd:
    """Up to ``count`` workers of one job, as many as the server lets in."""

    def __init__(self, job: Job, count: int, limit: RateLimit, budget: Budget, cancel: threading.Event) -> None:
        self._job = job
        self._count = count
        self._limit = limit
        self._cancel = cancel
        self._pace = Pace(DEPTH, count, budget)
        self._let_in: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def work(
        self,
        connect: Callable[[], Connection | None],
        patience: float,
        errors: FirstError,
        enough: threading.Event,
    ) -> bool:
        """Return, when all threads have ended, whether somebody was let in: job done, or ``errors`` knows why.

        ``enough`` makes ``connect`` give up: it is set when nobody was let in within ``patience`` seconds, and when the
        first worker has nothing left to do.
        """
        threads = [
            threading.Thread(target=errors.guard, args=(self._run_one, connect, enough), daemon=True)
            for unused in range(self._count)
        ]
        for thread in threads:
            thread.start()
        works = self._any_let_in(patience)
        if not works:
            enough.set()
        for thread in threads:
            thread.join()
        return works or self._any_let_in(0.0)

    def _run_one(self, connect: Callable[[], Connection | None], enough: threading.Event) -> None:
        """Work if the server lets us in: it may admit fewer clients than it says, and keep the others waiting."""
        connection = None
        try:
            connection = connect()
        finally:
            self._let_in.put(connection is not None)
        if connection is None:
            return
        try:
            Worker(self._job, connection, self._limit, self._cancel, self._pace).run()
            enough.set()
        finally:
            connection.close()

    def _any_let_in(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            return any(self._let_in.get(timeout=max(0.0, until - time.monotonic())) for _one in range(self._count))
        return False
