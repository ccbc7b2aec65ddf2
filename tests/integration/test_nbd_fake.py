# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fake server, by the clients that others wrote: it speaks the protocol, and its bad manners are what they claim."""

from __future__ import annotations

import json
import threading
import typing as t

import nbd as libnbd
import pytest

from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import nbd_wire as wire
from ansible_collections.virt.backup.tests.integration import without_hypervisor
from ansible_collections.virt.backup.tests.integration.nbd_fake import (
    ALLOCATION,
    BITMAP,
    Die,
    Disk,
    FakeServer,
    Fault,
    Manners,
    Stall,
)

if t.TYPE_CHECKING:
    from pathlib import Path

KIB = 1024
DISK = Disk(
    b"a" * 4096 + bytes(8192) + b"b" * 5000,
    {ALLOCATION: [(4096, 0), (8192, 3), (5000, 0)], BITMAP: [(10000, 1), (7288, 0)]},
)
SIZE = len(DISK.content)

lab_host = without_hypervisor.lab_host


def connect(fake: FakeServer, *contexts: str) -> t.Any:
    handle = libnbd.NBD()
    for context in contexts:
        handle.add_meta_context(context)
    handle.connect_uri(fake.server.uri())
    return handle


def extents(handle: t.Any, offset: int, length: int) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    handle.block_status(length, offset, lambda name, _offset, entries, _error: found.update({name: entries}) or 0)
    return found


@pytest.mark.parametrize(("structured", "extended"), [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("piece", [512, 5000, 2**32])
def test_qemu_and_nbdcopy_read_every_byte(tmp_path: Path, structured: bool, extended: bool, piece: int) -> None:
    plain = tmp_path / "plain"
    with FakeServer(tmp_path, DISK, Manners(structured=structured, extended=extended, piece=piece)) as fake:
        nbd.run("nbdcopy", fake.server.uri(), plain)
        assert plain.read_bytes() == DISK.content
        if structured:  # without, QEMU 7.2 waits for ever for the bytes by which it rounded the odd size up
            plain.write_bytes(DISK.content.ljust(-(-SIZE // 512) * 512, b"\0"))
            nbd.run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", plain, fake.server.uri())


@pytest.mark.parametrize("cuts", [(1,), (1, 10), (10, 1), (10**9,)])
@pytest.mark.parametrize("overshoot", [True, False])
@pytest.mark.parametrize("extended", [True, False])
def test_nbdinfo_sees_both_contexts(tmp_path: Path, cuts: tuple[int, ...], overshoot: bool, extended: bool) -> None:
    with FakeServer(tmp_path, DISK, Manners(cuts=cuts, overshoot=overshoot, extended=extended)) as fake:
        for context in (ALLOCATION, BITMAP):
            told = json.loads(nbd.run("nbdinfo", f"--map={context}", "--json", fake.server.uri()))
            assert [(extent["length"], extent["type"]) for extent in told] == DISK.contexts[context]


def test_nbdinfo_sees_what_is_promised(tmp_path: Path) -> None:
    with FakeServer(tmp_path, DISK, Manners(multi_conn=False, insists=(512, 64 * KIB))) as fake:
        (told,) = json.loads(nbd.run("nbdinfo", "--json", fake.server.uri()))["exports"]
    assert told["export-size"] == SIZE
    assert told["is_read_only"]
    assert not told["can_multi_conn"]
    assert (told["block_size_minimum"], told["block_size_maximum"]) == (512, 64 * KIB)


def test_replies_are_cut_and_overshoot_as_told(tmp_path: Path) -> None:
    with FakeServer(tmp_path, DISK, Manners(cuts=(1, 2), overshoot=True)) as fake:
        handle = connect(fake, ALLOCATION, BITMAP)
        assert extents(handle, 4000, 100) == {ALLOCATION: [96, 0], BITMAP: [6000, 1]}
        handle.shutdown()
    with FakeServer(tmp_path, DISK) as fake:
        handle = connect(fake, ALLOCATION)
        assert extents(handle, 4000, 100) == {ALLOCATION: [96, 0, 4, 3]}
        handle.shutdown()


def test_who_asks_for_one_extent_gets_one_that_is_not_longer(tmp_path: Path) -> None:
    with FakeServer(tmp_path, DISK, Manners(overshoot=True)) as fake:
        handle, found = connect(fake, ALLOCATION), []
        handle.block_status(9000, 0, lambda *told: found.append(told[2]) or 0, flags=libnbd.CMD_FLAG_REQ_ONE)
        handle.block_status(50, 0, lambda *told: found.append(told[2]) or 0, flags=libnbd.CMD_FLAG_REQ_ONE)
        assert found == [[4096, 0], [50, 0]]
        handle.shutdown()


def test_it_insists_on_block_sizes(tmp_path: Path) -> None:
    with FakeServer(tmp_path, DISK, Manners(insists=(512, 4096))) as fake:
        handle = connect(fake)
        handle.set_strict_mode(0)
        assert handle.pread(4096, 512) == DISK.content[512:4608]
        for offset, length in ((1, 512), (0, 100), (0, 8192)):
            with pytest.raises(libnbd.Error, match="Invalid argument"):
                handle.pread(length, offset)
        handle.shutdown()


def test_sizes_are_told_in_turn_and_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with FakeServer(tmp_path, DISK, Manners(sizes=(100, SIZE + 1000))) as fake:
        handles = [connect(fake) for _unused in range(3)]
        assert [handle.get_size() for handle in handles] == [100, SIZE + 1000, SIZE + 1000]
        with pytest.raises(libnbd.Error, match="Input/output error"):
            handles[1].pread(10, SIZE)
        for handle in handles:
            handle.shutdown()


def test_it_admits_no_more_than_told(tmp_path: Path) -> None:
    with FakeServer(tmp_path, DISK, Manners(admits=1)) as fake:
        first, second = connect(fake), libnbd.NBD()
        second.aio_connect_uri(fake.server.uri())
        assert second.poll(100) >= 0
        assert not second.aio_is_ready()
        assert first.pread(1, 0) == b"a"
        first.shutdown()


def on_read(fault: t.Callable[[wire.Request], t.Sequence[Fault]]) -> Manners:
    return Manners(fault=lambda request: fault(request) if request.command == wire.Command.READ else ())


def test_a_fault_answers_instead(tmp_path: Path) -> None:
    with FakeServer(tmp_path, DISK, on_read(lambda request: [wire.error_chunk(request, wire.EIO, "sad")])) as fake:
        handle = connect(fake)
        with pytest.raises(libnbd.Error, match="Input/output error"):
            handle.pread(1, 0)
        handle.shutdown()
        assert fake.requests[0][2:7] == (0, 0, fake.requests[0].cookie, 0, 1)


def test_it_dies_for_all(tmp_path: Path) -> None:
    with FakeServer(tmp_path, DISK, on_read(lambda _request: [Die])) as fake:
        first, second = connect(fake), connect(fake)
        for handle in (first, second):
            with pytest.raises(libnbd.Error):
                handle.pread(1, 0)


def test_it_stalls_for_one(tmp_path: Path) -> None:
    with FakeServer(tmp_path, DISK, on_read(lambda request: [] if request.connection else [Stall])) as fake:
        first, second = connect(fake), connect(fake)
        cookie = first.aio_pread(libnbd.Buffer(1), 0)
        assert first.poll(100) >= 0
        assert second.pread(1, 0) == b"a"
        assert not first.aio_command_completed(cookie)


def test_it_leaves_no_thread_and_no_file(tmp_path: Path) -> None:
    before = threading.active_count()
    with FakeServer(tmp_path, DISK) as fake:
        handle = connect(fake)
        assert threading.active_count() > before
    assert threading.active_count() == before
    assert nbd.names(tmp_path) == set()
    del handle
