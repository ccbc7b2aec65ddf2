# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest works on its disk while an instant restore copies it, and everything that can die does, one after the other.

The guest never hears of an error, and has all that it was told was written.
"""

from __future__ import annotations

import contextlib
import pathlib
import signal
import typing as t

import pytest
from integration import instant_kit as kit
from integration.controller import Sshd
from integration.protection import FULL, INCREMENTAL, Protection
from lab import services
from lab.disks import MIB, Disk
from lab.guest import Guest
from lab.tools import call, virsh
from lab.wait import until

# Numbers a line, has it on the disk, and only then says so; reads what was there before, past the guest's own cache.
WORKER = """
number=0
while :; do
  number=$((number + 1))
  echo $number >> /mnt/log
  sync
  echo $number > /told
  echo 3 > /proc/sys/vm/drop_caches
  sha256sum -c -s /sums || echo $number >> /wrong
  sleep 0.1
done
"""
STANDS_STILL = "paused (I/O error)"
SLOW = 64 * 1024


class Worker:
    """The process in the guest that works on its disk."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        guest.mount("vda", "/mnt")
        guest.sh("cd /; sha256sum /mnt/file* > /sums")
        guest.agent("guest-exec", path="/bin/sh", arg=["-c", WORKER])
        until("the guest writes", lambda: self.told() > 0)

    def told(self) -> int:
        """Return up to which line it was told that all is on the disk."""
        return int(self._guest.sh("cat /told 2>/dev/null || echo 0") or 0)

    def goes_on(self) -> int:
        """Insist that it works, and was never told of an error; return how far it is."""
        before = self.told()
        until("the guest goes on", lambda: self.told() > before + 1, 60)
        assert self._guest.sh("cat /wrong 2>/dev/null || true") == ""
        return self.told()


@pytest.fixture
def guest() -> t.Iterator[Guest]:
    with Guest("instant", Disk("vda", size=64 * MIB), Disk("vdb", size=8 * MIB)) as running:
        running.define()
        running.start()
        running.wait_for_agent()
        yield running


@pytest.fixture
def small(workdir: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Return a file system on which the disk has room until a test fills it."""
    folder = workdir / "small"
    folder.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=96m,mode=0777", "none", folder)
    yield folder
    call("umount", folder)


@pytest.fixture
def sshd(workdir: pathlib.Path) -> t.Iterator[Sshd]:
    sshd = Sshd(workdir)
    sshd.start()
    yield sshd
    sshd.cut()


def state(guest: Guest) -> str:
    return virsh("domstate", guest.name, "--reason").strip()


@pytest.mark.timeout(600)
def test_no_write_is_lost_whatever_dies(small: pathlib.Path, sshd: Sshd, guest: Guest, workdir: pathlib.Path) -> None:
    guest.make_filesystem("vda", "/mnt")
    guest.sh("for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/mnt/file$i bs=1M count=2 2>/dev/null; done; sync")
    files = guest.checksums("/mnt")
    protection = Protection(guest, workdir / "repository")
    virsh("suspend", guest.name)
    protection.backup()
    guest.destroy()
    places = [{"name": "vda", "dest": str(small / "vda.qcow2")}, {"name": "vdb", "dest": str(small / "vdb.qcow2")}]
    wish = {"restore_state": "running", "restore_disks": places, **sshd.reached()}
    restoration = kit.Restoration(protection, workdir, **wish)

    # The daemon dies while the disk is copied: QEMU goes on, and so does the guest.
    with restoration.begin(restore_rate_limit=SLOW) as play:
        play.wait_until(lambda: kit.copies(guest))
        guest.wait_for_agent()
        worker = Worker(guest)
        services.restart("libvirtd", signal.SIGKILL)
        play.end()
    told = worker.goes_on()
    assert restoration.repository_is_as_it_was()

    # What serves the backup dies: the guest stands still until the same play serves it again, and hears of nothing.
    # This time there is no room for the copy, and the guest goes on where it was.
    kit.kill(restoration.server())
    until("the guest stands still", lambda: state(guest) == STANDS_STILL, 60, step=0.1)
    fill(small)
    said = restoration.fail()
    assert "ended before it was complete" in said, said
    assert state(guest).startswith("running")
    told = max(told, worker.goes_on())
    assert all(path.endswith(".overlay") for path in kit.sources(guest).values())
    assert restoration.repository_is_as_it_was()
    (small / "filler").unlink()

    # QEMU dies in the middle of the copy. What the guest was told is on its overlay, from which it starts again.
    with restoration.begin(restore_rate_limit=SLOW) as play:
        play.wait_until(lambda: kit.copies(guest))
        told = worker.goes_on()
        guest.kill()
        assert "went off while its disks were copied" in play.end()
    restoration.finish()
    guest.wait_for_agent()
    guest.mount("vda", "/mnt")
    lines = [int(line) for line in guest.sh("cat /mnt/log").split()]
    assert lines[:told] == list(range(1, told + 1))
    assert {name: digest for name, digest in guest.checksums("/mnt").items() if name in files} == files
    assert kit.sources(guest) == kit.sources(guest, "--inactive") == {place["name"]: place["dest"] for place in places}
    assert restoration.repository_is_as_it_was()
    assert restoration.nothing_is_left()

    # The next backup knows that both are other disks.
    virsh("suspend", guest.name)
    after = protection.backup()
    assert after.levels == {"vda": FULL, "vdb": FULL}
    assert f"to '{small}/vda.qcow2'" in after.reason("vda")
    guest.write("vdb", MIB, MIB)
    assert protection.backup().levels == {"vda": INCREMENTAL, "vdb": INCREMENTAL}


def fill(folder: pathlib.Path) -> None:
    """Leave nothing on a file system."""
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(MIB))
