# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which pieces of an image go past the page cache. The flag is off here, as not every file system knows it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.virt.backup.plugins.module_utils._copy import direct_file, ends, qcow2
from ansible_collections.virt.backup.plugins.module_utils._copy.direct_file import AHEAD, KEPT, PAGE, DirectFile
from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2 import Qcow2File
from ansible_collections.virt.backup.plugins.module_utils._copy.raw import RawFile
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER

if t.TYPE_CHECKING:
    from pathlib import Path


class Written(t.NamedTuple):
    """A write, and where in memory it came from."""

    fd: int
    offset: int
    length: int
    address: int


@pytest.fixture
def fd(tmp_path: Path) -> t.Iterator[int]:
    """Return a new file."""
    number = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT)
    yield number
    os.close(number)


def address_of(data: memoryview) -> int:
    """Return where the data lies in memory, 0 for what can only be read."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(data))
    except TypeError:
        return 0


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    """Return the list of all writes to come."""
    seen: list[Written] = []

    def spy(number: int, data: memoryview | bytes, offset: int) -> None:
        pieces = memoryview(data)
        seen.append(Written(number, offset, len(pieces), address_of(pieces)))
        ends.write_all(number, data, offset)

    monkeypatch.setattr(direct_file, "write_all", spy)
    monkeypatch.setattr(qcow2, "write_all", spy)
    monkeypatch.setattr(os, "O_DIRECT", 0)
    return seen


def pages(writes: list[Written]) -> set[int]:
    return {page for write in writes for page in range(write.offset // PAGE, -(-(write.offset + write.length) // PAGE))}


def apart(writes: list[Written], fd: int) -> tuple[list[Written], list[Written]]:
    """Return the direct writes, which are whole pages from aligned memory, and the others, which share none of them."""
    direct = [write for write in writes if write.fd != fd]
    buffered = [write for write in writes if write.fd == fd]
    for write in direct:
        assert write.offset % PAGE == write.length % PAGE == write.address % PAGE == 0
        assert 0 < write.length <= BLOCK
        assert write.address
    assert not pages(direct) & pages(buffered)
    return direct, buffered


@pytest.mark.parametrize(
    ("offset", "length", "direct", "buffered"),
    [
        (0, PAGE, [(0, PAGE)], []),
        (PAGE, 2 * BLOCK + PAGE, [(PAGE, BLOCK), (PAGE + BLOCK, BLOCK), (PAGE + 2 * BLOCK, PAGE)], []),
        (0, PAGE - 1, [], [(0, PAGE - 1)]),
        (0, PAGE + 1, [(0, PAGE)], [(PAGE, 1)]),
        (0, BLOCK + 512, [(0, BLOCK)], [(BLOCK, 512)]),
        (512, 3 * PAGE, [], [(512, 3 * PAGE)]),
        (PAGE - 1, 1, [], [(PAGE - 1, 1)]),
    ],
)
def test_whole_pages_are_direct_and_nothing_else(
    fd: int,
    writes: list[Written],
    offset: int,
    length: int,
    direct: list[tuple[int, int]],
    buffered: list[tuple[int, int]],
) -> None:
    content = os.urandom(length)
    with contextlib.closing(DirectFile(fd)) as data:
        data.write(content, offset)
    found = apart(writes, fd)
    assert [[(write.offset, write.length) for write in part] for part in found] == [direct, buffered]
    assert os.pread(fd, length + 1, offset) == content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    packed=st.lists(st.sampled_from([None, 0, 1, 511, PAGE - 1, PAGE, 2 * PAGE, CLUSTER - 1]), max_size=40),
    beyond=st.integers(0, CLUSTER - 1),
    form=st.sampled_from(["plain", "compressed", "raw"]),
)
def test_no_page_of_an_image_is_written_both_ways(
    tmp_path: Path, writes: list[Written], packed: list[int | None], beyond: int, form: str
) -> None:
    """Plain clusters and packed ones of all lengths (0 is no gain, ``None`` a hole), tables, header, an odd end."""
    writes.clear()
    lengths = [length for length in packed if length is not None]
    left = iter(lengths)
    size = max(len(packed) * CLUSTER - beyond, 1)
    fd = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    with contextlib.closing(make_end(fd, size, form, lambda _cluster: b"p" * next(left) or None)) as end:
        for number, length in enumerate(packed):
            if length is not None:
                end.write(number * CLUSTER, memoryview(bytearray(b"d" * CLUSTER)))
        end.settled(size)
        end.finish()
    direct = sum(write.length for write in apart(writes, fd)[0])
    assert form != "plain" or direct == len(lengths) * CLUSTER
    assert form != "compressed" or direct >= lengths.count(0) * CLUSTER
    os.close(fd)


def make_end(fd: int, size: int, form: str, compress: t.Callable[[memoryview], bytes | None]) -> RawFile | Qcow2File:
    if form == "raw":
        return RawFile(fd, size, direct=True)
    return Qcow2File(fd, size, compression="zstd", compress=compress if form == "compressed" else None, direct=True)


def test_the_cache_lets_go_of_buffered_pieces_on_the_way_and_at_the_end(
    fd: int, writes: list[Written], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *words: asked.append((len(writes), *words)))
    with contextlib.closing(DirectFile(fd)) as data:
        for number in range(3 * 9):
            data.write(bytes(KEPT // 9 + 1), number * (KEPT // 9 + 1) + 1)
        assert asked == [(count, fd, 0, 0, os.POSIX_FADV_DONTNEED) for count in (9, 18, 27)]
        data.finish()
        assert len(asked) == 4


@pytest.mark.parametrize(
    ("answer", "asked"), [(0, [(0, AHEAD), (AHEAD, AHEAD), (2 * AHEAD, 2 * AHEAD)]), (-1, [(0, AHEAD)])]
)
def test_a_file_that_grows_takes_room_ahead_while_it_can_be_had(
    fd: int, writes: list[Written], monkeypatch: pytest.MonkeyPatch, answer: int, asked: list[tuple[int, int]]
) -> None:
    taken: list[tuple[int, int]] = []
    with contextlib.closing(DirectFile(fd, grows=True)) as data:
        monkeypatch.setattr(data, "_allocate", lambda _fd, _mode, *room: taken.append(room) or answer)
        for offset in (0, PAGE, AHEAD - PAGE, AHEAD, 4 * AHEAD - PAGE, 3 * AHEAD):
            data.write(bytes(PAGE), offset)
    assert len(writes) == 6
    assert taken == asked


def test_a_refusal_names_the_parameter_and_leaves_no_descriptor(
    fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_words: t.Any) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(InputError) as caught:
            DirectFile(fd)
    assert caught.value.message == (
        f"direct: True is refused by the file system of {str(tmp_path)!r} (O_DIRECT: Invalid argument); "
        "use false, or a dest on a file system that allows it, such as ext4."
    )
    assert os.listdir("/proc/self/fd") == before


def test_the_second_descriptor_may_do_no_more_than_the_first_and_is_closed(
    tmp_path: Path, writes: list[Written]
) -> None:
    (tmp_path / "image").touch()
    fd = os.open(tmp_path / "image", os.O_RDONLY)
    before = os.listdir("/proc/self/fd")
    data = DirectFile(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        data.write(bytes(PAGE), 0)
    assert [write.fd == fd for write in writes] == [False]
    data.close()
    assert os.listdir("/proc/self/fd") == before
    os.close(fd)
