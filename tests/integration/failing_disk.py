# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small real ext4 file systems that get full, and one whose disk fails whenever a test wants it to.

The failing disk is served by nbdkit, whose error filter is switched by a file, and comes to the kernel as a loop device
on what nbdfuse shows of it: the errors take the way that those of a real disk take, through the page cache and fsync(2).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import typing as t
from pathlib import Path

from lab.wait import until

from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration.ends_kit import loop_device

MIB = 1 << 20
FORMAT = ("-q", "-t", "ext4", "-b", "1024", "-m", "0")


class SmallDisk:
    """A mounted ext4 of so many bytes. A context manager."""

    def __init__(self, folder: Path, size: int = 16 * MIB) -> None:
        self.mount = folder / "small"
        self._image = folder / "small.raw"
        self._size = size
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> t.Self:
        with self._image.open("wb") as file:
            file.truncate(self._size)
        nbd.run("mke2fs", *FORMAT, self._image)
        self.mount.mkdir()
        with contextlib.ExitStack() as stack:
            device = stack.enter_context(loop_device(self._image))
            stack.enter_context(mounted(device, self.mount))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def free(self) -> int:
        """Return the bytes that can still be written."""
        os.sync()
        found = os.statvfs(self.mount)
        return found.f_bavail * found.f_frsize

    @contextlib.contextmanager
    def filled(self, rest: int) -> t.Iterator[None]:
        """Leave just so many bytes, give or take a block."""
        filler = self.mount / "filler"
        with filler.open("wb") as file:
            while self.free() > rest + 1024:
                os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END) + self.free() - rest - 1024 or 1024)
        yield
        filler.unlink()


class FailingDisk:
    """A mounted ext4 on a disk that fails while it is told to. ``options`` are mke2fs's. A context manager."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.mount = folder / "failing"
        self._folder = folder
        self._switches = {kind: folder / f"switch-{kind}" for kind in ("pread", "pwrite")}
        self._options = options
        self._stack = contextlib.ExitStack()
        self._device = ""
        self._mounted = contextlib.ExitStack()

    def __enter__(self) -> t.Self:
        image, seen = self._folder / "failing.raw", self._folder / "seen"
        with image.open("wb") as file:
            file.truncate(24 * MIB)
        nbd.run("mke2fs", *FORMAT, *self._options, image)
        self.mount.mkdir()
        seen.mkdir()
        with contextlib.ExitStack() as stack:
            errors = [f"error-{kind}-file={path}" for kind, path in self._switches.items()]
            errors += ["error=EIO", "error-pread-rate=100%", "error-pwrite-rate=100%"]
            server = stack.enter_context(
                nbd.nbdkit(self._folder, "--filter=error", "file", image, *errors, writable=True)
            )
            stack.enter_context(_fuse(server, seen))
            self._device = stack.enter_context(loop_device(seen / "nbd"))
            self._remount()
            stack.callback(self._mounted.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for switch in self._switches.values():
            switch.unlink(missing_ok=True)
        self._stack.close()

    def _remount(self) -> None:
        self._mounted.close()
        self._mounted.enter_context(mounted(self._device, self.mount))

    @contextlib.contextmanager
    def failing(self, *kinds: str) -> t.Iterator[None]:
        """Let every ``pread`` or ``pwrite`` of the disk fail; what the kernel remembers needs no disk."""
        os.sync()
        for kind in kinds:
            self._switches[kind].touch()
        try:
            yield
        finally:
            for kind in kinds:
                self._switches[kind].unlink()

    def forget(self, path: Path) -> None:
        """Make the kernel forget the content of a file, which is then read from the disk."""
        os.sync()
        for name in (path, Path(self._device), self._folder / "seen" / "nbd"):
            descriptor = os.open(name, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    def repair(self) -> None:
        """Do what an administrator does when the disk works again: check, mount anew."""
        self._mounted.close()
        subprocess.run(["e2fsck", "-fy", self._device], check=False, capture_output=True, timeout=60)
        self._remount()


@contextlib.contextmanager
def mounted(device: str, folder: Path) -> t.Iterator[None]:
    """Mount a device."""
    nbd.run("mount", "-t", "ext4", device, folder)
    try:
        yield
    finally:
        nbd.run("umount", folder)


@contextlib.contextmanager
def _fuse(server: nbd.Server, folder: Path) -> t.Iterator[None]:
    """Show the export as ``folder/nbd``."""
    process = subprocess.Popen(
        ["nbdfuse", str(folder / "nbd"), "--unix", str(server.socket)], stderr=subprocess.DEVNULL
    )
    try:
        until("nbdfuse shows the disk", (folder / "nbd").exists, 20)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            raise
