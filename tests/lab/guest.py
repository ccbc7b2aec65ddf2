# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The small real guest: Linux with ext4 and the QEMU guest agent, booted under TCG in about ten seconds."""

from __future__ import annotations

import base64
import contextlib
import json
import pathlib
import shutil
import time
import typing as t

from lab.disks import Disk
from lab.domains import LabDomain
from lab.errors import LabError
from lab.guest_build import guest_files
from lab.tools import virsh
from lab.wait import until

BOOT = pathlib.Path("/var/lib/libvirt/boot")
COMMAND_LINE = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off no_timer_check tsc=reliable"
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
CONSOLE = "<serial type='pty'/><console type='pty'/>"


class Guest(LabDomain):
    """A domain with a guest system in it. Its disks are what the caller gives; the system is in memory only."""

    def __init__(
        self, name: str, *disks: Disk, memory: int = 160, devices: str = "", folder: pathlib.Path | None = None
    ) -> None:
        kernel, initramfs = install()
        boot = f"<kernel>{kernel}</kernel><initrd>{initramfs}</initrd><cmdline>{COMMAND_LINE}</cmdline>"
        super().__init__(name, *disks, memory=memory, boot=boot, devices=CHANNEL + CONSOLE + devices, folder=folder)

    def start(self, *, paused: bool = False) -> None:
        """Start it, running."""
        super().start(paused=paused)

    # the agent

    def wait_for_agent(self, seconds: float = 90) -> None:
        """Return when the agent answers; raise when it does not within ``seconds``."""
        until(f"the agent of {self.name} answers", self.agent_answers, seconds, step=0.2)

    def agent_answers(self) -> bool:
        """Whether the agent answers now."""
        with contextlib.suppress(LabError, ValueError):
            return "return" in self.agent("guest-ping", timeout=2)
        return False

    def agent(self, command: str, *, timeout: int = 20, **arguments: t.Any) -> dict[str, t.Any]:
        """Give the agent a command and return its answer."""
        request = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
        answer: dict[str, t.Any] = json.loads(
            virsh("qemu-agent-command", self.name, "--timeout", str(timeout), request)
        )
        return answer

    def sh(self, script: str, *, seconds: float = 60) -> str:
        """Run a shell script in the guest and return what it printed; raise when it fails or takes too long."""
        started = self.agent("guest-exec", path="/bin/sh", arg=["-ec", script], **{"capture-output": True})
        pid = started["return"]["pid"]
        deadline = time.monotonic() + seconds
        while not (status := self.agent("guest-exec-status", pid=pid)["return"])["exited"]:
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: {script!r} runs for more than {seconds:g} s")
            time.sleep(0.05)
        out, err = (base64.b64decode(status.get(key, "")).decode() for key in ("out-data", "err-data"))
        if status.get("exitcode") != 0:
            raise LabError(f"{self.name}: {script!r} ended with {status.get('exitcode')}: {err or out}")
        return out

    # file systems

    def make_filesystem(self, device: str, mountpoint: str) -> None:
        """Make an ext4 file system on a disk (``vda``) and mount it."""
        until(f"/dev/{device} is in {self.name}", lambda: self._has(device), 20, step=0.1)
        # The path matters: busybox has an mke2fs of its own that knows no ext4.
        self.sh(f"/sbin/mke2fs -q -t ext4 -N 4096 -E lazy_itable_init=0,lazy_journal_init=0 /dev/{device}")
        self.mount(device, mountpoint)

    def _has(self, device: str) -> bool:
        with contextlib.suppress(LabError):
            self.sh(f"test -b /dev/{device}")
            return True
        return False

    def mount(self, device: str, mountpoint: str) -> None:
        """Mount an ext4 disk."""
        self.sh(f"mkdir -p {mountpoint}; mount -t ext4 /dev/{device} {mountpoint}")

    def checksums(self, *folders: str) -> dict[str, str]:
        """Return the SHA-256 of every file below these folders, computed by the guest."""
        listing = self.sh(f"find {' '.join(folders)} -type f -exec sha256sum {{}} +", seconds=120)
        pairs = (line.split(maxsplit=1) for line in listing.splitlines())
        return {path: digest for digest, path in pairs}


def install() -> tuple[pathlib.Path, pathlib.Path]:
    """Put kernel and initramfs where QEMU's user may read them, and return the two paths."""
    files = guest_files()
    placed = (BOOT / "lab-vmlinuz", BOOT / "lab-initramfs")
    for source, target in zip((files.kernel, files.initramfs), placed):
        if not target.exists():
            shutil.copyfile(source, target)
    return placed
