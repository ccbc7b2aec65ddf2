# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage that is full or fails, and sources that do: one clear error, no half a restore point, and the next run is right.

Real file systems (:mod:`failing_disk`), real servers where they can fail that way. After each fault the same is asked:
the error is one sentence that says what to do, the restore points of before are all there is and restore byte for byte,
nothing of the run is left once it was given up, and the next run succeeds without help.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
import typing as t
from pathlib import Path

import pytest
from integration.disk_scene import SIZE, Scene
from integration.failing_disk import FailingDisk, SmallDisk
from lab.wait import until

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import InfoRequest, look
from ansible_collections.virt.backup.plugins.module_utils._run.verify import VerifyRequest, verify
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import nbd_wire as wire
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor
from ansible_collections.virt.backup.tests.integration.nbd_fake import ALLOCATION, Die, Disk, FakeServer, Manners, Stall
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store import tries
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import UUID, make_repository, run
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_scene import in_memory

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host

KIB = 1024
STEP = KIB if os.environ.get("VIRT_BACKUP_FAULTS") == "all" else 2 * KIB
STAGE, COPY, PUBLISH = "stage", "copy", "publish"


@pytest.fixture(autouse=True)
def tried(request: pytest.FixtureRequest) -> t.Iterator[None]:
    with tries.told(request.node):
        yield


@pytest.fixture
def folder() -> t.Iterator[Path]:
    with in_memory() as path:
        yield path


class Failure(t.NamedTuple):
    """Where a run failed, and what it said."""

    step: str
    said: str


class Protected:
    """A scene with one restore point, and runs on it that may fail."""

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self.scene = Scene(folder, root)
        make_repository(self.scene.repository)
        with self.scene.server("write -P 2 256k 64k") as server:
            self.first = self.scene.backup(server)

    def look(self) -> dict[str, t.Any]:
        """Return what restore_point_info says."""
        return look(InfoRequest(str(self.scene.repository), UUID)).result

    def attempt(self, server: nbd.Server, **options: t.Any) -> Failure | str:
        """Go the way of the role; return the new restore point's id, or the failure, of which nothing is left then."""
        step = STAGE
        try:
            staged = self.scene.stage(self.scene.repository, self.first, **options.pop("stage", {}))
        except BackupError as error:
            return Failure(step, str(error))
        try:
            step = COPY
            images = self.scene.copy(staged, server, **options)
            step = PUBLISH
            return self.scene.publish(staged, images)
        except BackupError as error:
            image = Path(staged.plan["disks"][0]["image"])
            assert step != COPY or not image.exists(), "an image that is not complete has its name"
            assert [point["id"] for point in self.look()["restore_points"]] == [self.first]
            staged.absent()
            return Failure(step, str(error))

    def unharmed(self, failure: Failure | str) -> Failure:
        """Insist on one sentence, and on the old restore point as all there is."""
        assert isinstance(failure, Failure), "it did not fail"
        assert re.fullmatch(r"[^\n]+(; check [^\n;]+|; run again[^\n;]*)\.", failure.said), failure.said
        found = self.look()
        assert [point["id"] for point in found["restore_points"]] == [self.first]
        assert (found["lock"], found["stagings"], found["problems"]) == (None, [], [])
        self.restores(self.first)
        return failure

    def restores(self, identifier: str) -> None:
        """Compare a restore point with what the disk held, by QEMU."""
        nbd.identical(self.scene.repository / UUID / identifier / "vda.qcow2", self.scene.truth[identifier])

    def next_run(self, server: nbd.Server, **options: t.Any) -> None:
        """Back up without any help, and compare."""
        made = self.attempt(server, **options)
        assert isinstance(made, str), made
        self.scene.keep_truth(made)
        for point in (self.first, made):
            self.restores(point)
        assert verify(VerifyRequest(str(self.scene.repository), UUID), check=False).result["damaged"] == []
        run("absent", repository=str(self.scene.repository), id=made)


def test_a_file_system_that_is_full_at_any_moment(folder: Path) -> None:
    """Just so much is left that the run comes to the lock, the staging, the image, its digests, its record, the manifest."""
    with SmallDisk(folder) as disk:
        protected = Protected(folder, disk.mount)
        protected.scene.beside = False  # what other programs say of a full disk is their own matter
        with protected.scene.server("write -P 3 512k 64k") as server:
            before = disk.free()
            made = protected.attempt(server)
            needed = before - disk.free()
            run("absent", repository=str(protected.scene.repository), id=made)
            small, large = range(0, 16 * KIB, STEP), range(needed - 24 * KIB, needed + 6 * KIB, STEP)
            failed = []
            for rest in (*small, *range(16 * KIB, needed - 24 * KIB, 64 * KIB), *large):
                tries.count()
                with disk.filled(rest):
                    made = protected.attempt(server)
                    if isinstance(made, Failure):
                        assert "No space left on device" in protected.unharmed(made).said
                        failed.append(made.step)
                if isinstance(made, str):
                    run("absent", repository=str(protected.scene.repository), id=made)
                protected.next_run(server)
    assert set(failed) == {STAGE, COPY, PUBLISH}
    assert len(failed) < len(small) + len(large) + 20


@pytest.mark.parametrize("options", [{"compression": "zstd"}, {"direct": True}, {"connections": 4}], ids=str)
def test_a_file_system_that_is_full_in_the_middle_of_an_image(folder: Path, options: dict[str, t.Any]) -> None:
    with SmallDisk(folder) as disk:
        protected = Protected(folder, disk.mount)
        noise = folder / "noise"
        noise.write_bytes(os.urandom(512 * KIB))
        with protected.scene.server(f"write -s {noise} 256k 512k") as server:
            with disk.filled(300 * KIB):
                failure = protected.unharmed(protected.attempt(server, **options))
                assert (failure.step, "No space left on device" in failure.said) == (COPY, True)
            protected.next_run(server, **options)


def test_a_disk_that_fails_while_an_image_is_written(folder: Path) -> None:
    """The page cache takes it all, and only the sync tells. The journal could not be written either."""
    with FailingDisk(folder) as disk:
        protected = Protected(folder, disk.mount)
        repository = str(protected.scene.repository)
        with protected.scene.server("write -P 3 512k 64k") as server:
            staged = protected.scene.stage(protected.scene.repository, protected.first)
            told = (
                r"(Input/output error|Read-only file system).*; check space and health of its storage, then run again\."
            )
            with disk.failing("pwrite"), pytest.raises(BackupError, match=told):
                protected.scene.copy(staged, server)
            assert not Path(staged.plan["disks"][0]["image"]).exists()
            disk.repair()
            run("absent", repository=repository, break_lock=True)  # as when the lease has ended
            for leftover in protected.look()["stagings"]:
                run("absent", repository=repository, id=leftover["id"], staging=True)
            protected.restores(protected.first)
            protected.next_run(server)


def test_a_sync_that_failed_is_not_asked_again(folder: Path) -> None:
    """Without a journal the kernel goes on, and calls the next sync of lost content good: that must publish nothing."""
    with FailingDisk(folder, "-O", "^has_journal") as disk:
        protected = Protected(folder, disk.mount)
        with protected.scene.server("write -P 3 512k 64k") as server:
            staged = protected.scene.stage(protected.scene.repository, protected.first)
            images = protected.scene.copy(staged, server)
            told = r"Input/output error; check space, rights and the mount\."
            with disk.failing("pwrite"), pytest.raises(BackupError, match=told):
                protected.scene.publish(staged, images)
            with pytest.raises(BackupError, match=r"has no image|nvram"):
                protected.scene.publish(staged, images)
            staged.absent()
            assert [point["id"] for point in protected.look()["restore_points"]] == [protected.first]
            protected.restores(protected.first)
            protected.next_run(server)


def test_a_sync_that_failed_is_called_good_by_the_kernel(folder: Path) -> None:
    """What the test above is about, seen without any code of ours."""
    with FailingDisk(folder, "-O", "^has_journal") as disk:
        path = disk.mount / "file"
        with path.open("wb") as file:
            with disk.failing("pwrite"):
                file.write(b"x" * 65536)
                file.flush()
                with pytest.raises(OSError, match="Input/output error"):
                    os.fsync(file.fileno())
            os.fsync(file.fileno())
        disk.repair()
        assert not path.exists() or path.read_bytes() != b"x" * 65536


def test_a_disk_that_can_not_be_read(folder: Path) -> None:
    """A verification names the image, and the next level is full; the disk that reads again is taken back."""
    with FailingDisk(folder) as disk:
        protected = Protected(folder, disk.mount)
        repository = str(protected.scene.repository)
        disk.forget(protected.scene.repository / UUID / protected.first / "vda.qcow2")
        with disk.failing("pread"), pytest.raises(BackupError, match=r"vda\.qcow2 can't be read: Input/output error"):
            verify(VerifyRequest(repository, UUID), check=False)
        staged = protected.scene.stage(protected.scene.repository, protected.first)
        staged.absent()
        assert staged.plan["disks"][0]["level"] == "full"
        assert "can't be read" in staged.plan["disks"][0]["reason"]
        verify(VerifyRequest(repository, UUID), check=False)
        protected.restores(protected.first)
        with protected.scene.server("write -P 3 512k 64k") as server:
            protected.next_run(server)


# sources


@contextlib.contextmanager
def served(folder: Path, pread: str, meanwhile: t.Callable[[nbd.Server], None] | None = None) -> t.Iterator[nbd.Server]:
    """Serve a disk whose reads are a shell's: ``$3`` bytes from ``$4``. The first waits until ``meanwhile`` was done."""
    reading, go = folder / "reading", folder / "go"
    wait = f": > {reading}; while [ ! -e {go} ]; do sleep 0.02; done; "
    with nbd.nbdkit(folder, "eval", f"get_size=echo {SIZE}", f"pread={wait}{pread}") as server:

        def act() -> None:
            until("the disk is read", reading.exists, 20)
            if meanwhile:
                meanwhile(server)
            go.touch()

        actor = threading.Thread(target=act)
        actor.start()
        yield server
        actor.join()


def source_with_errors(folder: Path) -> t.ContextManager[nbd.Server]:
    """The disk behind the server can't be read."""
    return served(folder, "echo EIO >&2; exit 1")


def source_that_ends(folder: Path) -> t.ContextManager[nbd.Server]:
    """What the server reads becomes shorter than it has told."""
    source = folder / "source.raw"
    source.write_bytes(b"x" * SIZE)
    read = f"dd if={source} iflag=skip_bytes,count_bytes skip=$4 count=$3 2>/dev/null"
    return served(folder, read, lambda _server: os.truncate(source, SIZE // 2))


def source_that_dies(folder: Path) -> t.ContextManager[nbd.Server]:
    """The server is killed while it is read from."""
    return served(folder, "exit 1", lambda server: server.signal(signal.SIGKILL))


@contextlib.contextmanager
def source_that_stalls(folder: Path) -> t.Iterator[nbd.Server]:
    """The server says nothing more, and its connections stay."""
    with nbd.nbdkit(folder, "--filter=delay", "pattern", "size=1M", "delay-read=30") as server:
        yield server


def fake(fault: t.Callable[[wire.Request], t.Sequence[t.Any]]) -> t.Callable[[Path], t.ContextManager[nbd.Server]]:
    """Return a server that answers every read behind the first 256 KiB with a fault."""

    def of(request: wire.Request) -> t.Sequence[t.Any]:
        return fault(request) if request.command == wire.Command.READ and request.end > 256 * KIB else ()

    @contextlib.contextmanager
    def source(folder: Path) -> t.Iterator[nbd.Server]:
        disk = Disk(b"x" * SIZE, {ALLOCATION: [(SIZE, 0)]})
        with FakeServer(folder, disk, Manners(structured=False, fault=of)) as server:
            yield server.server

    return source


SOURCES = {
    "errors": source_with_errors,
    "ends": source_that_ends,
    "dies": source_that_dies,
    "stalls": source_that_stalls,
    "short replies": fake(lambda request: [wire.simple(request, data=b"x" * (request.length - 512)), Stall]),
    "cut replies": fake(lambda request: [wire.simple(request, data=b"x" * request.length)[:5000], Die]),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_a_source_that_fails_in_the_middle(
    folder: Path, source: t.Callable[[Path], t.ContextManager[nbd.Server]]
) -> None:
    protected = Protected(folder)
    began = time.monotonic()
    with source(folder) as server:
        failure = protected.unharmed(protected.attempt(server, stage={"full": True}, timeout=1))
    assert failure.step == COPY
    assert failure.said.startswith("images[0].uri: reading from ")
    assert time.monotonic() - began < 30
    with protected.scene.server("write -P 3 512k 64k") as server:
        protected.next_run(server)
