# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The engine: tasks in, content of an end out. It knows nothing of files, bitmaps or backups.

One thread and one connection make a worker. Workers take tasks from one iterator, keep a few reads in flight, and do
with each block the same: look for zero clusters, hash, hand the rest to the end. The first error stops all of them.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import threading
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy import digest
from ansible_collections.virt.backup.plugins.module_utils._copy.pace import PROBES
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER, Run, Task, bits_to_runs

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.ends import End
    from ansible_collections.virt.backup.plugins.module_utils._copy.pace import Pace
    from ansible_collections.virt.backup.plugins.module_utils._copy.rate import RateLimit


class Reader(t.Protocol):
    """What a worker needs of a connection."""

    def start_read(self, into: memoryview, offset: int) -> list[int]:
        """Ask for bytes; returns what to wait for."""

    def finish_read(self, cookies: list[int]) -> None:
        """Wait for them."""


class Shortcut(t.Protocol):
    """What brings a task's content to the end without its being written, where that can be."""

    possible: bool

    def runs(self, task: Task) -> Sequence[t.Any] | None:
        """Return what :meth:`share` is to be given for the task, or ``None`` if it has to be read and written."""

    def skip(self, task: Task) -> None:
        """Learn that the task is not going to be read."""

    def share(self, runs: Sequence[t.Any]) -> int:
        """Bring that to the end; return its bytes."""


@dataclasses.dataclass(frozen=True)
class Totals:
    """What a copy did, in bytes of the guest's disk."""

    copied: int
    zeroed: int
    digest: str


class Job:
    """One image's copy: the tasks still to take, and what the finished ones add up to. Safe for threads.

    ``explicit_zeroes`` is for increments: zeroes are stored and count in the digest; in a full copy they are left out.
    ``digests`` takes the list that the digest is made of. ``cluster`` is the size of the end's clusters: one that
    holds some data is stored as a whole. Tasks are cut at its multiples, or they end with the disk.
    """

    def __init__(
        self,
        tasks: Iterator[Task],
        end: End,
        size: int,
        *,
        explicit_zeroes: bool,
        checksum: bool,
        digests: t.BinaryIO | None = None,
        cluster: int = CLUSTER,
    ) -> None:
        self.size = size
        self.cluster = cluster
        self.end = end
        self.explicit_zeroes = explicit_zeroes
        self.checksum = checksum
        self.position = 0
        self.copied = 0
        self._zeroed = 0
        self._tasks = enumerate(tasks)
        self._taking = threading.Lock()
        self._settling = threading.Lock()
        self._finished: dict[int, tuple[int, bytes]] = {}
        self._next = 0
        self._digest = hashlib.sha256()
        self._digests = digests
        self._list(digest.header(size))

    def take(self) -> tuple[int, Task] | None:
        """Return the next task and its number, or ``None`` when there are no more. May ask the server for extents."""
        with self._taking:
            return next(self._tasks, None)

    def settle(self, number: int, end: int, records: bytes, copied: int, zeroed: int) -> None:
        """Account for a finished task. Records enter the digest, and the end is told, in the order of the disk."""
        with self._settling:
            self.copied += copied
            self._zeroed += zeroed
            self._finished[number] = (end, records)
            while self._next in self._finished:
                self.position, ready = self._finished.pop(self._next)
                self._next += 1
                if ready:
                    self._list(ready)
            position = self.position
        self.end.settled(position)

    def _list(self, records: bytes) -> None:
        self._digest.update(records)
        if self._digests:
            self._digests.write(records)

    def totals(self) -> Totals:
        """Return the sums, once every worker has ended without an error."""
        zeroed = self._zeroed if self.explicit_zeroes else self.size - self.copied
        return Totals(self.copied, zeroed, f"sha256:{self._digest.hexdigest()}" if self.checksum else "")


class Block:
    """The memory of one block, and views of its parts, of which each is made once.

    The binding of libnbd 1.14 never lets go of a view that it was given to read into or to write: 200 bytes each time,
    if each had one of its own. The parts are whole clusters, or end with the disk, so there are not many.
    """

    def __init__(self) -> None:
        self.content = bytearray(BLOCK)
        self._whole = memoryview(self.content)
        self._parts: dict[tuple[int, int], memoryview] = {}

    def part(self, start: int, end: int) -> memoryview:
        """Return the view of the bytes from ``start`` up to ``end``."""
        found = self._parts.get((start, end))
        if found is None:
            found = self._parts[start, end] = self._whole[start:end]
        return found


class Flight(t.NamedTuple):
    """A task and the block into which its reads are on their way."""

    number: int
    task: Task
    block: Block
    cookies: list[int]
    runs: Sequence[t.Any] | None


class Worker:
    """Moves blocks over one connection until there are no more tasks.

    ``shortcut`` spares writes where it can, and reads where nobody wants to see the bytes.
    """

    def __init__(
        self,
        job: Job,
        reader: Reader,
        limit: RateLimit,
        cancel: threading.Event,
        pace: Pace,
        shortcut: Shortcut | None = None,
    ) -> None:
        self._job = job
        self._reader = reader
        self._limit = limit
        self._cancel = cancel
        self._pace = pace
        self._shortcut = shortcut
        self._blocks = pace.depth
        self._extra = 0
        self._probes = PROBES
        self._idle = [Block() for unused in range(pace.depth)]

    def run(self) -> None:
        """Work until the tasks are used up; raise what goes wrong."""
        try:
            self._run()
        finally:
            self._pace.budget.give_back(self._extra)

    def _run(self) -> None:
        flights: collections.deque[Flight] = collections.deque()
        more = True
        while more or flights:
            while more and (self._idle or self._grow()):
                taken = None if self._cancel.is_set() else self._job.take()
                if taken is None:
                    more = False
                    break
                runs = self._shortcut.runs(taken[1]) if self._shortcut else None
                if self._shortcut and runs is not None and not self._job.checksum:
                    self._skip(*taken, self._shortcut, runs)
                else:
                    flights.append(self._start(*taken, runs))
            if flights:
                flight = flights.popleft()
                self._reader.finish_read(flight.cookies)
                self._pace.arrived(sum(end - start for start, end in flight.task.reads))
                self._store(flight.number, flight.task, flight.block, flight.runs)
                self._idle.append(flight.block)

    def _skip(self, number: int, task: Task, shortcut: Shortcut, runs: Sequence[t.Any]) -> None:
        shortcut.skip(task)
        length = sum(end - start for start, end in task.reads)
        self._limit.wait(length, self._cancel)
        self._job.settle(number, task.end, b"", shortcut.share(runs), 0)

    def _grow(self) -> bool:
        """Take one more block if the pace wants it and the call may have it."""
        if self._blocks + self._extra >= self._pace.depth or not self._pace.budget.take():
            return False
        self._extra += 1
        self._idle.append(Block())
        return True

    def _start(self, number: int, task: Task, runs: Sequence[t.Any] | None) -> Flight:
        block = self._idle.pop()
        cookies: list[int] = []
        for start, end in task.reads:
            self._limit.wait(end - start, self._cancel)
            first, last = start - task.offset, end - task.offset
            done = self._probe(block, first, last, task.offset) if self._probes else first
            if done < last:
                cookies += self._reader.start_read(block.part(done, last), task.offset + done)
            if last % CLUSTER:
                block.content[last : -(-last // CLUSTER) * CLUSTER] = bytes(-last % CLUSTER)
        return Flight(number, task, block, cookies, runs)

    def _probe(self, block: Block, first: int, last: int, offset: int) -> int:
        """Read a few clusters alone, which tells how long the way to the server is; return where that ends."""
        done = first
        while done < last and self._unsure():
            self._probes -= 1
            part = block.part(done, min(done + CLUSTER, last))
            began = self._pace.clock()
            self._reader.finish_read(self._reader.start_read(part, offset + done))
            self._pace.answered(self._pace.clock() - began)
            done += len(part)
        if done == first:
            self._probes = 0
        return done

    def _unsure(self) -> bool:
        """Whether another probe could tell; each connection asks once at least, for one may have met a busy moment."""
        return self._probes > 0 and not self._pace.near and (self._probes == PROBES or not self._pace.far)

    def _store(self, number: int, task: Task, block: Block, runs: Sequence[t.Any] | None) -> None:
        """Hand a block's clusters to the end and account for them."""
        job = self._job
        if not task.reads and task.end - task.offset > BLOCK:
            self._store_zero_blocks(number, task)
            return
        data, zero = _masks(task, block.content)
        stored = widened(data, job.cluster // CLUSTER) & _mask(
            task.offset, Run(task.offset, min(task.offset + BLOCK, job.size))
        )
        if self._shortcut and runs is not None and self._shortcut.possible:
            self._shortcut.share(runs)
        else:
            self._write(task.offset, block, stored)
        if job.explicit_zeroes:
            for first, last in bits_to_runs(zero & ~stored):
                job.end.zero(task.offset + first * CLUSTER, min(task.offset + last * CLUSTER, job.size))
        else:
            zero = 0
        records = b""
        if job.checksum and (data or zero):
            records = digest.record(task.offset, data, zero, digest.cluster_hashes(block.content, data))
        job.settle(number, task.end, records, self._bytes(task.offset, data), self._bytes(task.offset, zero))

    def _write(self, offset: int, block: Block, stored: int) -> None:
        for first, last in bits_to_runs(stored):
            self._job.end.write(offset + first * CLUSTER, block.part(first * CLUSTER, last * CLUSTER))

    def _store_zero_blocks(self, number: int, task: Task) -> None:
        job = self._job
        records = b""
        if job.explicit_zeroes:
            job.end.zero(task.offset, task.end)
            if job.checksum:
                records = digest.zero_records(task.offset, task.end)
        job.settle(number, task.end, records, 0, task.end - task.offset)

    def _bytes(self, offset: int, mask: int) -> int:
        """Return how many bytes of the disk the clusters in ``mask`` are; the last cluster may be a short one."""
        if not mask:
            return 0
        beyond = offset + mask.bit_length() * CLUSTER - self._job.size
        return bin(mask).count("1") * CLUSTER - max(beyond, 0)


def _masks(task: Task, block: bytearray) -> tuple[int, int]:
    """Return which clusters of the block hold data and which only zeroes; the rest is in neither."""
    data = 0
    zero = sum(_mask(task.offset, run) for run in task.zeros)
    for run in task.reads:
        for index in range((run.start - task.offset) // CLUSTER, -(-(run.end - task.offset) // CLUSTER)):
            # Much faster than any comparison of slices: no copy is made, and data differs within a few bytes.
            if not block.startswith(digest.ZEROS, index * CLUSTER):
                data |= 1 << index
            else:
                zero |= 1 << index
    return data, zero & ~data


def widened(mask: int, count: int) -> int:
    """Return ``mask`` with all bits of each group of ``count`` set in which one is.

    >>> bin(widened(0b0001_0000_0110, 4))
    '0b111100001111'
    """
    if count == 1:
        return mask
    whole = (1 << count) - 1
    groups = range(0, mask.bit_length(), count)
    return sum(whole << first for first in groups if mask >> first & whole)


def _mask(offset: int, run: Run) -> int:
    first, last = (run.start - offset) // CLUSTER, -(-(run.end - offset) // CLUSTER)
    return (1 << last) - (1 << first)
