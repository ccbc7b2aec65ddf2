# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The traps of copying a disk, each with the naive code that falls into it.

Every trap has a check, which the collection passes, and a naive form, which is put in the place of ours and must fail the
same check: a check that the naive form passes would prove nothing. ``docs/internals/traps.md`` lists them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.virt.backup.plugins.module_utils import _nbd
from ansible_collections.virt.backup.plugins.module_utils._copy import (
    plan,
    qcow2,
    qcow2_format,
    registry,
    source,
    transfer,
)
from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2 import Qcow2File
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import Extent, Run
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place
from ansible_collections.virt.backup.plugins.module_utils._nbd import NbdError
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import nbd_wire as wire
from ansible_collections.virt.backup.tests.integration import own_process, traps_written, without_hypervisor
from ansible_collections.virt.backup.tests.integration.nbd_fake import (
    ALLOCATION,
    Die,
    Disk,
    Fault,
    Manners,
    SparseContent,
)
from ansible_collections.virt.backup.tests.integration.trap_kit import (
    CLUSTER,
    GIB,
    MIB,
    NEW,
    OLD,
    Patch,
    Trap,
    copy,
    disk_of,
    shows,
)

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host


def zeroed(place: Path) -> None:
    """A cluster that became zero shows zero, not what it was; told by the server, and found by reading."""
    content = bytes(2 * CLUSTER) + OLD * (MIB - 2 * CLUSTER)
    zero = [(CLUSTER, 3), (MIB - CLUSTER, 0)]
    copy(place, disk_of(content, zero, [(2 * CLUSTER, 1), (MIB - 2 * CLUSTER, 0)]))
    nbd.run("qemu-img", "check", "-q", place / "image.qcow2")  # says nothing of this fault
    shows(place, content)


def leave_zeroes_out(patch: Patch) -> None:
    patch.setattr(Qcow2File, "zero", lambda *_args: None)


def odd_size(place: Path) -> None:
    content = NEW * (MIB + 65)
    copy(place, disk_of(content, [(len(content), 0)], []), full=True)
    shows(place, content)


def round_sizes_down(patch: Patch) -> None:
    true = qcow2.round_up
    patch.setattr(qcow2, "round_up", lambda number, unit: number // 512 * 512 if unit == 512 else true(number, unit))


def overshoot(place: Path) -> None:
    """What reaches past the window that was asked about is met again in the next one."""
    with Patch.context() as patch:
        patch.setattr(source, "WINDOW", MIB)
        content = NEW * (4 * MIB)
        dirty = [(3 * CLUSTER, 0), (3 * MIB, 1), (MIB - 3 * CLUSTER, 0)]
        copy(place, disk_of(content, [(4 * MIB, 0)], dirty), Manners(overshoot=True), connections=1)
    nbd.run("qemu-img", "check", "-q", place / "image.qcow2")
    changed = content[3 * CLUSTER : 3 * CLUSTER + 3 * MIB]
    shows(place, OLD * 3 * CLUSTER + changed + OLD * (MIB - 3 * CLUSTER))


def take_extents_as_told(patch: Patch) -> None:
    def extents(self: t.Any, context: str, start: int, end: int) -> t.Iterator[Extent]:
        for told in _replies(self, context, start, end, lambda found: sum(found[context][::2])):
            yield from told

    patch.setattr(_nbd.Connection, "extents", extents)


def advance_by_the_longest(patch: Patch) -> None:
    def extents(self: t.Any, context: str, start: int, end: int) -> t.Iterator[Extent]:
        def longest(found: dict[str, list[int]]) -> int:
            return max(sum(entries[::2]) for entries in found.values())

        for told in _replies(self, context, start, end, longest):
            yield from told

    patch.setattr(_nbd.Connection, "extents", extents)


def _reply(handle: t.Any, start: int, end: int) -> dict[str, list[int]]:
    """Return what the server says in one reply, by context."""
    found: dict[str, list[int]] = {}

    def note(name: str, _offset: int, entries: list[int], _error: t.Any) -> int:
        found[name] = list(entries)
        return 0

    cookie = handle.aio_block_status(end - start, start, note)
    while not handle.aio_command_completed(cookie):
        handle.poll(1000)
    return found


def _replies(
    connection: t.Any, context: str, start: int, end: int, advance: t.Callable[[dict[str, list[int]]], int]
) -> t.Iterator[list[Extent]]:
    """Yield the extents of each reply, and go on from where ``advance`` says."""
    position = start
    while position < end:
        found = _reply(connection._nbd, position, end)
        lengths = found[context][::2]
        starts = itertools.accumulate([position, *lengths])
        yield [Extent(*extent) for extent in zip(starts, lengths, found[context][1::2])]
        position += advance(found)


def two_speeds(place: Path) -> None:
    """Both contexts over one connection; the bitmap is told one extent a reply, the allocation all at once."""
    content = (NEW * CLUSTER + OLD * CLUSTER) * 16
    dirty = [(CLUSTER, 1), (CLUSTER, 0)] * 16
    copy(place, disk_of(content, [(len(content), 0)], dirty), Manners(cuts=(10**9, 1)), connections=1)
    shows(place, content)


def no_bitmap(place: Path) -> None:
    """Without its context every block looks clean: the increment would be empty, and look like one."""
    content = NEW * MIB
    with pytest.raises(InputError, match=r"images\[0\]\.bitmap: 'b' is not offered"):
        copy(place, Disk(content, {ALLOCATION: [(MIB, 0)]}))
    assert not (place / "image.qcow2").exists()


def trust_the_bitmap_to_be_there(patch: Patch) -> None:
    true_init, true_extents = _nbd.Connection.__init__, _nbd.Connection.extents

    def connect(self: t.Any, uri: str, contexts: tuple[str, ...], *rest: t.Any, **options: t.Any) -> None:
        true_init(self, uri, contexts, *rest, **options)
        self.offered = self.contexts
        self.contexts = frozenset(contexts)

    def extents(self: t.Any, context: str, start: int, end: int) -> t.Iterable[Extent]:
        if context in self.offered:
            return true_extents(self, context, start, end)
        return [Extent(start, end - start, 0)]

    patch.setattr(_nbd.Connection, "__init__", connect)
    patch.setattr(_nbd.Connection, "extents", extents)


def full_holes(place: Path) -> None:
    """A hole may hold anything: only ZERO promises that it reads as zero."""
    content = NEW * CLUSTER + OLD * (MIB - CLUSTER)
    copy(place, disk_of(content, [(CLUSTER, 1), (MIB - CLUSTER, 0)], []), full=True)
    shows(place, content)


def take_holes_for_zeroes(patch: Patch) -> None:
    patch.setattr(plan, "ZERO", plan.ZERO | plan.HOLE)


def lone_client(place: Path) -> None:
    content = NEW * 4 * MIB
    disk = disk_of(content, [(len(content), 0)], [(len(content), 1)])
    fake = copy(place, disk, Manners(multi_conn=False, admits=1), timeout=5)
    shows(place, content)
    assert fake.clients == 1


def connect_again_in_any_case(patch: Patch) -> None:
    patch.setattr(transfer, "PATIENCE", 0.2)
    patch.setattr(transfer.Transfer, "_several", lambda *_args: True)


def dying(place: Path) -> None:
    """A server that is gone in the middle ends the copy; what was read until then is no image of the disk."""
    content = NEW * 8 * MIB

    def gone(request: wire.Request) -> t.Sequence[Fault]:
        return [Die] if request.command == wire.Command.READ and request.offset >= 4 * MIB else ()

    with pytest.raises(StateError, match=r"^images\[0\]\.uri: reading from .* failed: "):
        copy(place, disk_of(content, [(len(content), 0)], []), Manners(fault=gone), full=True)
    assert not (place / "image.qcow2").exists()


def take_what_came(patch: Patch) -> None:
    true = _nbd.Connection.finish_read

    def finish(self: t.Any, cookies: list[int]) -> None:
        with contextlib.suppress(NbdError):
            true(self, cookies)

    def start(self: t.Any, into: memoryview, offset: int) -> list[int]:
        with contextlib.suppress(NbdError):
            return true_start(self, into, offset)
        return []

    true_start = _nbd.Connection.start_read
    patch.setattr(_nbd.Connection, "finish_read", finish)
    patch.setattr(_nbd.Connection, "start_read", start)


def unfinished(place: Path) -> None:
    """Killed before its end, a file is no image; one that QEMU opens would be taken for a backup."""
    path = place / "image.qcow2"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    end = Qcow2File(fd, 4 * MIB)
    end.write(0, memoryview(bytearray(NEW * MIB)))
    end.settled(4 * MIB)
    os.close(fd)
    with pytest.raises(AssertionError, match="not in qcow2 format"):
        nbd.run("qemu-img", "info", "-f", "qcow2", path)


def write_the_header_first(patch: Patch) -> None:
    true = Qcow2File.__init__

    def begin(self: t.Any, fd: int, size: int, *rest: t.Any) -> None:
        true(self, fd, size, *rest)
        table = 2 * CLUSTER
        first = qcow2_format.header(
            size=size, l1_offset=3 * CLUSTER, l1_entries=1, refcount_offset=table, refcount_clusters=1
        )
        os.pwrite(fd, first, 0)

    patch.setattr(Qcow2File, "__init__", begin)


def pieces_of_clusters(place: Path) -> None:
    """A bitmap of 512 bytes: the rest of a touched cluster is as old as before, not zero."""
    content = bytearray(OLD * MIB)
    content[CLUSTER + 512 : CLUSTER + 1024] = NEW * 512
    dirty = [(CLUSTER + 512, 0), (512, 1), (MIB - CLUSTER - 1024, 0)]
    copy(place, disk_of(bytes(content), [(MIB, 0)], dirty))
    shows(place, bytes(content))


def pieces_through_qemu(place: Path) -> None:
    """The same, where QEMU writes the image: it knows no backing image there, and would fill the cluster with zeroes."""
    with Patch.context() as patch:
        patch.setitem(registry.ENDS, (Place.FILE, "qcow2"), registry.qemu)
        pieces_of_clusters(place)


def large_blocks(place: Path) -> None:
    """The same, served by who refuses requests that are no multiple of 4 KiB."""
    content = bytearray(OLD * MIB)
    content[CLUSTER + 512 : CLUSTER + 1024] = NEW * 512
    dirty = [(CLUSTER + 512, 0), (512, 1), (MIB - CLUSTER - 1024, 0)]
    copy(place, disk_of(bytes(content), [(MIB, 0)], dirty), Manners(insists=(4096, MIB)))
    shows(place, bytes(content))


def read_what_is_dirty_and_no_more(patch: Patch) -> None:
    def as_told(runs: t.Iterable[Run], size: int, _cluster: int) -> t.Iterator[Run]:
        return (Run(start, min(end, size)) for start, end in runs)

    patch.setattr(plan, "rounded_out", as_told)


def beyond_32_bits(place: Path) -> None:
    size = 9 * GIB
    content = SparseContent(size, {5 * GIB: NEW * CLUSTER})
    allocation = [(4 * GIB - CLUSTER, 3), (GIB + CLUSTER, 3), (CLUSTER, 0), (4 * GIB - 2 * CLUSTER, 3), (CLUSTER, 3)]
    fake = copy(place, Disk(content, {ALLOCATION: allocation}), full=True)
    told = nbd.run("qemu-io", "-r", "-f", "qcow2", "-c", f"read -P 0x22 {5 * GIB} 64k", place / "image.qcow2")
    assert "failed" not in told
    assert nbd.virtual_size(place / "image.qcow2", "qcow2") == size
    assert sum(request.command == wire.Command.BLOCK_STATUS for request in fake.requests) < 20


def ask_for_all_at_once(patch: Patch) -> None:
    patch.setattr(source, "WINDOW", 2**40)


def ask_for_a_block_at_a_time(patch: Patch) -> None:
    patch.setattr(source, "WINDOW", 64 * MIB)


def without_the_library(place: Path) -> None:
    with Patch.context() as patch:
        patch.setattr(_nbd, "nbd", None)
        with pytest.raises(BackupError, match=r"^The Python library nbd is missing .*install the package"):
            _nbd.Connection("nbd://x", (), 1.0, threading.Event())


def take_the_library_for_granted(patch: Patch) -> None:
    def connect(self: t.Any, *_args: t.Any) -> None:
        self._nbd = _nbd.nbd.NBD()

    patch.setattr(_nbd.Connection, "__init__", connect)


def several_at_a_time(place: Path) -> None:
    """A server that needs a while for each read answers several of them in that while."""
    lock, running, most = threading.Lock(), [0], [0]

    def slow(request: wire.Request) -> t.Sequence[bytes]:
        if request.command == wire.Command.READ:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.05)
            with lock:
                running[0] -= 1
        return ()

    content = NEW * 8 * MIB
    copy(place, disk_of(content, [(len(content), 0)], []), Manners(fault=slow), full=True)
    assert most[0] > 1


def read_over_one_connection(patch: Patch) -> None:
    patch.setattr(transfer.Transfer, "_several", lambda *_args: False)


def few_syncs(place: Path) -> None:
    """Durability costs a handful of syncs for a file, not one for each write."""
    syncs: list[int] = []
    with Patch.context() as patch:
        for name in ("fsync", "fdatasync"):
            true = getattr(os, name)
            patch.setattr(os, name, lambda fd, true=true: syncs.append(fd) or true(fd))
        content = NEW * 16 * MIB
        copy(place, disk_of(content, [(len(content), 0)], []), full=True)
    assert 2 <= len(syncs) <= 8


def write_through(patch: Patch) -> None:
    true = Qcow2File.write

    def write(self: t.Any, offset: int, data: memoryview) -> None:
        true(self, offset, data)
        os.fsync(self._fd)

    patch.setattr(Qcow2File, "write", write)


TRAPS = (
    Trap("zero-left-out", zeroed, leave_zeroes_out, "Content mismatch at offset 0"),
    *traps_written.TRIMMED,
    Trap("size-rounded-down", odd_size, round_sizes_down, "mismatch at offset 1048576"),
    Trap("extent-longer-than-asked", overshoot, take_extents_as_told, "Leaked cluster"),
    Trap("contexts-of-two-lengths", two_speeds, advance_by_the_longest, "Content mismatch"),
    Trap("bitmap-missing", no_bitmap, trust_the_bitmap_to_be_there, "DID NOT RAISE"),
    Trap("hole-is-not-zero", full_holes, take_holes_for_zeroes, "Content mismatch at offset 0"),
    Trap("second-client-waits-for-ever", lone_client, connect_again_in_any_case, r"assert \d == 1"),
    Trap("server-that-dies", dying, take_what_came, "DID NOT RAISE"),
    Trap("unfinished-file-is-an-image", unfinished, write_the_header_first, "DID NOT RAISE"),
    Trap("piece-of-a-cluster", pieces_of_clusters, read_what_is_dirty_and_no_more, "Content mismatch at offset 65536"),
    Trap(
        "piece-of-a-cluster-in-qemu",
        pieces_through_qemu,
        read_what_is_dirty_and_no_more,
        "Content mismatch at offset 65536",
    ),
    Trap("minimum-block-size", large_blocks, read_what_is_dirty_and_no_more, "unaligned"),
    Trap("beyond-32-bits", beyond_32_bits, ask_for_all_at_once, "request too large"),
    Trap("library-missing", without_the_library, take_the_library_for_granted, "has no attribute 'NBD'"),
    Trap("listing-takes-minutes", beyond_32_bits, ask_for_a_block_at_a_time, r"assert \d+ < 20"),
    Trap("one-request-at-a-time", several_at_a_time, read_over_one_connection, "assert 1 > 1"),
    Trap("sync-after-each-write", few_syncs, write_through, r"assert \d+ <= 8"),
    *traps_written.TRAPS,
)


@pytest.mark.parametrize("trap", TRAPS, ids=[trap.name for trap in TRAPS])
def test_ours_does_not_fall_into(trap: Trap, tmp_path: Path) -> None:
    trap.check(tmp_path)


@pytest.mark.parametrize("trap", TRAPS, ids=[trap.name for trap in TRAPS])
def test_the_naive_form_falls_into(trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is worth something: it fails as soon as the code is what it must not be."""
    trap.naive(monkeypatch)
    with pytest.raises((AssertionError, BackupError, AttributeError, pytest.fail.Exception), match=trap.damage):
        trap.check(tmp_path)


def test_the_traps_are_listed() -> None:
    """The document has a row for each trap, and no row without one."""
    text = (Path(__file__).parents[2] / "docs/internals/traps.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE) == [trap.name for trap in TRAPS]
