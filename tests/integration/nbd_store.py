# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An NBD server that is written to, and that may lose power: what no flush has reached is gone then.

Each of its connections has a cache of its own, as the protocol allows it to a server without ``multi_conn``: a flush is
for the writes of that connection alone. With ``multi_conn`` it is for what was completed on all of them.
"""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.virt.backup.tests.integration import nbd_wire as wire
from ansible_collections.virt.backup.tests.integration.nbd_fake import Client, Disk, FakeServer, Manners

if t.TYPE_CHECKING:
    import socket
    from pathlib import Path


PLAIN = Manners(structured=False)


class Store:
    """Bytes as the clients see them, and as they are on the medium. Safe for threads."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.durable = bytearray(content)
        self._cached: list[tuple[int, int, bytes]] = []
        self._lock = threading.Lock()

    def write(self, connection: int, offset: int, data: bytes) -> None:
        """Take bytes into the cache of a connection."""
        with self._lock:
            self.content[offset : offset + len(data)] = data
            self._cached.append((connection, offset, data))

    def flush(self, *connections: int) -> None:
        """Empty the caches of these connections, or of all if none is named."""
        with self._lock:
            kept = []
            for number, offset, data in self._cached:
                if connections and number not in connections:
                    kept.append((number, offset, data))
                else:
                    self.durable[offset : offset + len(data)] = data
            self._cached = kept


class StoreServer(FakeServer):
    """Serves a store for writing; in a folder of its own, because all fakes have one name."""

    def __init__(self, folder: Path, store: Store, manners: Manners = PLAIN, *, flushes: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder, Disk(store.content, {}), manners)
        self._store = store
        self._flushes = flushes

    def meet(self, peer: socket.socket, number: int) -> Client:
        """Return who serves a new connection."""
        return _Writable(peer, number, self._store, self._manners, flushes=self._flushes)


class _Writable(Client):
    def __init__(self, peer: socket.socket, number: int, store: Store, manners: Manners, *, flushes: bool) -> None:
        super().__init__(peer, number, Disk(store.content, {}), manners)
        self._peer = peer
        self._store = store
        self._whole = manners.multi_conn
        self._flushes = flushes

    def flags(self) -> int:
        """Return what is told of the export."""
        more = wire.SEND_WRITE_ZEROES | wire.SEND_FLUSH * self._flushes
        return super().flags() & ~wire.READ_ONLY | more

    def answer(self, request: wire.Request) -> None:
        """Answer as the protocol wants it."""
        if request.command == wire.Command.WRITE:
            self._store.write(self.number, request.offset, wire.receive(self._peer, request.length))
        elif request.command == wire.Command.WRITE_ZEROES:
            self._store.write(self.number, request.offset, bytes(request.length))
        elif request.command == wire.Command.FLUSH and self._flushes:
            self._store.flush(*(() if self._whole else (self.number,)))
        else:
            super().answer(request)
            return
        self.send(wire.simple(request))
