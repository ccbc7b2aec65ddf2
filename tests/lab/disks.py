# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks of every kind that libvirt knows and one machine can have, from a description to the device XML."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
from xml.sax.saxutils import quoteattr

from lab.errors import LabError
from lab.tools import call
from lab.wait import until

KIB = 1024
MIB = 1024 * KIB


@dataclasses.dataclass(frozen=True)
class Disk:
    """What a disk shall be. Sizes in bytes.

    ``kind``: ``file``; ``block`` (a loop device); ``nbd`` (a network disk, served by qemu-nbd from the same file);
    ``empty`` (a drive without medium). ``format`` is what QEMU sees on it, whatever the kind.
    ``image``: an existing image to use instead of a new one. ``backing``: what a new qcow2 image is created upon.
    """

    target: str = "vda"
    size: int = 64 * MIB
    format: str = "qcow2"
    kind: str = "file"
    bus: str = ""
    device: str = "disk"
    compat: str = "1.1"
    cluster_size: int = 64 * KIB
    readonly: bool = False
    transient: bool = False
    serial: str = ""
    discard: str = "unmap"
    image: pathlib.Path | None = None
    backing: pathlib.Path | None = None
    backing_format: str = "qcow2"

    @property
    def effective_bus(self) -> str:
        """Return the bus: as given, else what the target's name suggests."""
        guess = {"vd": "virtio", "hd": "ide"}.get(self.target[:2], "sata" if self.device == "cdrom" else "scsi")
        return self.bus or guess


def empty_cdrom(target: str = "sda") -> Disk:
    """Return a CD drive without a medium."""
    return Disk(target, kind="empty", device="cdrom", format="raw", readonly=True)


def cdrom(target: str = "sda", size: int = 4 * MIB) -> Disk:
    """Return a CD drive with a medium."""
    return Disk(target, size=size, device="cdrom", format="raw", readonly=True)


def create_image(disk: Disk, path: pathlib.Path) -> None:
    """Create the image file of a disk, empty or upon its backing file."""
    argv: list[str | pathlib.Path] = ["qemu-img", "create", "-q", "-f", disk.format]
    if disk.format == "qcow2":
        argv += ["-o", f"compat={disk.compat},cluster_size={disk.cluster_size}"]
    if disk.backing:
        argv += ["-b", disk.backing, "-F", disk.backing_format]
    call(*argv, path, str(disk.size))


class Attached:
    """A disk that exists: its image file, and what serves it (a loop device, an NBD server), until :meth:`close`."""

    def __init__(self, disk: Disk, folder: pathlib.Path) -> None:
        self.disk = disk
        self.image = disk.image or folder / f"{disk.target}.{disk.format}"
        self.loop = ""
        self.socket = folder / f"{disk.target}.nbd.sock"
        self._server: subprocess.Popen[bytes] | None = None
        if disk.kind != "empty" and not disk.image:
            create_image(disk, self.image)
        if disk.kind == "block":
            self._make_room()
            self.loop = attach_loop(self.image)
        elif disk.kind == "nbd":
            self._make_room()
            self._serve()

    def _make_room(self) -> None:
        """Give the file the length of a device that holds all data and all tables of qcow2: devices don't grow."""
        size = self.disk.size
        os.truncate(self.image, size + size // 64 + MIB if self.disk.format == "qcow2" else size)

    def _serve(self) -> None:
        """Serve the file's bytes as they are: a qcow2 file stays one, and the domain's QEMU reads the format.

        The server runs as libvirt-qemu, so that its socket lets a QEMU of that user in.
        """
        shutil.chown(self.image, "libvirt-qemu", "kvm")
        shutil.chown(self.image.parent, "libvirt-qemu", "kvm")
        options = ["--persistent", "--shared=0", "--format=raw", "--discard=unmap", f"--export-name={self.disk.target}"]
        argv = ["qemu-nbd", *options, f"--socket={self.socket}", str(self.image)]
        self._server = subprocess.Popen(argv, user="libvirt-qemu", group="kvm", extra_groups=[])
        until(f"qemu-nbd made {self.socket}", self.socket.exists)

    @property
    def pid(self) -> int:
        """Return the process id of the NBD server."""
        if self._server is None:
            raise LabError(f"disk {self.disk.target} has no NBD server")
        return self._server.pid

    def close(self) -> None:
        """Take away what serves the disk."""
        if self.loop:
            call("losetup", "--detach", self.loop)
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server.pid, signal.SIGTERM)
            self._server.wait(20)
            self.socket.unlink(missing_ok=True)
        self.loop, self._server = "", None

    def xml(self) -> str:
        """Return the device's XML for define or hot-plug."""
        disk = self.disk
        parts = [f"<driver name='qemu' type='{disk.format}'{self._discard()}/>", self._source()]
        parts.append(f"<target dev='{disk.target}' bus='{disk.effective_bus}'/>")
        parts += [f"<serial>{disk.serial}</serial>"] if disk.serial else []
        parts += ["<readonly/>"] if disk.readonly else []
        parts += ["<transient/>"] if disk.transient else []
        kind = {"nbd": "network", "empty": "file"}.get(disk.kind, disk.kind)
        return f"<disk type='{kind}' device='{disk.device}'>{''.join(parts)}</disk>"

    def _discard(self) -> str:
        return f" discard='{self.disk.discard}'" if self.disk.discard and self.disk.device == "disk" else ""

    def _source(self) -> str:
        kind = self.disk.kind
        if kind == "file":
            return f"<source file={quoteattr(str(self.image))}/>"
        if kind == "block":
            return f"<source dev='{self.loop}'/>"
        if kind == "nbd":
            host = f"<host transport='unix' socket={quoteattr(str(self.socket))}/>"
            return f"<source protocol='nbd' name='{self.disk.target}'>{host}</source>"
        return ""


def attach_loop(image: pathlib.Path, sector_size: int = 512) -> str:
    """Attach a loop device. Others on this machine do too, so a free one may be gone when losetup takes it."""
    argv = ["losetup", "--find", "--show", "--sector-size", str(sector_size), str(image)]
    found: list[str] = []

    def attached() -> bool:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20)
        found.append(done.stdout.strip())
        return done.returncode == 0

    until(f"a loop device for {image}", attached, 10)
    return found[-1]
