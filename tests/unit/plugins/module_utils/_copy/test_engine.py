# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine on ends and readers of memory: order, zeroes, digests, the first error."""

from __future__ import annotations

import hashlib
import io
import threading
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy import digest, plan
from ansible_collections.virt.backup.plugins.module_utils._copy.engine import Job, Worker, widened
from ansible_collections.virt.backup.plugins.module_utils._copy.pace import Budget, Pace
from ansible_collections.virt.backup.plugins.module_utils._copy.rate import RateLimit
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER, Segment, bits_to_runs


class MemoryReader:
    """Serves a disk from memory; reads are complete only when they are finished, and errors come then."""

    def __init__(self, disk: bytes, fail_at: int = -1) -> None:
        self._disk = disk
        self._fail_at = fail_at
        self._started: list[tuple[memoryview, int]] = []
        self.most_in_flight = 0
        self._in_flight = 0

    def start_read(self, into: memoryview, offset: int) -> list[int]:
        assert offset + len(into) <= len(self._disk)
        self._started.append((into, offset))
        self._in_flight += len(into)
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        return [len(self._started) - 1]

    def finish_read(self, cookies: list[int]) -> None:
        for cookie in cookies:
            into, offset = self._started[cookie]
            if offset <= self._fail_at < offset + len(into):
                raise OSError("boom")
            into[:] = self._disk[offset : offset + len(into)]
            self._in_flight -= len(into)


class MemoryEnd:
    """Remembers clusters; insists on what the protocol of an end promises."""

    def __init__(self) -> None:
        self.clusters: dict[int, bytes | None] = {}
        self.settled_at = 0

    def write(self, offset: int, data: memoryview) -> None:
        assert offset % CLUSTER == 0
        assert len(data) % CLUSTER == 0
        for start in range(0, len(data), CLUSTER):
            self._put(offset + start, bytes(data[start : start + CLUSTER]))

    def zero(self, start: int, end: int) -> None:
        for offset in range(start, end, CLUSTER):
            self._put(offset, None)

    def settled(self, offset: int) -> None:
        self.settled_at = max(offset, self.settled_at)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _put(self, offset: int, content: bytes | None) -> None:
        assert offset not in self.clusters
        assert offset >= self.settled_at
        self.clusters[offset] = content

    def picture(self, size: int) -> str:
        kinds = {None: "0"}
        at = range(0, size, CLUSTER)
        return "".join("." if x not in self.clusters else kinds.get(t.cast("None", self.clusters[x]), "A") for x in at)


def disk_of(picture: str, short: int = 0) -> bytes:
    content = b"".join(bytes(CLUSTER) if kind == "0" else kind.encode() * CLUSTER for kind in picture)
    return content[: len(content) - short]


def copy(
    disk: bytes,
    segments: list[Segment],
    *,
    explicit: bool,
    workers: int = 1,
    checksum: bool = True,
    digests: t.BinaryIO | None = None,
) -> tuple[MemoryEnd, Job]:
    end = MemoryEnd()
    job = Job(plan.tasks(segments), end, len(disk), explicit_zeroes=explicit, checksum=checksum, digests=digests)
    cancel = threading.Event()
    threads = [
        threading.Thread(target=Worker(job, MemoryReader(disk), RateLimit(), cancel, Pace(2)).run)
        for unused in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return end, job


@pytest.mark.parametrize("workers", [1, 4])
def test_full_leaves_zeroes_out(workers: int) -> None:
    disk = disk_of("AB00C0D" * 20, short=CLUSTER - 700)
    end, job = copy(disk, [Segment(0, len(disk), False)], explicit=False, workers=workers)
    assert end.picture(len(disk)) == "AA..A.A" * 20
    assert end.clusters[139 * CLUSTER] == b"D" * 700 + bytes(CLUSTER - 700)
    totals = job.totals()
    assert totals.copied + totals.zeroed == len(disk)
    assert totals.zeroed == 60 * CLUSTER
    assert end.settled_at == len(disk)


@pytest.mark.parametrize("workers", [1, 4])
def test_increment_stores_zeroes(workers: int) -> None:
    disk = disk_of("AB00C0D" * 20)
    segments = [
        Segment(0, 3 * CLUSTER, False),
        Segment(3 * CLUSTER, 4 * CLUSTER, True),
        Segment(20 * CLUSTER, 24 * CLUSTER, False),
    ]
    end, job = copy(disk, segments, explicit=True, workers=workers)
    assert end.picture(len(disk)) == "AA00" + "." * 16 + "AAA0" + "." * 116
    assert (job.totals().copied, job.totals().zeroed) == (5 * CLUSTER, 3 * CLUSTER)


def test_many_blocks_of_known_zeroes_are_not_read() -> None:
    size = 40 * BLOCK
    reader = MemoryReader(b"")
    end = MemoryEnd()
    job = Job(plan.tasks([Segment(0, size, True)]), end, size, explicit_zeroes=True, checksum=True)
    Worker(job, reader, RateLimit(), threading.Event(), Pace(2)).run()
    assert len(end.clusters) == size // CLUSTER
    assert job.totals().zeroed == size
    blocks = ((offset, 0xFFFF, bytes(BLOCK)) for offset in range(0, size, BLOCK))
    assert job.totals().digest == digest.content_digest(size, blocks, incremental=True)


@pytest.mark.parametrize("explicit", [True, False])
def test_the_digest_is_the_reference_s(explicit: bool) -> None:
    """However the work was cut and in whatever order it was finished."""
    disk = disk_of("AB00C0D" * 20, short=300)
    segments = [Segment(0, 5 * CLUSTER, False), Segment(5 * CLUSTER, 6 * CLUSTER, True)]
    segments += [Segment(6 * CLUSTER, len(disk), False)]
    files = [io.BytesIO() for unused in range(3)]
    digests = {
        copy(disk, segments, explicit=explicit, workers=workers, digests=file)[1].totals().digest
        for workers, file in zip((1, 2, 5), files)
    }
    blocks = [(offset, 0xFFFF, disk[offset : offset + BLOCK]) for offset in range(0, len(disk), BLOCK)]
    last, content = blocks[-1][0], blocks[-1][2]
    blocks[-1] = (last, (1 << -(-len(content) // CLUSTER)) - 1, content)
    assert digests == {digest.content_digest(len(disk), blocks, incremental=explicit)}
    expected = b"".join(digest.content_list(len(disk), blocks, incremental=explicit))
    assert [file.getvalue() for file in files] == [expected] * 3


def test_every_byte_counts_in_the_digest() -> None:
    def of(disk: bytes) -> str:
        return copy(disk, [Segment(0, len(disk), False)], explicit=False)[1].totals().digest

    disk = disk_of("AB0C")
    changed = bytearray(disk)
    changed[-1] ^= 1
    assert len({of(disk), of(bytes(changed)), of(disk_of("AB0C0")), of(disk_of("A0BC"))}) == 4


def test_no_checksum_no_digest() -> None:
    disk = disk_of("A")
    assert copy(disk, [Segment(0, CLUSTER, False)], explicit=False, checksum=False)[1].totals().digest == ""


def test_an_error_ends_the_worker_and_its_block_is_not_settled() -> None:
    disk = disk_of("A" * 64)
    end = MemoryEnd()
    job = Job(plan.tasks([Segment(0, len(disk), False)]), end, len(disk), explicit_zeroes=False, checksum=True)
    with pytest.raises(OSError, match="boom"):
        Worker(job, MemoryReader(disk, 2 * BLOCK + 5), RateLimit(), threading.Event(), Pace(2)).run()
    assert job.position == 2 * BLOCK


def test_a_cancelled_worker_takes_no_more() -> None:
    disk = disk_of("A" * 64)
    cancel = threading.Event()
    cancel.set()
    job = Job(plan.tasks([Segment(0, len(disk), False)]), MemoryEnd(), len(disk), explicit_zeroes=False, checksum=True)
    Worker(job, MemoryReader(disk), RateLimit(), cancel, Pace(2)).run()
    assert job.position == 0


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_depth_bounds_what_is_in_flight(depth: int) -> None:
    disk = disk_of("A" * 16 * 8)
    reader = MemoryReader(disk)
    job = Job(plan.tasks([Segment(0, len(disk), False)]), MemoryEnd(), len(disk), explicit_zeroes=False, checksum=True)
    Worker(job, reader, RateLimit(), threading.Event(), Pace(depth)).run()
    assert reader.most_in_flight == depth * BLOCK


def test_a_reused_block_shows_nothing_of_its_last_use() -> None:
    """Blocks are reused: a short last cluster must end in zeroes, and clusters not read must not be looked at."""
    disk = disk_of("A" * 33, short=100)
    segments = [Segment(0, BLOCK, False), Segment(BLOCK + CLUSTER, BLOCK + 2 * CLUSTER, False)]
    segments += [Segment(2 * BLOCK, len(disk), False)]
    end, _job = copy(disk, segments, explicit=True)
    assert end.picture(len(disk)) == "A" * 16 + ".A" + "." * 14 + "A"
    assert end.clusters[2 * BLOCK] == b"A" * (CLUSTER - 100) + bytes(100)


@pytest.mark.parametrize(
    ("mask", "runs"),
    [(0, []), (1, [(0, 1)]), (0b1011, [(0, 2), (3, 4)]), (0xFFFF, [(0, 16)]), (0x8001, [(0, 1), (15, 16)])],
)
def test_bits_to_runs(mask: int, runs: list[tuple[int, int]]) -> None:
    assert list(bits_to_runs(mask)) == runs


def test_a_digest_by_hand() -> None:
    """The construction of docs/internals/digest.md, spelled out once with nothing of ours."""
    disk = b"x" * CLUSTER + bytes(CLUSTER) + b"y" * 100
    size = len(disk)
    contents = (b"x" * CLUSTER, b"y" * 100 + bytes(CLUSTER - 100))
    header = b"virt.backup content 1\n" + (2 * CLUSTER + 512).to_bytes(8, "big")
    record = (0).to_bytes(8, "big") + (0b101).to_bytes(2, "big") + (0).to_bytes(2, "big")
    record += b"".join(hashlib.sha256(content).digest() for content in contents)
    file = io.BytesIO()
    _end, job = copy(disk, [Segment(0, size, False)], explicit=False, digests=file)
    assert file.getvalue() == header + record
    assert job.totals().digest == "sha256:" + hashlib.sha256(header + record).hexdigest()


class FarReader(MemoryReader):
    """Answers 50 ms after the question, whatever else is on its way."""

    def __init__(self, disk: bytes) -> None:
        super().__init__(disk)
        self.now = 0.0
        self._due: list[float] = []

    def start_read(self, into: memoryview, offset: int) -> list[int]:
        self._due.append(self.now + 0.050)
        return super().start_read(into, offset)

    def finish_read(self, cookies: list[int]) -> None:
        self.now = max(self.now, *(self._due[cookie] for cookie in cookies))
        super().finish_read(cookies)


@pytest.mark.parametrize(("allowed", "most"), [(99, 32), (5, 6), (0, 1)])
def test_far_readers_get_more_blocks_as_far_as_the_call_has_them(allowed: int, most: int) -> None:
    disk = disk_of("A" * 16 * 120)
    reader = FarReader(disk)
    budget = Budget(allowed)
    pace = Pace(1, 1, budget, clock=lambda: reader.now)
    job = Job(plan.tasks([Segment(0, len(disk), False)]), MemoryEnd(), len(disk), explicit_zeroes=False, checksum=True)
    Worker(job, reader, RateLimit(), threading.Event(), pace).run()
    assert job.position == len(disk)
    assert reader.most_in_flight == most * BLOCK
    assert [budget.take() for _block in range(allowed + 1)] == [True] * allowed + [False]


@pytest.mark.parametrize(
    ("mask", "count", "wide"),
    [
        (0b0, 4, 0b0),
        (0b1010, 1, 0b1010),
        (0b0010, 2, 0b0011),
        (0b1000_0000_0001, 4, 0b1111_0000_1111),
        (1 << 15, 16, 0xFFFF),
    ],
)
def test_whole_clusters_are_stored(mask: int, count: int, wide: int) -> None:
    assert widened(mask, count) == wide


def test_larger_clusters_are_stored_whole_and_the_digest_does_not_see_it() -> None:
    disk = disk_of("A000" + "0000" + "0B0", short=300)
    digests = set()
    for cluster, picture in ((CLUSTER, "A00000000A0"), (2 * CLUSTER, "AA000000AA0"), (4 * CLUSTER, "AAAA0000AAA")):
        end = MemoryEnd()
        tasks = plan.tasks([Segment(0, len(disk), False)])
        job = Job(tasks, end, len(disk), explicit_zeroes=True, checksum=True, cluster=cluster)
        Worker(job, MemoryReader(disk), RateLimit(), threading.Event(), Pace(1)).run()
        assert end.picture(len(disk)) == picture
        digests.add(job.totals().digest)
    assert len(digests) == 1
