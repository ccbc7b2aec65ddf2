# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The traps of writing through a server: through QEMU's own, which writes encrypted images, and through any other."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import typing as t
from pathlib import Path

from ansible_collections.virt.backup.plugins.module_utils import _nbd, _qemu
from ansible_collections.virt.backup.plugins.module_utils._copy.ends import Means
from ansible_collections.virt.backup.plugins.module_utils._copy.nbd_export import NbdExport
from ansible_collections.virt.backup.plugins.module_utils._copy.qemu_file import QemuFile
from ansible_collections.virt.backup.plugins.module_utils._model.errors import ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration.nbd_fake import FakeServer, Manners
from ansible_collections.virt.backup.tests.integration.nbd_store import Store, StoreServer
from ansible_collections.virt.backup.tests.integration.trap_kit import (
    CLUSTER,
    MIB,
    NEW,
    OLD,
    Patch,
    Trap,
    disk_of,
    shows,
)


@contextlib.contextmanager
def qemu_file(path: Path, size: int, backing_file: str = "") -> t.Iterator[QemuFile]:
    """Open an image that QEMU writes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        means = Means("none", None, 10.0, threading.Event())
        with contextlib.closing(QemuFile(fd, size, backing_file, "qcow2", means)) as end:
            yield end
    finally:
        os.close(fd)


def zeroed_through_qemu(place: Path) -> None:
    """A cluster that became zero, where QEMU writes: it knows no backing image, so a trimmed cluster is one it forgets."""
    base = nbd.create(place / "base.qcow2", MIB)
    nbd.qemu_io(base, f"write -q -P 0x11 0 {MIB}")
    with qemu_file(place / "image.qcow2", MIB, "base.qcow2") as end:
        end.write(0, memoryview(bytearray(NEW * CLUSTER)))
        end.zero(CLUSTER, 2 * CLUSTER)
        end.settled(MIB)
        end.finish()
    nbd.run("qemu-img", "check", "-q", place / "image.qcow2")  # says nothing of this fault
    shows(place, NEW * CLUSTER + bytes(CLUSTER) + OLD * (MIB - 2 * CLUSTER))


def trim_for_zero(patch: Patch) -> None:
    def zero(self: t.Any, offset: int, length: int) -> None:
        cookie = self._nbd.aio_trim(length, offset)
        while not self._nbd.aio_command_completed(cookie):
            self._nbd.poll(1000)

    patch.setattr(_nbd.Target, "zero", zero)


def started(patch: Patch, start: t.Callable[..., t.Any]) -> None:
    """Let ``start`` start qemu-nbd; it is given the true way, the command and its options."""
    true = subprocess.Popen

    def popen(command: list[str], **options: t.Any) -> t.Any:
        return start(true, command, options) if Path(command[0]).name == "qemu-nbd" else true(command, **options)

    patch.setattr(subprocess, "Popen", popen)


def warned(place: Path) -> None:
    """QEMU says something on its standard error, which is no failure; and nobody has the image open afterwards."""
    path = place / "image.qcow2"
    layer = _qemu._layer
    with Patch.context() as patch:
        patch.setattr(_qemu, "_layer", lambda *image: {**layer(*image), "backing": ""})  # which is deprecated
        try:
            with qemu_file(path, MIB) as end:
                end.write(0, memoryview(bytearray(NEW * CLUSTER)))
                end.finish()
                assert "deprecated" in end._server._words()
        finally:
            left = holders(path)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            assert not left, f"{len(left)} processes hold the image and live on"
    shows(place, NEW * CLUSTER + bytes(MIB - CLUSTER))


def holders(path: Path) -> list[int]:
    """Return the processes that have a file open, but for this one."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == str(path):
                found.add(int(link.parts[2]))
    return sorted(found - {os.getpid()})


def fork_into_the_background(patch: Patch) -> None:
    def start(true: t.Callable[..., t.Any], command: list[str], options: dict[str, t.Any]) -> t.Any:
        process = true([command[0], "--fork", *command[1:]], **options)
        if process.wait():
            raise ToolError("qemu-nbd did not start.")
        return process

    started(patch, start)


def few_flushes_in_qemu(place: Path) -> None:
    """QEMU flushes when it is asked to, and not after each of 64 writes."""

    def start(true: t.Callable[..., t.Any], command: list[str], options: dict[str, t.Any]) -> t.Any:
        return true([command[0], "--trace", "qcow2_cache_flush", *command[1:]], **options)

    with Patch.context() as patch:
        started(patch, start)
        with qemu_file(place / "image.qcow2", 4 * MIB) as end:
            for number in range(64):
                end.write(number * CLUSTER, memoryview(bytearray(NEW * CLUSTER)))
            end.finish()
            flushes = end._server._words().count("qcow2_cache_flush ") // 2  # of its two caches
    assert 1 <= flushes <= 12, f"{flushes} flushes"


def write_through_in_qemu(patch: Patch) -> None:
    patch.setattr(_qemu, "CACHE", "writethrough")


def flushed(place: Path) -> None:
    """What was written is there after a loss of power, also where a flush is for its own connection alone."""
    content = NEW * 8 * MIB
    for shared in (True, False):
        store = Store(OLD * 8 * MIB)
        slow = Manners(structured=False, multi_conn=shared, fault=lambda _request: time.sleep(0.02) or ())
        disk = disk_of(content, [(8 * MIB, 0)], [])
        with FakeServer(place, disk) as fake, StoreServer(place / f"{shared}", store, slow) as target:
            image = ImageRequest(fake.server.uri(), target.server.uri(), format="raw", place=Place.SERVER)
            extract(ExtractRequest(images=(image,), force=True), check=False)
            assert target.clients > 1 or not shared, "nobody wrote over a second connection"
        lost = [at // MIB for at in range(0, 8 * MIB, MIB) if store.durable[at : at + MIB] != NEW * MIB]
        assert not lost, f"the blocks {lost} did not outlive the loss of power"


def flush_one_of_many(patch: Patch) -> None:
    true = _nbd.Target.__init__

    def connect(self: t.Any, *words: t.Any) -> None:
        true(self, *words)
        self.multi_conn = True

    def finish(self: t.Any) -> None:
        self.settled(self._end)
        self._all[0].flush()

    patch.setattr(_nbd.Target, "__init__", connect)
    patch.setattr(NbdExport, "finish", finish)


TRIMMED = (Trap("trim-for-zero", zeroed_through_qemu, trim_for_zero, "Content mismatch at offset 65536"),)
TRAPS = (
    Trap("sync-after-each-write-in-qemu", few_flushes_in_qemu, write_through_in_qemu, r"^\d+ flushes"),
    Trap("warning-taken-for-a-failure", warned, fork_into_the_background, "1 processes hold the image and live on"),
    Trap("one-flush-for-all-connections", flushed, flush_one_of_many, "did not outlive the loss of power"),
)
