# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Reading a disk as it shows through a chain of images, by QEMU, and comparing it with its digests."""

from __future__ import annotations

import collections
import contextlib
import threading
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.content import differences, read_list
from ansible_collections.virt.backup.plugins.module_utils._copy.digest import content_digest
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK
from ansible_collections.virt.backup.plugins.module_utils._nbd import ALLOCATION, Connection
from ansible_collections.virt.backup.plugins.module_utils._qemu import ChainServer

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.content import Difference
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption

TIMEOUT = 60.0
_AHEAD = 16  # blocks on their way while one is hashed
_EVERY_CLUSTER = 0xFFFF
_READS_ZERO = 2  # NBD_STATE_ZERO of base:allocation


def digest_of_chain(paths: Sequence[str], encryption: Encryption | None) -> str:
    """Return the digest of what shows through the images at ``paths``, the full one first.

    Raises ``ToolError`` or ``NbdError`` when QEMU can't read it.
    """
    with _connected(paths, encryption) as connection:
        blocks = ((offset, _EVERY_CLUSTER, content) for offset, content in _blocks(connection))
        return content_digest(connection.size, blocks, incremental=False)


def differences_of_chain(paths: Sequence[str], lists: Sequence[str], encryption: Encryption | None) -> list[Difference]:
    """Return where the chain differs from its lists of digests, and which image holds that. May raise ``BadList``."""
    with contextlib.ExitStack() as files, _connected(paths, encryption) as connection:
        layers = [read_list(files.enter_context(open(path, "rb"))) for path in lists]
        return list(differences(layers, _every_block(connection)))


@contextlib.contextmanager
def _connected(paths: Sequence[str], encryption: Encryption | None) -> Iterator[Connection]:
    server = ChainServer(paths, TIMEOUT, encryption)
    try:
        connection = Connection(server.uri, (ALLOCATION,), TIMEOUT, threading.Event())
        try:
            yield connection
        finally:
            connection.close()
    finally:
        server.stop()


def _blocks(connection: Connection) -> Iterator[tuple[int, bytes]]:
    """Yield offset and content of the blocks that may hold something, ascending, the next ones being read meanwhile."""
    reading: collections.deque[tuple[int, bytearray, list[int]]] = collections.deque()
    for offset in _offsets(connection):
        buffer = bytearray(min(BLOCK, connection.size - offset))
        reading.append((offset, buffer, connection.start_read(memoryview(buffer), offset)))
        if len(reading) > _AHEAD:
            yield _finished(connection, reading.popleft())
    while reading:
        yield _finished(connection, reading.popleft())


def _finished(connection: Connection, read: tuple[int, bytearray, list[int]]) -> tuple[int, bytes]:
    offset, buffer, cookies = read
    connection.finish_read(cookies)
    return offset, bytes(buffer)


def _offsets(connection: Connection) -> Iterator[int]:
    """Yield the offsets of the blocks that are not zero as a whole, as QEMU's tables say."""
    following = 0
    for extent in connection.extents(ALLOCATION, 0, connection.size):
        if extent.flags & _READS_ZERO:
            continue
        first = max(following, extent.offset // BLOCK * BLOCK)
        for offset in range(first, extent.offset + extent.length, BLOCK):
            yield offset
            following = offset + BLOCK


def _every_block(connection: Connection) -> Iterator[tuple[int, bytes]]:
    following = 0
    for offset, content in _blocks(connection):
        yield from _zeroes(connection, following, offset)
        yield offset, content
        following = offset + BLOCK
    yield from _zeroes(connection, following, connection.size)


def _zeroes(connection: Connection, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    for offset in range(start, end, BLOCK):
        yield offset, bytes(min(BLOCK, connection.size - offset))
