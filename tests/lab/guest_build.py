# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds the small real guest: Debian's cloud kernel, and an initramfs of busybox, mke2fs and the guest agent.

Everything comes from Debian packages: the kernel's is fetched with apt and unpacked, the others are installed here. The
result is kept in ``build/lab/guest``, in a folder named after what went into it.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from lab.cpio import Archive
from lab.errors import LabError
from lab.node import NODES
from lab.tools import call

CACHE = NODES.parent / "guest"
META = "linux-image-cloud-amd64"
PROGRAMS = (pathlib.Path("/sbin/mke2fs"), pathlib.Path("/usr/sbin/qemu-ga"))
BUSYBOX = pathlib.Path("/bin/busybox")
# The order is that of their dependencies; ext4 is in the kernel.
MODULES = (
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci",
    "block/virtio_blk",
    "char/virtio_console",
)

INIT = """\
#!/bin/sh
/bin/busybox --install -s /bin
export PATH=/sbin:/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in {modules}; do insmod /modules/$module.ko; done
ln -s /proc/self/mounts /etc/mtab
until name=$(grep -ls org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name); do usleep 50000; done
port=$(basename "$(dirname "$name")")
until [ -e "/dev/$port" ]; do usleep 50000; done
mkdir -p /run /var/run
while :; do /usr/sbin/qemu-ga -m virtio-serial -p "/dev/$port" -t /run -f /run/qga.pid; sleep 1; done
"""


class GuestFiles:
    """Where the kernel and the initramfs are."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.kernel = folder / "vmlinuz"
        self.initramfs = folder / "initramfs"


@functools.cache
def guest_files() -> GuestFiles:
    """Return the guest's files, built when they are not there or were made from something else."""
    package = _kernel_package()
    recipe = [package, INIT, *MODULES, pathlib.Path(__file__).read_text(encoding="utf-8")]
    recipe += [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in (BUSYBOX, *PROGRAMS)]
    folder = CACHE / hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            if "VIRT_BACKUP_LAB" in os.environ:
                raise LabError("the guest is not built, and in here is no network: tests/lab/enter --guest -- ...")
            with tempfile.TemporaryDirectory(dir=CACHE) as partial:
                _build(package, pathlib.Path(partial))
                (pathlib.Path(partial) / "result").rename(folder)
    return GuestFiles(folder)


def _kernel_package() -> str:
    """Return the package that the meta package stands for now; the newest one kept when apt's lists are not there."""
    depends = call("apt-cache", "depends", META, check=False)
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if not found:
        call("apt-get", "-qq", "update", timeout=300)
        found = re.search(r"Depends: (linux-image-\S+)", call("apt-cache", "depends", META))
    if not found:
        raise LabError(f"apt knows no kernel under the name {META}")
    return found.group(1)


def _build(package: str, work: pathlib.Path) -> None:
    shutil.chown(work, "_apt")  # apt fetches as that user
    if not _downloaded(package, work):
        call("apt-get", "-qq", "update", timeout=300)  # the lists named a version that is gone
        if not _downloaded(package, work):
            raise LabError(f"apt-get download {package} failed")
    call("dpkg-deb", "--extract", next(work.glob("*.deb")), work / "root")
    result = work / "result"
    result.mkdir()
    shutil.copyfile(next((work / "root" / "boot").glob("vmlinuz-*")), result / "vmlinuz")
    drivers = next((work / "root" / "lib" / "modules").iterdir()) / "kernel" / "drivers"
    (result / "initramfs").write_bytes(_initramfs(drivers))


def _downloaded(package: str, work: pathlib.Path) -> bool:
    argv = ["apt-get", "-qq", "download", package]
    return subprocess.run(argv, cwd=work, check=False, capture_output=True, timeout=300).returncode == 0


def _initramfs(drivers: pathlib.Path) -> bytes:
    archive = Archive()
    for name in ("bin", "dev", "etc", "mnt", "proc", "run", "sys", "tmp", "var"):
        archive.directory(name)
    archive.copy(BUSYBOX)
    archive.link("bin/sh", "busybox")
    needed = set(PROGRAMS).union(*(_libraries(program) for program in PROGRAMS))
    for path in sorted(needed):
        archive.copy(path)
    for module in MODULES:
        archive.copy(drivers / f"{module}.ko", f"modules/{pathlib.Path(module).name}.ko")
    names = " ".join(pathlib.Path(module).name for module in MODULES)
    archive.file("init", INIT.format(modules=names).encode())
    return archive.to_bytes()


def _libraries(program: pathlib.Path) -> set[pathlib.Path]:
    """Return the libraries, and the loader, that a program needs."""
    return {pathlib.Path(path) for path in re.findall(r"(/\S+) \(0x", call("ldd", program))}
