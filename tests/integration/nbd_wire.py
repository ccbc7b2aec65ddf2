# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server's side of the NBD protocol: numbers, the handshake, requests and replies as bytes.

Written from https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md: fixed newstyle, structured replies,
metadata contexts, extended headers; no TLS.
"""

from __future__ import annotations

import enum
import socket
import struct
import typing as t

HELLO = struct.pack(">QQH", 0x4E42444D41474943, 0x49484156454F5054, 1 | 2)  # fixed newstyle, no zeroes
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF
EXTENDED_REQUEST_MAGIC = 0x21E41C71
EXTENDED_CHUNK_MAGIC = 0x6E8A278C
LONGEST_OPTION = 65536

REPLY_ACK, REPLY_INFO, REPLY_META_CONTEXT = 1, 3, 4
REPLY_UNSUPPORTED = (1 << 31) + 1

INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_WRITE_ZEROES, SEND_DF, CAN_MULTI_CONN = 1, 2, 1 << 2, 1 << 6, 1 << 7, 1 << 8

DONE = 1
REQ_ONE = 1 << 3
CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS, CHUNK_ERROR = 0, 1, 2, 5, (1 << 15) + 1
CHUNK_STATUS_EXTENDED = 6
EIO, EINVAL = 5, 22


class Option(enum.IntEnum):
    """What a client asks for before it reads."""

    EXPORT_NAME = 1
    ABORT = 2
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


class Command(enum.IntEnum):
    """What a client asks for once it is connected."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class Request(t.NamedTuple):
    """A command as it came; ``connection`` counts from 0, ``number`` from 0 over all connections and commands."""

    connection: int
    number: int
    flags: int
    command: int
    cookie: int
    offset: int
    length: int
    extended: bool = False

    @property
    def end(self) -> int:
        """Where the asked range ends."""
        return self.offset + self.length


class Gone(Exception):
    """The client has left."""


def receive(peer: socket.socket, length: int) -> bytes:
    """Return exactly so many bytes."""
    received = bytearray()
    while len(received) < length:
        try:
            piece = peer.recv(length - len(received))
        except OSError as error:
            raise Gone from error
        if not piece:
            raise Gone
        received += piece
    return bytes(received)


def receive_option(peer: socket.socket) -> tuple[int, bytes]:
    """Return the next option of the handshake and its data."""
    magic, option, length = struct.unpack(">QII", receive(peer, 16))
    assert magic == OPTION_MAGIC
    assert length <= LONGEST_OPTION
    return option, receive(peer, length)


def option_reply(option: int, kind: int, data: bytes = b"") -> bytes:
    """Return one reply to an option."""
    return struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def read_contexts(data: bytes) -> list[str]:
    """Return the names that a client asks for in SET_META_CONTEXT."""
    (position,) = struct.unpack_from(">I", data)
    position += 4
    (count,) = struct.unpack_from(">I", data, position)
    position += 4
    names = []
    for _unused in range(count):
        (length,) = struct.unpack_from(">I", data, position)
        names.append(data[position + 4 : position + 4 + length].decode())
        position += 4 + length
    return names


def receive_request(peer: socket.socket, connection: int, *, extended: bool = False) -> Request:
    """Return the next command, without its number; after extended headers were agreed on, every one has such."""
    form = struct.Struct(">IHHQQQ" if extended else ">IHHQQI")
    magic, flags, command, cookie, offset, length = form.unpack(receive(peer, form.size))
    assert magic == (EXTENDED_REQUEST_MAGIC if extended else REQUEST_MAGIC)
    return Request(connection, -1, flags, command, cookie, offset, length, extended)


def simple(request: Request, error: int = 0, data: bytes = b"") -> bytes:
    """Return a simple reply."""
    return struct.pack(">IIQ", SIMPLE_MAGIC, error, request.cookie) + data


def chunk(request: Request, kind: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """Return one chunk of a structured reply."""
    if request.extended:
        head = (EXTENDED_CHUNK_MAGIC, flags, kind, request.cookie, request.offset, len(payload))
        return struct.pack(">IHHQQQ", *head) + payload
    return struct.pack(">IHHQI", CHUNK_MAGIC, flags, kind, request.cookie, len(payload)) + payload


def data_chunk(request: Request, offset: int, data: bytes) -> bytes:
    """Return a chunk of content: as a hole if it is nothing but zeroes."""
    if data and not any(data):
        return chunk(request, CHUNK_HOLE, struct.pack(">QI", offset, len(data)))
    return chunk(request, CHUNK_DATA, struct.pack(">Q", offset) + data)


def status_chunk(request: Request, context: int, extents: t.Iterable[tuple[int, int]]) -> bytes:
    """Return what one context says: (length, flags), beginning at the offset that was asked for."""
    if request.extended:
        told = list(extents)
        wide = b"".join(struct.pack(">QQ", length, flags) for length, flags in told)
        return chunk(request, CHUNK_STATUS_EXTENDED, struct.pack(">II", context, len(told)) + wide)
    entries = b"".join(struct.pack(">II", length, flags) for length, flags in extents)
    return chunk(request, CHUNK_STATUS, struct.pack(">I", context) + entries)


def error_chunk(request: Request, error: int, text: str = "") -> bytes:
    """Return the chunk that ends a reply with an error."""
    payload = struct.pack(">IH", error, len(text)) + text.encode()
    return chunk(request, CHUNK_ERROR, payload, DONE)


def done(request: Request) -> bytes:
    """Return the chunk that only ends a reply."""
    return chunk(request, CHUNK_NONE, b"", DONE)
