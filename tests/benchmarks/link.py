# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A link with a round trip and a bandwidth, for kernels with and without netem: link.py PORT SOCKET SECONDS BYTES/S.

It takes TCP connections on the loopback and passes their bytes to the server's UNIX socket and back. All connections
share one bandwidth in each direction, as they share a cable::

    sent ──▶ waits until the lane is free ──▶ takes length / bandwidth ──▶ arrives half a round trip later

What is on its way is kept here, so that no window of TCP decides how much that may be.
"""

from __future__ import annotations

import collections
import contextlib
import socket
import sys
import threading
import time

_CHUNK = 256 * 1024


class Lane:
    """One direction of the link."""

    def __init__(self, delay: float, bytes_per_second: int) -> None:
        self._delay = delay
        self._rate = bytes_per_second
        self._free = 0.0
        self._lock = threading.Lock()

    def arrival(self, length: int, now: float) -> float:
        """Return when bytes that are sent now have all arrived."""
        with self._lock:
            self._free = max(self._free, now) + length / self._rate
            return self._free + self._delay


class Pump:
    """Bytes of one connection in one direction."""

    def __init__(self, lane: Lane, source: socket.socket, sink: socket.socket) -> None:
        self._lane = lane
        self._source = source
        self._sink = sink
        self._way: collections.deque[tuple[float, bytes]] = collections.deque()
        self._some = threading.Semaphore(0)

    def start(self) -> None:
        """Pump until the source ends."""
        for work in (self._send, self._receive):
            threading.Thread(target=work, daemon=True).start()

    def _send(self) -> None:
        data = b"x"
        while data:
            try:
                data = self._source.recv(_CHUNK)
            except OSError:
                data = b""
            self._way.append((self._lane.arrival(len(data), time.monotonic()), data))
            self._some.release()

    def _receive(self) -> None:
        while True:
            self._some.acquire()
            when, data = self._way.popleft()
            time.sleep(max(0.0, when - time.monotonic()))
            with contextlib.suppress(OSError):
                if not data:
                    self._sink.shutdown(socket.SHUT_WR)
                    return
                self._sink.sendall(data)


def main() -> None:
    """Serve until the process is ended."""
    port, path, round_trip, rate = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    there, back = Lane(round_trip / 2, rate), Lane(round_trip / 2, rate)
    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        while True:
            client, _address = listener.accept()
            threading.Thread(target=_join, args=(client, path, round_trip, there, back), daemon=True).start()


def _join(client: socket.socket, path: str, round_trip: float, there: Lane, back: Lane) -> None:
    time.sleep(round_trip)  # what TCP needs to connect over such a link
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    Pump(there, client, server).start()
    Pump(back, server, client).start()


if __name__ == "__main__":
    main()
