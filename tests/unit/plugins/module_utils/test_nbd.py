# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gateway to libnbd on a handle that cuts, overshoots, mixes contexts, stalls and fails, as servers do."""

from __future__ import annotations

import threading
import time
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils import _nbd
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import Extent
from ansible_collections.virt.backup.plugins.module_utils._nbd import (
    ALLOCATION,
    Cancelled,
    Connection,
    NbdError,
    NbdTimeout,
)

BITMAP = "qemu:dirty-bitmap:b"


class Error(Exception):
    """libnbd's."""

    @property
    def string(self) -> str:
        return str(self.args[0])


class Handle:
    """What one connection of libnbd does. ``pictures`` are the contexts, one character an extent of 10 bytes.

    ``cut`` is how many extents a reply holds at most, by context; a reply may reach past what was asked.
    """

    pictures: t.ClassVar[dict[str, str]] = {}
    cut: t.ClassVar[dict[str, int]] = {}
    silent: t.ClassVar[bool] = False
    error: t.ClassVar[str] = ""
    maximum: t.ClassVar[int] = 0

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.wanted: list[str] = []
        self._pending: dict[int, t.Callable[[], None]] = {}

    def set_uri_allow_local_file(self, _allow: bool) -> None: ...

    def set_pread_initialize(self, _initialize: bool) -> None: ...

    def set_request_structured_replies(self, structured: bool) -> None:
        self.structured = structured

    def add_meta_context(self, name: str) -> None:
        self.wanted.append(name)

    def aio_connect_uri(self, _uri: str) -> None:
        if self.error:
            raise Error(self.error)

    def aio_is_ready(self) -> bool:
        return not self.silent

    def get_size(self) -> int:
        return 10 * max(len(picture) for picture in self.pictures.values())

    def can_multi_conn(self) -> bool:
        return True

    def can_meta_context(self, name: str) -> bool:
        return name in self.pictures

    def get_block_size(self, _kind: int) -> int:
        return self.maximum

    def poll(self, milliseconds: int) -> int:
        if self.silent:
            time.sleep(milliseconds / 1000)
            return 0
        for cookie, work in list(self._pending.items()):
            self._pending.pop(cookie)
            work()
        return 1

    def aio_command_completed(self, cookie: int) -> bool:
        return cookie not in self._pending and not self.silent

    def aio_pread(self, buffer: memoryview, offset: int) -> int:
        self.asked.append((offset, len(buffer)))
        return self._issue(lambda: None)

    def aio_block_status(self, length: int, offset: int, callback: t.Callable[..., int]) -> int:
        self.asked.append((offset, length))

        def reply() -> None:
            for name in self.wanted:
                found = self._found(name, offset, length)
                if found:
                    callback(name, offset, [number for entry in found for number in entry], 0)

        return self._issue(reply)

    def _found(self, name: str, offset: int, length: int) -> list[tuple[int, int]]:
        picture = self.pictures.get(name, "")
        found: list[tuple[int, int]] = []
        position = offset
        while position < offset + length and position // 10 < len(picture) and len(found) < self.cut.get(name, 1000):
            end = position // 10 * 10 + 10
            found.append((end - position, int(picture[position // 10])))
            position = end
        return found

    def _issue(self, work: t.Callable[[], None]) -> int:
        cookie = len(self.asked)
        self._pending[cookie] = work
        return cookie


class WideHandle(Handle):
    """A newer libnbd, whose 32-bit call must not be used: it would cut long extents."""

    def aio_block_status_64(self, length: int, offset: int, callback: t.Callable[..., int]) -> int:
        def pairs(name: str, start: int, flat: list[int], error: int) -> int:
            return callback(name, start, list(zip(flat[::2], flat[1::2])), error)

        return Handle.aio_block_status(self, length, offset, pairs)

    def aio_block_status(self, length: int, offset: int, callback: t.Callable[..., int]) -> int:
        raise AssertionError("the 32-bit call was used")


class Buffer:
    @staticmethod
    def from_buffer(view: memoryview) -> memoryview:
        return view


@pytest.fixture(params=[Handle, WideHandle])
def handle(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Handle]:
    """Put a fake in libnbd's place; return its class, to be set up by the test."""
    kind = type("Kind", (request.param,), {"pictures": {}, "cut": {}})

    class Library:
        NBD = kind
        SIZE_MAXIMUM = 2

    Library.Error = Error  # type: ignore[attr-defined]
    Library.Buffer = Buffer  # type: ignore[attr-defined]
    monkeypatch.setattr(_nbd, "nbd", Library)
    monkeypatch.setattr(_nbd, "_POLL_MS", 10)
    return t.cast("type[Handle]", kind)


def connect(*contexts: str, timeout: float = 5.0, cancel: threading.Event | None = None) -> Connection:
    return Connection("nbd://x", contexts, timeout, cancel or threading.Event())


def picture(extents: t.Iterable[Extent], size: int) -> str:
    """Draw extents, and make sure that they lie one behind the other without gaps."""
    position, drawn = 0, ""
    for start, length, flags in extents:
        assert start == position
        drawn += str(flags) * length
        position += length
    assert position == size
    return drawn


@pytest.mark.parametrize("cut", [1, 2, 3, 1000])
@pytest.mark.parametrize("other", [1, 4, 1000])
def test_contexts_are_complete_whatever_the_cut_of_either(handle: type[Handle], cut: int, other: int) -> None:
    handle.pictures = {ALLOCATION: "0320032", BITMAP: "1101001"}
    handle.cut = {ALLOCATION: other, BITMAP: cut}
    connection = connect(ALLOCATION, BITMAP)
    assert picture(connection.extents(BITMAP, 0, 70), 70) == "".join(flag * 10 for flag in "1101001")
    assert picture(connection.extents(ALLOCATION, 0, 70), 70) == "".join(flag * 10 for flag in "0320032")


def test_what_overshoots_is_clipped(handle: type[Handle]) -> None:
    handle.pictures = {ALLOCATION: "012"}
    assert list(connect(ALLOCATION).extents(ALLOCATION, 5, 17)) == [Extent(5, 5, 0), Extent(10, 7, 1)]


def test_a_context_without_an_answer_is_an_error(handle: type[Handle]) -> None:
    handle.pictures = {ALLOCATION: "000", BITMAP: "1"}
    with pytest.raises(NbdError, match="no extents of qemu:dirty-bitmap:b at offset 10"):
        list(connect(ALLOCATION, BITMAP).extents(BITMAP, 0, 30))


def test_only_negotiated_contexts_are_told(handle: type[Handle]) -> None:
    handle.pictures = {ALLOCATION: "0"}
    assert connect(ALLOCATION, BITMAP).contexts == {ALLOCATION}


def test_reads_are_cut_to_what_the_server_takes(handle: type[Handle]) -> None:
    handle.pictures, handle.maximum = {ALLOCATION: "0" * 100}, 300
    connection = connect()
    connection.finish_read(connection.start_read(memoryview(bytearray(700)), 100))
    assert t.cast("Handle", connection._nbd).asked == [(100, 300), (400, 300), (700, 100)]


def test_silence_ends_after_the_timeout(handle: type[Handle]) -> None:
    handle.pictures, handle.silent = {ALLOCATION: "0"}, True
    began = time.monotonic()
    with pytest.raises(NbdTimeout, match=r"the server sent nothing for 0\.1 seconds"):
        connect(timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 2


def test_cancelling_ends_every_wait(handle: type[Handle]) -> None:
    handle.pictures, handle.silent = {ALLOCATION: "0"}, True
    cancel = threading.Event()
    threading.Timer(0.05, cancel.set).start()
    with pytest.raises(Cancelled):
        connect(timeout=60, cancel=cancel)


def test_errors_keep_the_library_s_words(handle: type[Handle]) -> None:
    handle.error = "nbd_aio_connect_uri: connect: Connection refused "
    with pytest.raises(NbdError, match=r"^nbd_aio_connect_uri: connect: Connection refused$"):
        connect()


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nbd, "nbd", None)
    with pytest.raises(BackupError, match=r"^The Python library nbd is missing on this machine .*install the package"):
        connect()
