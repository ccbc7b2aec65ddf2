# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that lies about sizes, extents, flags and block sizes: the right bytes, or one sentence and no file."""

from __future__ import annotations

import struct
import time
import typing as t
import urllib.parse

import nbd as libnbd
import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import nbd_wire as wire
from ansible_collections.virt.backup.tests.integration import test_nbd_extract_manners as manners
from ansible_collections.virt.backup.tests.integration.nbd_fake import ALLOCATION, BITMAP, Disk, FakeServer, Manners
from ansible_collections.virt.backup.tests.integration.test_nbd_extract_manners import DISK, MIB, SIZE, copy, shows
from ansible_collections.virt.backup.tests.unit.properties.hostile import is_clear

if t.TYPE_CHECKING:
    from pathlib import Path

pytestmark = manners.pytestmark
lab_host = manners.lab_host
out = manners.out

KINDS = pytest.mark.parametrize("bitmap", [False, True], ids=["full", "incremental"])


def tried(out: Path, how: Manners, *, disk: Disk = DISK, bitmap: bool = False, **options: t.Any) -> BackupError | None:
    """Copy; return the refusal, which is soon and in a sentence and has left no file, or nothing."""
    began = time.monotonic()
    with FakeServer(out.parent, disk, how) as fake:
        try:
            copy(fake, out, bitmap=bitmap, **options)
        except BackupError as error:
            refused = error
        else:
            return None
    assert time.monotonic() - began < 20
    assert is_clear(refused, "images[0]."), refused
    assert nbd.names(out) == {"base.qcow2"}
    return refused


# sizes

ABSURD = [2**63 - 1, 2**63 - 2**20, 2**63, 2**64 - 1, 2**62]


@KINDS
@pytest.mark.parametrize("size", ABSURD)
@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_an_absurd_size(out: Path, size: int, form: str, bitmap: bool) -> None:
    """No memory is taken for tables of it, and no loop goes over all of it; check mode says the same."""
    if form == "raw" and bitmap:
        return
    extents = {ALLOCATION: [(2**32 - 2**16, 3)], BITMAP: [(2**32 - 2**16, 0)]}
    how = Manners(sizes=(size,))
    kind = manners._kind(bitmap=bitmap)
    with FakeServer(out.parent, DISK._replace(contexts=extents), how) as fake:
        image = ImageRequest(fake.server.uri(), str(out / "a"), format=form, **kind)
        with pytest.raises(BackupError) as caught:
            extract(ExtractRequest(images=(image,), timeout=5), check=False)
    assert is_clear(caught.value, "images[0]."), caught.value
    assert nbd.names(out) == {"base.qcow2"}


def test_no_size_at_all(out: Path) -> None:
    """The harmless twin: a disk of nothing is an image of nothing."""
    with FakeServer(out.parent, Disk(b"", {ALLOCATION: []})) as fake:
        result = copy(fake, out, bitmap=False)
    assert result["size"] == 0
    assert nbd.virtual_size(out / "a.qcow2", "qcow2") == 0


# block sizes


def block_sizes(*sizes: int) -> Manners:
    """Return the manners of a server that tells (least, preferred, most) and keeps to none of it."""

    def told(option: int, _data: bytes) -> bytes | None:
        if option != wire.Option.GO:
            return None
        export = struct.pack(">HQH", wire.INFO_EXPORT, SIZE, wire.HAS_FLAGS | wire.READ_ONLY | wire.CAN_MULTI_CONN)
        infos = (export, struct.pack(">HIII", wire.INFO_BLOCK_SIZE, *sizes))
        replies = [wire.option_reply(option, wire.REPLY_INFO, info) for info in infos]
        return b"".join([*replies, wire.option_reply(option, wire.REPLY_ACK)])

    return Manners(option=told)


@KINDS
@pytest.mark.parametrize("least", [0, 3, 512, 65536, 2**31])
@pytest.mark.parametrize("most", [0, 1, 512, 4096, 2**32 - 1])
def test_absurd_block_sizes(out: Path, least: int, most: int, bitmap: bool) -> None:
    """What no server can mean is passed over; what is followed leads to the right bytes all the same."""
    if tried(out, block_sizes(least, max(least, 512), most), bitmap=bitmap) is None:
        shows(out / "a.qcow2", DISK.content, bitmap=bitmap)


# flags


@KINDS
@pytest.mark.parametrize("flags", [1, 1 << 8 | 1, 0xFFFF, 2, 0xFFFE, wire.READ_ONLY | wire.HAS_FLAGS | 1 << 15])
def test_flags_that_contradict_each_other(out: Path, flags: int, bitmap: bool) -> None:
    if tried(out, Manners(flags=flags), bitmap=bitmap) is None:
        shows(out / "a.qcow2", DISK.content, bitmap=bitmap)


def test_flags_of_extents_that_nobody_has_defined(out: Path) -> None:
    """A hole that need not be zero is read; only the one bit that promises zeroes counts as a promise."""
    contexts = {ALLOCATION: [(MIB, 0xFFFFFFFD), (MIB, 0xFFFFFFFF), (4 * MIB, 1)]}
    assert tried(out, Manners(), disk=DISK._replace(contexts=contexts)) is None
    shows(out / "a.qcow2", DISK.content, bitmap=False)


# extents

ALL_ZERO = 2**32 - 1


def on_status(answer: t.Callable[[wire.Request], bytes], **others: t.Any) -> Manners:
    def fault(request: wire.Request) -> t.Sequence[bytes]:
        return [answer(request), wire.done(request)] if request.command == wire.Command.BLOCK_STATUS else ()

    return Manners(fault=fault, **others)


STATUS: dict[str, t.Callable[[wire.Request], bytes]] = {
    "a context twice": lambda request: b"".join(
        wire.status_chunk(request, number, [(request.length, flags)]) for number in (0, 1) for flags in (0, 2)
    ),
    "pieces of a context": lambda request: b"".join(
        wire.status_chunk(request, number, [(MIB, 0)]) for number in (0, 1) for _unused in range(6)
    ),
    "a length that has no end": lambda request: (
        wire.chunk(request, wire.CHUNK_STATUS, b"")[:16] + struct.pack(">I", 2**32 - 1)
    ),
    "half an extent": lambda request: wire.chunk(request, wire.CHUNK_STATUS, struct.pack(">III", 0, 512, 0) + b"\0\0"),
    "an error of a context only": lambda request: wire.chunk(request, 0x8002, struct.pack(">IHQ", 22, 0, 0)),
    "a kind of chunk that there is not": lambda request: wire.chunk(request, 77, b"abc"),
    "content": lambda request: wire.data_chunk(request, request.offset, b"x" * 512),
}


@KINDS
@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("answer", STATUS.values(), ids=list(STATUS))
def test_extents_told_in_a_wrong_way(
    out: Path, answer: t.Callable[[wire.Request], bytes], extended: bool, bitmap: bool
) -> None:
    """What is told twice would shift all that follows: zeroes, or clean, where there is data."""
    refused = tried(out, on_status(answer, extended=extended), bitmap=bitmap, timeout=2)
    assert refused is not None
    assert "images[0].uri: reading from" in refused.message


ODD_EXTENTS: dict[str, tuple[tuple[int, int], ...]] = {
    "of a byte": ((1, 0),),
    "of odd lengths": ((511, 0), (1, 2), (65537, 0)),
    "with nothing between": ((0, 2), (4096, 0), (0, 3), (65536, 0), (0, 0)),
    "to beyond the end": ((2**32 - 1, 0),),
    "many": tuple((1, 0) for _unused in range(5000)),
}


@KINDS
@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("extents", ODD_EXTENTS.values(), ids=list(ODD_EXTENTS))
def test_odd_extents(out: Path, extents: tuple[tuple[int, int], ...], extended: bool, bitmap: bool) -> None:
    """As often as it takes to get to the end of a disk of 8 KiB: data and dirty all of it, in any cut."""
    content = bytes(DISK.content[: 8 * 1024])
    contexts = {ALLOCATION: [(len(content), 0)], BITMAP: [(len(content), 1)]}

    def answer(request: wire.Request) -> bytes:
        dirty = [(length, 1) for length, _flags in extents]
        return wire.status_chunk(request, 0, [(length, 0) for length, _flags in extents]) + (
            wire.status_chunk(request, 1, dirty) if bitmap else b""
        )

    how = on_status(answer, extended=extended, multi_conn=False)
    if tried(out, how, disk=Disk(content, contexts), bitmap=bitmap) is None:
        info = nbd.run("qemu-img", "convert", "-O", "raw", out / "a.qcow2", out / "plain")
        assert (out / "plain").read_bytes() == content, info


@pytest.mark.parametrize("flags", [2**63, 2**64 - 1, 2**33 + 1])
def test_wide_extents(out: Path, flags: int) -> None:
    """By extended headers lengths and flags have 64 bits, of which the lower ones mean the same."""

    def answer(request: wire.Request) -> bytes:
        if not request.extended:
            return wire.status_chunk(request, 0, [(request.length, flags & 0xFFFFFFFD)])
        return wire.status_chunk(request, 0, [(2**63, flags & ~2)])

    if tried(out, on_status(answer, extended=True)) is None:
        shows(out / "a.qcow2", DISK.content, bitmap=False)


@KINDS
@pytest.mark.parametrize("connections", [1, 4])
def test_extended_headers(out: Path, connections: int, bitmap: bool) -> None:
    """The harmless twin of all above, where libnbd knows them (1.18)."""
    known = hasattr(libnbd.NBD, "set_request_extended_headers")
    for how in (Manners(extended=True), Manners(extended=True, cuts=(1,), overshoot=True)):
        with FakeServer(out.parent, DISK, how) as fake:
            copy(fake, out, bitmap=bitmap, connections=connections, force=True)
            assert {request.extended for request in fake.requests if request.connection == 0} == {known}
        shows(out / "a.qcow2", DISK.content, bitmap=bitmap)


# the handshake


def error_reply(kind: int, text: str) -> t.Callable[[int, bytes], bytes | None]:
    def reply(option: int, _data: bytes) -> bytes | None:
        return wire.option_reply(option, kind, text.encode()) if option == wire.Option.GO else None

    return reply


def instead(option: int, reply: bytes) -> t.Callable[[int, bytes], bytes | None]:
    return lambda asked, _data: reply if asked == option else None


def same_number(option: int, data: bytes) -> bytes | None:
    """Both contexts get one number, so that what is said of one could be taken for the other."""
    if option != wire.Option.SET_META_CONTEXT:
        return None
    told = [struct.pack(">I", 0) + name.encode() for name in wire.read_contexts(data)]
    replies = [wire.option_reply(option, wire.REPLY_META_CONTEXT, entry) for entry in told]
    return b"".join([*replies, wire.option_reply(option, wire.REPLY_ACK)])


def other_names(option: int, data: bytes) -> bytes | None:
    if option != wire.Option.SET_META_CONTEXT:
        return None
    names = enumerate(f"{name}2" for name in wire.read_contexts(data))
    told = [wire.option_reply(option, wire.REPLY_META_CONTEXT, struct.pack(">I", n) + s.encode()) for n, s in names]
    return b"".join([*told, wire.option_reply(option, wire.REPLY_ACK)])


HANDSHAKES: dict[str, t.Callable[[int, bytes], bytes | None]] = {
    "a policy in many lines": error_reply((1 << 31) + 2, "go\naway\x1b[31m\u2028now"),
    "a text that is none": instead(7, wire.option_reply(7, (1 << 31) + 6, b"\xff\xfe\x00")),
    "a very long text": error_reply((1 << 31) + 6, "x" * 4096),
    "a longer one": error_reply((1 << 31) + 6, "x" * 40_000_000),
    "no export information": instead(7, wire.option_reply(7, wire.REPLY_ACK)),
    "a piece of it": instead(7, wire.option_reply(7, wire.REPLY_INFO, b"\0\0\0")),
    "an answer to another option": instead(7, wire.option_reply(3, wire.REPLY_ACK)),
    "no option at all": instead(7, b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4),
    "one number for two contexts": same_number,
    "other contexts": other_names,
    "a context that is none": instead(10, wire.option_reply(10, wire.REPLY_META_CONTEXT, b"ab")),
    "TLS is wanted": error_reply((1 << 31) + 5, ""),
}


@KINDS
@pytest.mark.parametrize("option", HANDSHAKES.values(), ids=list(HANDSHAKES))
def test_handshakes(out: Path, option: t.Callable[[int, bytes], bytes | None], bitmap: bool) -> None:
    refused = tried(out, Manners(option=option), bitmap=bitmap, timeout=2)
    if refused is None:
        assert option in (same_number, other_names)
        shows(out / "a.qcow2", DISK.content, bitmap=bitmap)


# names

NAMES = ("", "a b", "日本", "%", "a?b#c", "../../etc/passwd", "-rf", "{{ x }}", "'\"", "json:{}", "a" * 3000, "\u202e")


@pytest.mark.parametrize("name", NAMES)
def test_names_of_exports(out: Path, name: str) -> None:
    """Any name is just a name: it is asked for as it is, and stands in the record."""
    asked: list[bytes] = []

    def listen(option: int, data: bytes) -> bytes | None:
        if option == wire.Option.GO:
            (length,) = struct.unpack_from(">I", data)
            asked.append(data[4 : 4 + length])
        return None

    with FakeServer(out.parent, DISK, Manners(option=listen)) as fake:
        uri = fake.server.uri(urllib.parse.quote(name, safe=""))
        image = ImageRequest(uri, str(out / "a.qcow2"), source_id="x")
        result = extract(ExtractRequest(images=(image,)), check=False).result["images"][0]
        again = extract(ExtractRequest(images=(image,)), check=False)
    assert set(asked) == {name.encode()}
    assert result["bytes_copied"] > 0
    assert not again.changed
