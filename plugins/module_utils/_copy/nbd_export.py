# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The end that is an export of another NBD server: overwritten in place, over several connections."""

from __future__ import annotations

import contextlib
import threading
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.ends import EndError, EndUnfit
from ansible_collections.virt.backup.plugins.module_utils._copy.gaps import Gaps
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, round_up
from ansible_collections.virt.backup.plugins.module_utils._nbd import NbdError, Target

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.virt.backup.plugins.module_utils._copy.ends import Means

MOST_ZERO = 1024 * 1024 * 1024
"""The longest range in one request: a length has 32 bits, and a server that has to write the zeroes shall answer before
the time-out."""

SECTOR = 512

PATIENCE = 10.0
"""Seconds to wait for a second connection before the first ones do all the work."""


class NbdExport:
    """An export with old content, of which the first ``size`` bytes become the disk. Fulfils :class:`~.ends.End`.

    ``NBD_CMD_TRIM`` is never used: a trimmed range need not read as zero.
    """

    def __init__(self, uri: str, size: int, means: Means) -> None:
        self._uri = uri
        self._means = means
        self._gaps = Gaps()
        self._idle: list[Target] = []
        self._all: list[Target] = []
        self._free = threading.Condition()
        first = self._connect(means.timeout)
        try:
            _check(first, size)
        except EndUnfit:
            first.close()
            raise
        # A whole sector where there is room: who counts in sectors then reads zeroes behind the disk.
        self._unit = first.smallest
        self._end = min(round_up(size, max(first.smallest, SECTOR)), first.size)
        self._most = means.connections if first.multi_conn else 1

    @property
    def durable(self) -> bool:
        """Whether the server has a flush: without one, it promises nothing of what it was given."""
        return all(target.flushes for target in self._all)

    def write(self, offset: int, data: memoryview) -> None:
        """Write clusters, up to the end of the disk."""
        with self._target() as target:
            target.write(offset, data if offset + len(data) <= self._end else data[: self._end - offset])
        self._gaps.wrote(offset, offset + len(data))

    def zero(self, start: int, end: int) -> None:
        """Nothing to do yet: what is settled and was not written is zeroed."""

    def settled(self, offset: int) -> None:
        """Zero what was left out below ``offset``, which is whole blocks of the server but for the end of the disk."""
        for start, end in self._gaps.below(min(round_up(offset, self._unit), self._end)):
            with self._target() as target:
                self._zero(target, start, min(end, self._end))

    def finish(self) -> None:
        """Zero the rest and flush over every connection: without ``multi_conn`` one speaks for itself only."""
        self.settled(self._end)
        with self._explained():
            for target in self._all:
                target.flush()

    def close(self) -> None:
        """Leave the server."""
        for target in self._all:
            target.close()

    def _zero(self, target: Target, start: int, end: int) -> None:
        step = MOST_ZERO if target.zeroes else BLOCK
        for at in range(start, end, step):
            length = min(step, end - at)
            if target.zeroes:
                target.zero(at, length, unmap=True)
            else:
                target.write(at, memoryview(bytearray(length)))

    def _connect(self, patience: float) -> Target:
        with self._explained():
            target = Target(self._uri, min(self._means.timeout, patience), self._means.cancel)
        target.serve_until(self._means.cancel, self._means.timeout)
        self._all.append(target)
        self._idle.append(target)
        return target

    @contextlib.contextmanager
    def _target(self) -> Iterator[Target]:
        """Lend a connection to one thread; a new one while there may be more, else the next that is given back."""
        with self._free:
            if not self._idle and len(self._all) < self._most:
                self._add()
            while not self._idle:
                self._free.wait()
            target = self._idle.pop()
        try:
            with self._explained():
                yield target
        finally:
            with self._free:
                self._idle.append(target)
                self._free.notify()

    def _add(self) -> None:
        """Connect once more, or make do with what there is: a server may admit fewer clients than it promises."""
        try:
            self._connect(PATIENCE)
        except EndError:
            self._most = len(self._all)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Tell errors of writing from those of reading, which are the same to libnbd."""
        try:
            yield
        except NbdError as error:
            raise EndError(error.message) from error


def _check(target: Target, size: int) -> None:
    if target.read_only:
        raise EndUnfit("is read-only", "let the server export it for writing")
    if target.size < round_up(size, target.smallest):
        raise EndUnfit(f"has room for {target.size} bytes, and the disk has {size}", "use a larger export")
