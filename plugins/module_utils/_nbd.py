# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The gateway to libnbd: one class around one connection, every wait bounded. Nothing else imports ``nbd``.

Works with libnbd 1.14 (Debian 12) to 1.22: newer calls are used where they are. Facts about servers are from the NBD
protocol (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md) and from QEMU's nbd/server.c.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import Extent
from ansible_collections.virt.backup.plugins.module_utils._model.text import brief

if t.TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

try:
    import nbd
except ImportError:
    nbd = None  # type: ignore[assignment,unused-ignore]

ALLOCATION = "base:allocation"
BITMAP_PREFIX = "qemu:dirty-bitmap:"
LARGEST_READ = 32 * 1024 * 1024
"""QEMU refuses more in one request; servers that say nothing may do the same."""

_POLL_MS = 200


class NbdError(BackupError):
    """What libnbd or the server said, in its words. The caller knows which parameter it belongs to."""


class NbdTimeout(NbdError):
    """The server sent nothing for longer than the time-out."""


class Cancelled(BackupError):
    """Another part of the same call failed, or a signal came; this part stopped. Never the first error."""


def _words(error: t.Any) -> str:
    """Return what libnbd says, which may quote the server: a policy of many lines, or a text without end."""
    return brief(" ".join(str(error.string).split()))


class Connection:
    """One connection to one export. Not for two threads at once.

    ``timeout`` is the longest silence of the server in seconds; ``cancel`` ends every wait within a fraction of one.
    ``structured`` replies tell zeroes apart, also in the middle of a read, and contexts need them. For them the server
    looks up every piece of a read and sends each by itself; without them it reads and sends all at once.
    """

    def __init__(
        self,
        uri: str,
        contexts: tuple[str, ...],
        timeout: float,
        cancel: threading.Event,
        *,
        structured: bool = True,
    ) -> None:
        if nbd is None:
            # Here and not above: it takes a third of this program's start, which copies of small increments would feel.
            from ansible_collections.virt.backup.plugins.module_utils._respawn import missing_library

            raise BackupError(missing_library("nbd"))
        self._timeout = timeout
        self._cancel = cancel
        self._nbd: t.Any = nbd.NBD()
        self._nbd.set_uri_allow_local_file(True)
        self._nbd.set_pread_initialize(False)
        self._nbd.set_request_structured_replies(structured)
        for context in contexts:
            self._nbd.add_meta_context(context)
        self._call(self._nbd.aio_connect_uri, uri)
        self._wait(self._nbd.aio_is_ready)
        self.size: int = self._call(self._nbd.get_size)
        if self.size < 0:  # libnbd's number has a sign, the protocol's has none
            raise NbdError("the server tells of a size that no disk has")
        self.multi_conn: bool = self._call(self._nbd.can_multi_conn)
        self.contexts = frozenset(name for name in contexts if self._call(self._nbd.can_meta_context, name))
        maximum: int = self._call(self._nbd.get_block_size, nbd.SIZE_MAXIMUM)
        self.largest_read = min(maximum or LARGEST_READ, LARGEST_READ)

    def serve_until(self, cancel: threading.Event, timeout: float) -> None:
        """Take another event and another time-out than while connecting."""
        self._cancel = cancel
        self._timeout = timeout

    def extents(self, context: str, start: int, end: int) -> Iterator[Extent]:
        """Yield what ``context`` says about the range, complete and clipped to it; memory holds one reply.

        A reply may be short, overshoot the range, and cover a different length in every context::

            asked            |-------------------|
            base:allocation  |----|---|              short: ask again from its end
            qemu:dirty-bitmap|------------|------------|   overshoots: clip

        so only the extents of the one context are looked at, and the loop goes on from where *they* ended.
        """
        position = start
        while position < end:
            reply = self._block_status(context, position, end - position)
            before = position
            for told, flags in reply:
                length = min(told, end - position)
                if length > 0:
                    yield Extent(position, length, flags)
                    position += length
            if position == before:
                raise NbdError(f"the server gave no extents of {context} at offset {position}")

    def start_read(self, into: memoryview, offset: int) -> list[int]:
        """Ask for ``len(into)`` bytes at ``offset``; the memory belongs to the connection until :meth:`finish_read`."""
        if len(into) <= self.largest_read:
            return [self._call(self._nbd.aio_pread, nbd.Buffer.from_buffer(into), offset)]
        cookies = []
        for start in range(0, len(into), self.largest_read):
            buffer = nbd.Buffer.from_buffer(into[start : start + self.largest_read])
            cookies.append(self._call(self._nbd.aio_pread, buffer, offset + start))
        return cookies

    def finish_read(self, cookies: list[int]) -> None:
        """Wait until the reads are complete."""
        for cookie in cookies:
            self._wait(self._nbd.aio_command_completed, cookie)

    def close(self) -> None:
        """Leave politely if that costs no waiting; the socket closes with the handle in any case."""
        handle, self._nbd = self._nbd, None
        try:
            if handle is not None and handle.aio_is_ready() and not handle.aio_in_flight():
                handle.aio_disconnect()
        except nbd.Error:
            pass

    def _block_status(self, context: str, offset: int, length: int) -> list[tuple[int, int]]:
        told: list[list[tuple[int, int]]] = []

        def wide(name: str, start: int, found: list[tuple[int, int]], _error: t.Any) -> int:
            if name == context and start == offset:
                told.append(list(found))
            return 0

        def narrow(name: str, start: int, found: list[int], _error: t.Any) -> int:
            if name == context and start == offset:
                told.append(list(zip(found[::2], found[1::2])))
            return 0

        # With extended headers the 32-bit call cuts extents at 4 GiB, so the 64-bit one is taken where it exists.
        if hasattr(self._nbd, "aio_block_status_64"):
            cookie = self._call(self._nbd.aio_block_status_64, length, offset, wide)
        else:
            cookie = self._call(self._nbd.aio_block_status, length, offset, narrow)
        self._wait(self._nbd.aio_command_completed, cookie)
        if len(told) > 1:
            raise NbdError(f"the server told twice of {context} at offset {offset}")
        return told[0] if told else []

    def _wait(self, done: Callable[..., bool], *args: t.Any) -> None:
        """Let the connection work until ``done``; raise when it was silent for the whole time-out.

        A block arrives in many pieces, each of which ends a ``poll``: what is done between two of them is the largest
        part of Python's share in a copy, so the clock is looked at only when a poll brought nothing.
        """
        poll, stopped, silent_since = self._nbd.poll, self._cancel.is_set, 0.0
        try:
            while not done(*args):
                if stopped():
                    raise Cancelled("stopped because another part of the call failed")
                if poll(_POLL_MS):
                    silent_since = 0.0
                elif not silent_since:
                    silent_since = time.monotonic() - _POLL_MS / 1000
                elif time.monotonic() - silent_since >= self._timeout:
                    raise NbdTimeout(f"the server sent nothing for {self._timeout:g} seconds")
        except nbd.Error as error:
            raise NbdError(_words(error)) from error

    def _call(self, function: Callable[..., t.Any], *args: t.Any, **options: t.Any) -> t.Any:
        try:
            return function(*args, **options)
        except nbd.Error as error:
            raise NbdError(_words(error)) from error


class Target(Connection):
    """A connection that is written to. Every call returns when the server has done it.

    ``smallest`` is what offsets and lengths are multiples of; ``zeroes`` tells whether the server can zero by itself,
    ``flushes`` whether it knows how to make durable what was written.
    """

    def __init__(self, uri: str, timeout: float, cancel: threading.Event) -> None:
        super().__init__(uri, (), timeout, cancel)
        self.read_only: bool = self._call(self._nbd.is_read_only)
        self.zeroes: bool = self._call(self._nbd.can_zero)
        self.flushes: bool = self._call(self._nbd.can_flush)
        minimum: int = self._call(self._nbd.get_block_size, nbd.SIZE_MINIMUM)
        self.smallest = minimum or 1

    def write(self, offset: int, data: memoryview) -> None:
        """Store the bytes."""
        for start in range(0, len(data), self.largest_read):
            whole = len(data) <= self.largest_read
            buffer = nbd.Buffer.from_buffer(data if whole else data[start : start + self.largest_read])
            self._wait(self._nbd.aio_command_completed, self._call(self._nbd.aio_pwrite, buffer, offset + start))

    def zero(self, offset: int, length: int, *, unmap: bool = False) -> None:
        """Make the range read as zero; by unmapping only where no backing file can show through instead."""
        flags = 0 if unmap else nbd.CMD_FLAG_NO_HOLE
        cookie = self._call(self._nbd.aio_zero, length, offset, flags=flags)
        self._wait(self._nbd.aio_command_completed, cookie)

    def flush(self) -> None:
        """Make durable what was written before. A server that has no flush promises nothing, and says no more."""
        if self.flushes:
            self._wait(self._nbd.aio_command_completed, self._call(self._nbd.aio_flush))
