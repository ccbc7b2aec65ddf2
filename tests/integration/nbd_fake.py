# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An NBD server with any manners: those that the protocol allows and no common server has, and bad ones.

It speaks the real protocol over a UNIX socket, so that QEMU's tools and nbdinfo read from it too. It has tests of its own
in ``test_nbd_fake.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import socket
import struct
import threading
import typing as t

from ansible_collections.virt.backup.tests.integration import nbd_wire as wire
from ansible_collections.virt.backup.tests.integration.nbd_fixtures import Server

if t.TYPE_CHECKING:
    from pathlib import Path

ALLOCATION = "base:allocation"
BITMAP = "qemu:dirty-bitmap:b"

Extents = list[tuple[int, int]]


class SparseContent:
    """The bytes of a disk larger than memory: zeroes, but for a few pieces by their offset, each read as a whole."""

    def __init__(self, size: int, pieces: dict[int, bytes]) -> None:
        self._size = size
        self._pieces = pieces

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, wanted: slice) -> bytes:
        length = min(wanted.stop, self._size) - wanted.start
        found = bytearray(length)
        for offset, piece in self._pieces.items():
            if wanted.start <= offset < wanted.start + length:
                found[offset - wanted.start : offset - wanted.start + len(piece)] = piece
        return bytes(found[:length])


class Disk(t.NamedTuple):
    """What is served: bytes, and by context the (length, flags) that cover them without gaps."""

    content: bytes | bytearray | SparseContent
    contexts: dict[str, Extents]

    def extents(self, context: str, start: int) -> t.Iterator[tuple[int, int]]:
        """Yield what a context says from ``start`` to the end of the disk."""
        position = 0
        for length, flags in self.contexts[context]:
            position += length
            if position > start:
                yield position - max(start, position - length), flags


class Die:
    """A fault: the server is gone, and all its clients with it."""


class Stall:
    """A fault: no byte comes any more over this connection."""


Fault = t.Union[bytes, type[Die], type[Stall]]


@dataclasses.dataclass(frozen=True)
class Manners:
    """How a server serves.

    ``cuts`` is the most extents in a reply, one number for each context in turn; ``overshoot`` lets the last extent reach
    past what was asked, which the protocol allows. ``piece`` cuts content into chunks of so many bytes, sent last one
    first. ``insists`` is its minimum and maximum block size: it says so, and refuses all else. ``sizes`` are told to
    the clients in the order they come, the last one to all others. ``admits`` is how many clients get an answer.
    ``fault`` returns what happens instead of an answer: bytes to send, the end, silence; nothing for an answer.
    ``option`` is the same for the handshake: bytes in the place of all replies to an option, or ``None``. ``flags`` are
    told in the place of the true ones. ``extended`` agrees to 64-bit headers, if a client knows them.
    """

    structured: bool = True
    multi_conn: bool = True
    cuts: tuple[int, ...] = (10**9,)
    overshoot: bool = False
    piece: int = 2**32
    insists: tuple[int, int] = (0, 0)
    sizes: tuple[int, ...] = ()
    admits: int = 10**9
    fault: t.Callable[[wire.Request], t.Sequence[Fault]] = lambda _request: ()
    option: t.Callable[[int, bytes], bytes | None] = lambda _option, _data: None
    flags: int = 0
    extended: bool = False


class FakeServer:
    """A running server; a context manager. :attr:`requests` is the log of what was asked."""

    def __init__(self, folder: Path, disk: Disk, manners: Manners = Manners()) -> None:
        self.requests: list[wire.Request] = []
        self._disk = disk
        self._manners = manners
        self._path = folder / "fake.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> t.Self:
        self._listener.bind(str(self._path))
        self._listener.listen(100)
        self._spawn(self._admit)
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        self._threads[0].join(timeout=10)
        self.die()  # for those who came in meanwhile
        for thread in self._threads:
            thread.join(timeout=10)
        for peer in self._peers:
            peer.close()
        self._path.unlink()

    @property
    def server(self) -> Server:
        """What the fixtures of other servers yield."""
        return Server(os.getpid(), self._path)

    @property
    def clients(self) -> int:
        """How many have come."""
        return len(self._peers)

    def die(self) -> None:
        """Be gone for all clients, at once."""
        with self._lock:
            for peer in (self._listener, *self._peers):
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _spawn(self, work: t.Callable[..., None], *args: t.Any) -> None:
        thread = threading.Thread(target=work, args=args, name="fake", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _admit(self) -> None:
        for number in itertools.count():
            try:
                peer, _address = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._peers.append(peer)
            if number < self._manners.admits:
                self._spawn(self._serve, peer, number)

    def _serve(self, peer: socket.socket, number: int) -> None:
        try:
            client = self.meet(peer, number)
            client.shake_hands()
            while True:
                request = wire.receive_request(peer, number, extended=client.extended)
                with self._lock:
                    request = request._replace(number=len(self.requests))
                    self.requests.append(request)
                self._answer(client, request)
        except (wire.Gone, OSError):
            pass
        finally:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def meet(self, peer: socket.socket, number: int) -> Client:
        """Return who serves a new connection."""
        return Client(peer, number, self._disk, self._manners)

    def _answer(self, client: Client, request: wire.Request) -> None:
        faults = self._manners.fault(request)
        for fault in faults:
            if fault is Die:
                self.die()
            elif fault is Stall:
                client.stall()
            elif isinstance(fault, bytes):
                client.send(fault)
        if not faults:
            client.answer(request)


class Client:
    """One connection: what was agreed on in its handshake, and the answers that follow from it."""

    def __init__(self, peer: socket.socket, number: int, disk: Disk, manners: Manners) -> None:
        self._peer = peer
        self._disk = disk
        self._manners = manners
        self._structured = False
        self.extended = False
        self.number = number
        self._contexts: list[str] = []
        sizes = manners.sizes or (len(disk.content),)
        self._size = sizes[min(number, len(sizes) - 1)]

    def send(self, data: bytes) -> None:
        self._peer.sendall(data)

    def stall(self) -> t.NoReturn:
        while True:
            wire.receive(self._peer, 1)

    def shake_hands(self) -> None:
        self.send(wire.HELLO)
        wire.receive(self._peer, 4)
        while not self._negotiate(*wire.receive_option(self._peer)):
            pass

    def _negotiate(self, option: int, data: bytes) -> bool:
        """Answer one option; return whether it was the last."""
        if option == wire.Option.EXPORT_NAME:
            self.send(struct.pack(">QH", self._size, self.flags()))
            return True
        if option == wire.Option.ABORT:
            self.send(wire.option_reply(option, wire.REPLY_ACK))
            raise wire.Gone
        instead = self._manners.option(option, data)
        if instead is not None:
            self.send(instead)
            return option == wire.Option.GO
        replies = self._replies(option, data)
        last = wire.REPLY_UNSUPPORTED if replies is None else wire.REPLY_ACK
        self.send(b"".join(replies or []) + wire.option_reply(option, last))
        return option == wire.Option.GO

    def _replies(self, option: int, data: bytes) -> list[bytes] | None:
        """Return what comes before the acknowledgement, or ``None`` for what this server does not know."""
        if option in (wire.Option.INFO, wire.Option.GO):
            told = [struct.pack(">HQH", wire.INFO_EXPORT, self._size, self.flags())]
            least, most = self._manners.insists
            if most:
                told.append(struct.pack(">HIII", wire.INFO_BLOCK_SIZE, least, max(least, 4096), most))
            return [wire.option_reply(option, wire.REPLY_INFO, info) for info in told]
        if option == wire.Option.STRUCTURED_REPLY and self._manners.structured:
            self._structured = True
            return []
        if option == wire.Option.EXTENDED_HEADERS and self._manners.extended:
            self._structured = self.extended = True
            return []
        if option == wire.Option.SET_META_CONTEXT and self._structured:
            self._contexts = [name for name in wire.read_contexts(data) if name in self._disk.contexts]
            names = enumerate(self._contexts)
            kind = wire.REPLY_META_CONTEXT
            return [
                wire.option_reply(option, kind, struct.pack(">I", number) + name.encode()) for number, name in names
            ]
        return None

    def flags(self) -> int:
        """Return what is told of the export."""
        if self._manners.flags:
            return self._manners.flags
        more = wire.SEND_DF * self._structured | wire.CAN_MULTI_CONN * self._manners.multi_conn
        return wire.HAS_FLAGS | wire.READ_ONLY | more

    def answer(self, request: wire.Request) -> None:
        """Answer as the protocol wants it."""
        if request.command == wire.Command.DISCONNECT:
            raise wire.Gone
        if request.end > self._size or not request.length or not self._is_aligned(request):
            self._refuse(request, wire.EINVAL)
        elif request.command == wire.Command.READ:
            self._read(request)
        elif request.command == wire.Command.BLOCK_STATUS and self._contexts:
            self._tell_status(request)
        else:
            self._refuse(request, wire.EINVAL)

    def _is_aligned(self, request: wire.Request) -> bool:
        least, most = self._manners.insists
        too_long = most and request.length > most and request.command == wire.Command.READ
        return not too_long and not (least and (request.offset % least or request.length % least))

    def _refuse(self, request: wire.Request, error: int) -> None:
        self.send(wire.error_chunk(request, error) if self._structured else wire.simple(request, error))

    def _read(self, request: wire.Request) -> None:
        content = bytes(self._disk.content[request.offset : request.end])
        if len(content) < request.length:
            self._refuse(request, wire.EIO)  # more was told than there is
        elif not self._structured:
            self.send(wire.simple(request, data=content))
        else:
            starts = range(0, request.length, min(self._manners.piece, request.length))
            pieces = [(start, content[start : start + self._manners.piece]) for start in starts]
            for start, piece in reversed(pieces):
                self.send(wire.data_chunk(request, request.offset + start, piece))
            self.send(wire.done(request))

    def _tell_status(self, request: wire.Request) -> None:
        cuts = itertools.cycle(self._manners.cuts)
        for number, name in enumerate(self._contexts):
            self.send(wire.status_chunk(request, number, self._extents(name, request, next(cuts))))
        self.send(wire.done(request))

    def _extents(self, context: str, request: wire.Request, most: int) -> t.Iterator[tuple[int, int]]:
        position = request.offset
        lone = request.flags & wire.REQ_ONE
        for length, flags in itertools.islice(self._disk.extents(context, request.offset), 1 if lone else most):
            if position >= request.end:
                return
            told = length if self._manners.overshoot and not lone else min(length, request.end - position)
            yield told, flags
            position += told
