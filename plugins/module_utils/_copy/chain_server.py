# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The chain below an increment, served by QEMU while the increment is made."""

from __future__ import annotations

import contextlib
import itertools
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy import plan
from ansible_collections.virt.backup.plugins.module_utils._copy.chain_paths import ChainUnreadable, layers_of
from ansible_collections.virt.backup.plugins.module_utils._model.errors import ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import WINDOW, Extent, Run
from ansible_collections.virt.backup.plugins.module_utils._nbd import ALLOCATION, Connection, NbdError
from ansible_collections.virt.backup.plugins.module_utils._qemu import ChainServer

if t.TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption

LONGEST_MAP = 16384
"""Extents of a chain that are looked at: a few hundredths of a second."""

_PATIENCE_PER_LAYER = 30.0
"""Seconds more to wait for each encrypted image of a chain: to open one takes its ``iter_time``, or longer if busy."""


class ServedChain:
    """A chain behind a ``qemu-nbd``. Its errors are told from those of the export: :class:`ChainUnreadable`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def holds(self, run: Run) -> bool:
        """Whether any image of the chain holds data there, as QEMU's tables say."""
        end = min(run.end, self._connection.size)
        if end <= run.start:
            return False
        with _told_apart():
            extents = self._connection.extents(ALLOCATION, run.start, end)
            return any(plan.data_runs(extents))

    def held(self, begin: int, size: int) -> Iterator[Run]:
        """Yield the clusters that it holds of a disk of ``size`` bytes, as runs, from ``begin`` on and then before it.

        Ends early when the chain is in more than :data:`LONGEST_MAP` pieces. ``begin`` is a multiple of a cluster.
        """
        end, left = min(size, self._connection.size), LONGEST_MAP
        for start, stop in ((begin, end), (0, min(begin, end))):
            for window in range(start, stop, WINDOW):
                told = self._map(window, min(window + WINDOW, stop), left)
                yield from plan.rounded_out(plan.data_runs(told), size)
                left -= len(told)
                if not left:
                    return

    def _map(self, start: int, end: int, most: int) -> list[Extent]:
        with _told_apart():
            return list(itertools.islice(self._connection.extents(ALLOCATION, start, end), most))

    def start(self, into: bytearray, run: Run) -> list[int]:
        """Ask for the bytes."""
        there = min(run.end, self._connection.size) - run.start
        into[there:] = bytes(len(into) - there)
        with _told_apart():
            return self._connection.start_read(memoryview(into)[:there], run.start)

    def finish(self, cookies: list[int]) -> None:
        """Wait for them."""
        with _told_apart():
            self._connection.finish_read(cookies)


@contextlib.contextmanager
def served_chain(
    path: str, image_format: str, encryption: Encryption | None, timeout: float, cancel: threading.Event
) -> Iterator[ServedChain]:
    """Serve the chain below an increment for as long as it is read. Raises :class:`ChainUnreadable`."""
    layers = layers_of(path, image_format)
    try:
        server = ChainServer(
            [layer.path for layer in layers],
            timeout + (_PATIENCE_PER_LAYER * len(layers) if encryption else 0),
            encryption,
            bottom=layers[0].format,
        )
    except ToolError as error:
        raise ChainUnreadable(error.message.rstrip(".")) from error
    try:
        with _told_apart():
            connection = Connection(server.uri, (ALLOCATION,), timeout, cancel)
        try:
            yield ServedChain(connection)
        finally:
            connection.close()
    finally:
        server.stop()


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except NbdError as error:
        raise ChainUnreadable(error.message.rstrip(".")) from error
