# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers of every manner: the right bytes where the protocol allows it, else one sentence; and nothing stays behind."""

from __future__ import annotations

import gc
import os
import random
import re
import threading
import time
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy import transfer
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import nbd_wire as wire
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor
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

MIB = 1024 * 1024
CLUSTER = 65536
SIZE = 6 * MIB
SENTENCE = re.compile(r"images\[0\]\.(uri|bitmap): [^\n]+\.")
CONTENT = bytearray(random.Random(1).randbytes(SIZE))
CONTENT[MIB : 2 * MIB] = bytes(MIB)
DISK = Disk(
    bytes(CONTENT),
    {
        ALLOCATION: [(MIB, 0), (MIB, 3), (4 * MIB, 0)],
        BITMAP: [(CLUSTER, 1), (2 * CLUSTER, 0), (MIB, 1), (SIZE - MIB - 3 * CLUSTER, 1)],
    },
)

UNTOLD = DISK._replace(contexts={BITMAP: DISK.contexts[BITMAP]})
"""The same, and nobody says where it is zero: then all connections read by structured replies, which would tell."""

Faults = t.Sequence[Fault]

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host


@pytest.fixture
def out(tmp_path: Path) -> t.Iterator[Path]:
    """Return a folder for the images; whoever uses it leaves no thread and no open file behind."""
    folder = tmp_path / "out"
    folder.mkdir()
    nbd.create(folder / "base.qcow2", SIZE)
    gc.collect()  # what an earlier test left would go in the middle of this one
    threads, files = running(), open_files()
    yield folder
    gc.collect()  # an error holds the frames it came through, and these the connections
    assert running() == threads
    assert open_files() == files


def running() -> set[threading.Thread]:
    """Return the threads, but for the one by which pytest may watch over the time."""
    return {thread for thread in threading.enumerate() if not isinstance(thread, threading.Timer)}


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def copy(fake: FakeServer, out: Path, *, bitmap: bool, **options: t.Any) -> dict[str, t.Any]:
    image = ImageRequest(fake.server.uri(), str(out / "a.qcow2"), **_kind(bitmap=bitmap))
    request = ExtractRequest(images=(image,), clean_samples=0, **options)  # nothing of the disk was ever in the base
    result: dict[str, t.Any] = extract(request, check=False).result["images"][0]
    return result


def _kind(*, bitmap: bool) -> dict[str, str]:
    return {"bitmap": "b", "backing_file": "base.qcow2"} if bitmap else {}


def shows(image: Path, content: bytes, *, bitmap: bool) -> None:
    """Assert that QEMU reads the content from an image, whose base is empty: what is not dirty is zero."""
    expected = bytearray(content)
    if bitmap:
        expected[CLUSTER : 3 * CLUSTER] = bytes(2 * CLUSTER)
    plain = image.with_suffix(".plain")
    plain.write_bytes(expected)
    nbd.identical(image, plain, other_format="raw")


def fails(
    out: Path, manners: Manners, pattern: str, *, bitmap: bool = False, disk: Disk = DISK, **options: t.Any
) -> FakeServer:
    """Assert that a copy ends soon, with one sentence, and that no file was made."""
    with FakeServer(out.parent, disk, manners) as fake:
        began = time.monotonic()
        with pytest.raises(BackupError, match=pattern) as caught:
            copy(fake, out, bitmap=bitmap, **options)
        assert time.monotonic() - began < 20
    assert SENTENCE.fullmatch(str(caught.value)), str(caught.value)
    assert nbd.names(out) == {"base.qcow2"}
    return fake


def on(command: wire.Command, fault: t.Callable[[wire.Request], Faults], every: int = 1) -> Manners:
    """Return the manners of a server that answers each so many commands of a kind with a fault."""
    count = iter(range(1, 10**9))

    def of(request: wire.Request) -> Faults:
        return fault(request) if request.command == command and next(count) % every == 0 else ()

    return Manners(fault=of)


LEGAL = {
    "one extent a reply": Manners(cuts=(1,)),
    "each context cut its own way": Manners(cuts=(1, 2)),
    "longer than asked": Manners(overshoot=True),
    "content in pieces, last first": Manners(piece=5000),
    "only one client": Manners(multi_conn=False, admits=1),
    "many clients, but no promise of one view": Manners(multi_conn=False),
    "block sizes": Manners(insists=(512, CLUSTER)),
    "blocks as large as clusters": Manners(insists=(CLUSTER, CLUSTER)),
    "blocks of no power of two": Manners(insists=(1, 100_000)),
    "slow": Manners(fault=lambda _request: time.sleep(0.02) or ()),
}


@pytest.mark.parametrize("bitmap", [False, True], ids=["full", "incremental"])
@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("manners", LEGAL.values(), ids=list(LEGAL))
def test_what_the_protocol_allows(out: Path, manners: Manners, connections: int, bitmap: bool) -> None:
    with FakeServer(out.parent, DISK, manners) as fake:
        copy(fake, out, bitmap=bitmap, connections=connections)
    shows(out / "a.qcow2", DISK.content, bitmap=bitmap)


def test_no_structured_replies(out: Path) -> None:
    """A full copy reads it all; an increment would see nothing dirty."""
    with FakeServer(out.parent, DISK, Manners(structured=False)) as fake:
        copy(fake, out, bitmap=False)
    shows(out / "a.qcow2", DISK.content, bitmap=False)
    (out / "a.qcow2").unlink()
    for path in out.iterdir():
        if path.name != "base.qcow2":
            path.unlink()
    fails(out, Manners(structured=False), r"images\[0\]\.bitmap: 'b' is not offered", bitmap=True)


@pytest.mark.parametrize("admits", [1, 2, 3])
def test_promised_connections_that_never_come(out: Path, monkeypatch: pytest.MonkeyPatch, admits: int) -> None:
    monkeypatch.setattr(transfer, "PATIENCE", 0.3)
    for bitmap in (False, True):
        with FakeServer(out.parent, DISK, Manners(admits=admits)) as fake:
            copy(fake, out, bitmap=bitmap, force=True)
        shows(out / "a.qcow2", DISK.content, bitmap=bitmap)


BAD_READS: dict[str, t.Callable[[wire.Request], Faults]] = {
    "an error": lambda request: [wire.error_chunk(request, wire.EIO)],
    "an error with a text": lambda request: [wire.error_chunk(request, wire.EIO, "disk\non fire")],
    "an error in the middle": lambda request: [
        wire.data_chunk(request, request.offset, b"x" * 512),
        wire.error_chunk(request, wire.EIO),
    ],
    "no content": lambda request: [wire.done(request)],
    "short": lambda request: [
        wire.data_chunk(request, request.offset, b"x" * (request.length - 512)),
        wire.done(request),
    ],
    "long": lambda request: [wire.data_chunk(request, request.offset, b"x" * (request.length + 512))],
    "long hole": lambda request: [wire.data_chunk(request, request.offset, bytes(request.length + 512))],
    "elsewhere": lambda request: [wire.data_chunk(request, request.end, b"x" * 512)],
    "a simple reply after structured ones were agreed on": lambda request: [
        wire.simple(request, data=b"x" * request.length)
    ],
    "an answer to another question": lambda request: [
        wire.data_chunk(request._replace(cookie=99), request.offset, b"x" * request.length)
    ],
    "no protocol": lambda _request: [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4],
    "the end": lambda _request: [Die],
    "the end within a header": lambda request: [wire.done(request)[:7], Die],
    "the end within content": lambda request: [
        wire.data_chunk(request, request.offset, b"x" * request.length)[:5000],
        Die,
    ],
}


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("fault", BAD_READS.values(), ids=list(BAD_READS))
def test_bad_answers_to_reads(out: Path, fault: t.Callable[[wire.Request], Faults], connections: int) -> None:
    manners = on(wire.Command.READ, fault, every=3)
    fails(out, manners, r"^images\[0\]\.uri: reading from .*was not written", disk=UNTOLD, connections=connections)


BAD_SIMPLE_READS: dict[str, t.Callable[[wire.Request], Faults]] = {
    "an error": lambda request: [wire.simple(request, wire.EIO)],
    "an answer to another question": lambda request: [
        wire.simple(request._replace(cookie=99), data=b"x" * request.length)
    ],
    "a structured reply that was not agreed on": lambda request: [
        wire.data_chunk(request, request.offset, b"x" * request.length)
    ],
    "no protocol": lambda _request: [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4],
    "the end within content": lambda request: [wire.simple(request, data=b"x" * request.length)[:5000], Die],
}


@pytest.mark.parametrize("fault", BAD_SIMPLE_READS.values(), ids=list(BAD_SIMPLE_READS))
def test_bad_simple_answers_to_reads(out: Path, fault: t.Callable[[wire.Request], Faults]) -> None:
    """What is zero is known beforehand, so several connections read by simple replies."""
    manners = on(wire.Command.READ, fault, every=3)
    fails(out, manners, r"^images\[0\]\.uri: reading from .*was not written", connections=4)


def _told(request: wire.Request, context: int, *extents: tuple[int, int]) -> bytes:
    return wire.status_chunk(request, context, extents)


BAD_STATUS: dict[str, t.Callable[[wire.Request], Faults]] = {
    "an error": lambda request: [wire.error_chunk(request, wire.EINVAL)],
    "nothing": lambda request: [wire.done(request)],
    "no extents": lambda request: [_told(request, 0), _told(request, 1), wire.done(request)],
    "extents of no length": lambda request: [
        _told(request, 0, (0, 0)),
        _told(request, 1, (0, 0)),
        wire.done(request),
    ],
    "a context nobody asked for": lambda request: [_told(request, 77, (request.length, 0)), wire.done(request)],
    "a broken chunk": lambda request: [wire.chunk(request, wire.CHUNK_STATUS, b"abc"), wire.done(request)],
    "the end": lambda _request: [Die],
}


@pytest.mark.parametrize("bitmap", [False, True], ids=["full", "incremental"])
@pytest.mark.parametrize("fault", BAD_STATUS.values(), ids=list(BAD_STATUS))
def test_bad_answers_about_extents(out: Path, fault: t.Callable[[wire.Request], Faults], bitmap: bool) -> None:
    """An increment that believed an answer without extents would lack what was dirty there."""
    manners = on(wire.Command.BLOCK_STATUS, fault)
    fails(out, manners, r"^images\[0\]\.uri: reading from .*was not written", bitmap=bitmap)


def test_an_extent_of_no_length_among_others_is_passed_over(out: Path) -> None:
    """The harmless twin: the answer is whole all the same."""

    def padded(request: wire.Request) -> Faults:
        extents = [(MIB, 0), (0, 3), (MIB, 3), (0, 0), (4 * MIB, 0)]
        return [_told(request, 0, *extents), wire.done(request)] if request.offset == 0 else ()

    with FakeServer(out.parent, DISK, on(wire.Command.BLOCK_STATUS, padded)) as fake:
        copy(fake, out, bitmap=False)
    shows(out / "a.qcow2", DISK.content, bitmap=False)


STALLS: dict[str, Manners] = {
    "before hello": Manners(admits=0),
    "in a question": on(wire.Command.BLOCK_STATUS, lambda _request: [Stall]),
    "in a read": on(wire.Command.READ, lambda _request: [Stall], every=3),
    "in a header": on(wire.Command.READ, lambda request: [wire.done(request)[:7], Stall], every=3),
    "in content": on(
        wire.Command.READ,
        lambda request: [wire.data_chunk(request, request.offset, b"x" * request.length)[:5000], Stall],
        every=3,
    ),
}


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("stall", STALLS)
def test_silence_ends_after_the_timeout(out: Path, stall: str, connections: int) -> None:
    disk = DISK if stall == "in a question" else UNTOLD
    silence = r"the server sent nothing for 1 seconds"
    fails(out, STALLS[stall], silence, disk=disk, timeout=1, connections=connections)


def test_silence_in_a_simple_reply_ends_after_the_timeout(out: Path) -> None:
    def stall(request: wire.Request) -> Faults:
        return [wire.simple(request, data=b"x" * request.length)[:5000], Stall]

    manners = on(wire.Command.READ, stall, every=3)
    fails(out, manners, r"the server sent nothing for 1 seconds", timeout=1, connections=4)


@pytest.mark.parametrize("beyond", [1, 512, MIB])
@pytest.mark.parametrize("connections", [1, 4])
def test_a_size_larger_than_the_disk(out: Path, beyond: int, connections: int) -> None:
    """Zeroes in the place of what can't be read would be a damaged backup that looks whole."""
    manners = Manners(sizes=(SIZE + beyond,))
    extents = {ALLOCATION: [(SIZE + beyond, 0)]}
    with (
        FakeServer(out.parent, DISK._replace(contexts=extents), manners) as fake,
        pytest.raises(BackupError, match=r"^images\[0\]\.uri: reading from .*Input/output error.*was not written"),
    ):
        copy(fake, out, bitmap=False, connections=connections)
    assert nbd.names(out) == {"base.qcow2"}


@pytest.mark.parametrize("bitmap", [False, True], ids=["full", "incremental"])
@pytest.mark.parametrize("lacks", [1, 512, 511 * 3, MIB])
def test_a_size_smaller_than_the_disk(out: Path, lacks: int, bitmap: bool) -> None:
    """The harmless twin: the disk is what the server says it is."""
    with FakeServer(out.parent, DISK, Manners(sizes=(SIZE - lacks,))) as fake:
        result = copy(fake, out, bitmap=bitmap)
    assert result["size"] == SIZE - lacks
    shows(out / "a.qcow2", DISK.content[: SIZE - lacks], bitmap=bitmap)


@pytest.mark.parametrize("bitmap", [False, True], ids=["full", "incremental"])
def test_extents_past_the_end_of_the_disk(out: Path, bitmap: bool) -> None:
    """The protocol forbids them. libnbd 1.14 hands them on, and they are clipped; 1.22 makes an error of them."""
    told = ""
    with FakeServer(out.parent, DISK, Manners(sizes=(SIZE - 1000,), overshoot=True)) as fake:
        try:
            copy(fake, out, bitmap=bitmap)
        except BackupError as error:
            told = str(error)
    if told:
        assert SENTENCE.fullmatch(told), told
        assert nbd.names(out) == {"base.qcow2"}
    else:
        shows(out / "a.qcow2", DISK.content[: SIZE - 1000], bitmap=bitmap)


@pytest.mark.parametrize("other", [SIZE - MIB, SIZE - 512, SIZE + MIB])
@pytest.mark.parametrize("bitmap", [False, True], ids=["full", "incremental"])
def test_a_size_that_differs_between_connections(out: Path, other: int, bitmap: bool) -> None:
    """It is not the same disk any more, or not the same view of it."""
    manners = Manners(sizes=(SIZE, other), fault=lambda _request: time.sleep(0.01) or ())
    fails(out, manners, rf"the size of the export changed from {SIZE} to {other} bytes", bitmap=bitmap)
