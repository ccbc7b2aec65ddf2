# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random chains: a disk of any size is written, zeroed and trimmed, copied in full, and then increment by increment.

Every image must show what was served: by ``qemu-img compare`` with the export it was read from, and by an oracle that
is made without any code of ours (``nbd_fixtures.increment_by_qemu``). It must hold what was dirty and nothing else.

``VIRT_BACKUP_SEED`` chooses other chains and ``VIRT_BACKUP_CHAINS`` how many there are of each kind; a failing test
carries the seed in its name and repeats with ``VIRT_BACKUP_SEED=<the seed> VIRT_BACKUP_CHAINS=1``.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import tempfile
import threading
import typing as t
from pathlib import Path

import nbd as libnbd

from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration.model_disk import ModelDisk, odd_manners
from ansible_collections.virt.backup.tests.integration.nbd_fake import FakeServer
from ansible_collections.virt.backup.tests.integration.storage_daemon import StorageDaemon

KIB = 1024
MIB = 1024 * KIB
CLUSTER = 64 * KIB
GRANULARITIES = (512, 4 * KIB, 64 * KIB, MIB)
CLUSTER_SIZES = ("512", "4k", "64k", "2M")
TABLE = 512 * MIB
WINDOW = 4096 * MIB - MIB
LENGTHS = (512, 4 * KIB, CLUSTER, 70 * KIB, 300 * KIB + 512, MIB)


def seeds(kind: int) -> list[int]:
    """Return the seeds of one kind of chains, which no other kind shares."""
    base = int(os.environ.get("VIRT_BACKUP_SEED", "0"))
    count = int(os.environ.get("VIRT_BACKUP_CHAINS", "144"))
    return [base + kind * 1_000_000 * (count > 1) + number for number in range(count)]


@contextlib.contextmanager
def folder() -> t.Iterator[Path]:
    """Make a folder in memory, if there is one: thousands of synced files are no test of a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="chain-") as name:
        yield Path(name)


def any_size(chance: random.Random, grain: int) -> int:
    """Return a size: the marks of clusters and blocks, what is just beside them, and anything else up to 4 MiB.

    A few disks of whole sectors are large and nearly empty, for the marks of L2 tables and of what is planned at once.
    """
    if grain > 1 and chance.random() < 0.08:
        return chance.choice([TABLE, TABLE, WINDOW]) + chance.choice([-grain, 0, grain, 3 * MIB])
    near = chance.choice([CLUSTER, MIB, 2 * MIB, 3 * MIB + CLUSTER]) + chance.choice([-grain, 0, grain])
    return chance.choice(
        [grain, near, near, chance.randrange(grain, 4 * MIB, grain), chance.randrange(grain, MIB, grain)]
    )


class Guest:
    """Who writes to the disk: any length at any place, often over what is there, as data, as zeroes, as trims."""

    def __init__(self, uri: str, chance: random.Random) -> None:
        self._chance = chance
        self._handle = libnbd.NBD()
        self._handle.connect_uri(uri)
        self._size = self._handle.get_size()

    def close(self) -> None:
        """Go."""
        self._handle.shutdown()

    def change(self, times: int) -> None:
        """Change something."""
        for _unused in range(times):
            length = self._chance.choice(LENGTHS)
            start = self._start(length)
            self._change(start, min(length, self._size - start))
        self._handle.flush()

    def _start(self, length: int) -> int:
        """Return where to change something; on large disks most often across one of the marks."""
        if self._size < TABLE - MIB or self._chance.random() < 0.2:
            return self._chance.randrange(0, self._size, 512)
        mark = self._chance.choice([TABLE, WINDOW, self._size])
        return max(min(mark, self._size) - self._chance.randrange(512, length + 512, 512), 0) // 512 * 512

    def _change(self, start: int, length: int) -> None:
        kind = self._chance.randrange(8)
        if kind == 0:
            self._handle.pwrite(bytes(length), start)
        elif kind == 1:
            self._handle.zero(length, start, flags=libnbd.CMD_FLAG_NO_HOLE)
        elif kind == 2:
            self._handle.zero(length, start)
        elif kind == 3:
            self._handle.trim(length, start)
        elif kind == 4:
            self._handle.pwrite(self._chance.randbytes(length), start)
        else:
            self._handle.pwrite(bytes([self._chance.randrange(1, 256)]) * length, start)


@contextlib.contextmanager
def busy(uri: str, seed: int) -> t.Iterator[None]:
    """Let a guest write until the end of the context."""
    over = threading.Event()

    def work() -> None:
        guest = Guest(uri, random.Random(seed))
        while not over.is_set():
            guest.change(3)
        guest.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Chain:
    """The images made so far, and the checks that each must pass."""

    def __init__(self, place: Path, size: int, chance: random.Random, compression: str) -> None:
        self._place = place
        self._digests = size < TABLE - MIB and chance.random() < 0.1
        self._options: dict[str, t.Any] = {
            "compression": compression,
            "connections": chance.choice([1, 2, 4]),
            "checksum": "sha256" if self._digests or chance.random() < 0.5 else "none",
        }
        self.images: list[Path] = []

    def extract(self, server: nbd.Server, bitmap: str = "") -> dict[str, t.Any]:
        """Make the next image; return its result."""
        dest = self._place / f"{len(self.images)}.qcow2"
        base = self.images[-1].name if bitmap else ""
        image = ImageRequest(server.uri(), str(dest), bitmap=bitmap, backing_file=base)
        result: dict[str, t.Any] = extract(ExtractRequest(images=(image,), **self._options), check=False).result
        self.images.append(dest)
        return result["images"][0]  # type: ignore[no-any-return]

    def verify(self, server: nbd.Server, bitmap: str, result: dict[str, t.Any]) -> None:
        """Hold the newest image against its source, and an increment against the oracle and the bitmap too."""
        image = self.images[-1]
        nbd.run("qemu-img", "check", "-q", "-f", "qcow2", image)
        same_as_export(image, server)
        if bitmap:
            oracle = self._place / "oracle.qcow2"
            nbd.increment_by_qemu(server, bitmap, self.images[-2], oracle)
            nbd.run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", oracle, image)
            oracle.unlink()
            assert held_clusters(image) == dirty_clusters(server, bitmap)
        if self._digests:
            assert result["digest"] == nbd.digest_by_qemu(image, incremental=bool(bitmap))
            assert nbd.root_of(*self.images) == nbd.digest_by_qemu(image, incremental=False)


def same_as_export(image: Path, server: nbd.Server) -> None:
    """Assert by QEMU that an image shows what a server serves, and no byte more or less; it sees odd sizes rounded up."""
    told = nbd.run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, server.uri())
    assert told == "Images are identical.\n", told


def held_clusters(image: Path) -> set[int]:
    """Return the numbers of the clusters that an image holds itself, as QEMU maps it."""
    told = json.loads(nbd.run("qemu-img", "map", "--output=json", "-f", "qcow2", image))
    return {
        number
        for extent in told
        if extent["depth"] == 0 and extent["present"]
        for number in range(extent["start"] // CLUSTER, -(-(extent["start"] + extent["length"]) // CLUSTER))
    }


def dirty_clusters(server: nbd.Server, bitmap: str) -> set[int]:
    """Return the numbers of the clusters that a bitmap touches, as nbdinfo shows it."""
    told = json.loads(nbd.run("nbdinfo", f"--map=qemu:dirty-bitmap:{bitmap}", "--json", server.uri()))
    return {
        number
        for extent in told
        if extent["type"] & 1
        for number in range(extent["offset"] // CLUSTER, -(-(extent["offset"] + extent["length"]) // CLUSTER))
    }


def odd_chain(seed: int, compressions: t.Sequence[str]) -> None:
    """Make and verify a chain of a disk of any size in bytes, served by a server with manners that no other has."""
    chance = random.Random(seed)
    size = any_size(chance, 1)
    disk = ModelDisk(size, chance)
    disk.change(chance.randrange(1, 12))
    with folder() as place:
        chain = Chain(place, size, chance, chance.choice(compressions))
        for number in range(chance.randrange(2, 5)):
            bitmap = "b" if number else ""
            with FakeServer(place, disk.served(), odd_manners(chance)) as fake:
                result = chain.extract(fake.server, bitmap)
                assert (result["level"], result["size"]) == ("incremental" if bitmap else "full", size)
            with FakeServer(place, disk.served(allocation=False)) as fake:
                chain.verify(fake.server, bitmap, result)
            disk.begin_bitmap(chance.choice(GRANULARITIES))
            disk.change(chance.randrange(0, 10))


def run_chain(seed: int, *, compressions: t.Sequence[str], pull: bool) -> None:
    """Make one chain of a full image and up to three increments, and verify each image when it is made."""
    chance = random.Random(seed)
    size = any_size(chance, 512)
    with folder() as place:
        chain = Chain(place, size, chance, chance.choice(compressions))
        disk, image_format = _disk(place, size, chance)
        with StorageDaemon(disk, image_format) as daemon:
            guest = Guest(daemon.guest_uri, chance)
            guest.change(chance.randrange(1, 12))
            for number in range(chance.randrange(2, 5)):
                bitmap = f"b{number}" if number else ""
                if bitmap:
                    daemon.end_bitmap(bitmap)
                with _served(daemon, place, size, bitmap, pull=pull) as server:
                    # The next bitmap begins with the frozen moment: what the guest writes now belongs to it.
                    daemon.begin_bitmap(f"b{number + 1}", chance.choice(GRANULARITIES))
                    with busy(daemon.guest_uri, chance.randrange(2**32)) if pull else contextlib.nullcontext():
                        result = chain.extract(server, bitmap)
                    assert (result["level"], result["size"]) == ("incremental" if bitmap else "full", size)
                    chain.verify(server, bitmap, result)
                guest.change(chance.randrange(0, 10))
            guest.close()


def _disk(place: Path, size: int, chance: random.Random) -> tuple[Path, str]:
    """Make an empty disk; a raw one now and then, which can have bitmaps while it is in use."""
    if chance.random() < 0.1:
        return nbd.create(place / "disk.raw", size, image_format="raw"), "raw"
    return nbd.create(place / "disk.qcow2", size, "-o", f"cluster_size={chance.choice(CLUSTER_SIZES)}"), "qcow2"


@contextlib.contextmanager
def _served(daemon: StorageDaemon, place: Path, size: int, bitmap: str, *, pull: bool) -> t.Iterator[nbd.Server]:
    bitmaps = (bitmap,) if bitmap else ()
    if not pull:
        with daemon.still(*bitmaps) as server:
            yield server
        return
    scratch = nbd.create(place / "scratch.qcow2", size)
    with daemon.frozen(scratch, *bitmaps) as server:
        yield server
    scratch.unlink()
