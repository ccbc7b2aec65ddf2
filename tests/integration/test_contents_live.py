# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Contents while the disk lives: writes during the copy, another size, and a bitmap in very many pieces."""

from __future__ import annotations

import itertools
import pathlib
import subprocess

from integration import virt_kit as kit
from integration.protection import FULL, INCREMENTAL, Protection
from lab.disks import KIB, MIB, Disk
from lab.domains import Domains, LabDomain

EXTENTS_PER_REPLY = 131072
"""How many extents QEMU puts into one answer at most (nbd/server.c, NBD_MAX_BLOCK_STATUS_EXTENTS)."""


class Writer:
    """Overwrites a disk piece by piece, as a busy guest would; each call is one piece."""

    def __init__(self, domain: LabDomain, target: str, pattern: int) -> None:
        self._domain, self._target, self._pattern = domain, target, pattern
        self._offsets = itertools.cycle(range(0, domain.disks[target].disk.size - MIB, 2 * MIB - 20 * KIB))
        self.pieces = 0

    def __call__(self) -> None:
        offset = next(self._offsets)
        zeroes = f"write -z -u {offset + 512 * KIB} 200k"
        self._domain.qemu_io(self._target, f"write -P {self._pattern:#x} {offset} 300k", zeroes)
        self.pieces += 1


def test_writes_during_the_copy_belong_to_the_next_restore_point(domains: Domains, workdir: pathlib.Path) -> None:
    domain = domains(Disk("vda", size=24 * MIB))
    protection = Protection(domain, workdir / "repository")
    for number in range(3):
        # What the copy takes five seconds for, whatever the writer of the round before came to.
        domain.write("vda", 0, 20 * MIB, pattern=number + 1)
        writer = Writer(domain, "vda", 0x10 + number)
        slowly = {"rate_limit": 4 * MIB, "connections": 1}
        point = protection.backup(meanwhile=writer, extract=slowly)
        assert writer.pieces >= 3
        assert point.levels == {"vda": INCREMENTAL if number else FULL}
    protection.backup()
    protection.check_all()


def test_a_resized_disk_is_full_once(domains: Domains, workdir: pathlib.Path) -> None:
    domain = domains(Disk("vda", size=8 * MIB), Disk("vdb", size=8 * MIB))
    protection = Protection(domain, workdir / "repository")
    domain.write("vda", 0, 3 * MIB)
    protection.backup()
    domain.resize("vda", 12 * MIB + 512)
    domain.write("vda", 12 * MIB, 512, pattern=0x77)
    resized = protection.backup()
    assert resized.levels == {"vda": FULL, "vdb": INCREMENTAL}
    assert resized.reason("vda") == f"the disk was resized from {8 * MIB} to {12 * MIB + 512} bytes"
    domain.write("vda", 10 * MIB, MIB, pattern=0x78)
    assert protection.backup().levels == {"vda": INCREMENTAL, "vdb": INCREMENTAL}
    protection.check_all()


def test_qcow2_on_a_device_or_behind_a_network_is_incremental_and_raw_is_full(
    domains: Domains, workdir: pathlib.Path
) -> None:
    block, network = Disk("vdb", size=8 * MIB, kind="block"), Disk("vdc", size=8 * MIB, kind="nbd")
    domain = domains(Disk("vda", size=8 * MIB, format="raw"), block, network)
    protection = Protection(domain, workdir / "repository")
    for number in range(3):
        for target in ("vda", "vdb", "vdc"):
            domain.write(target, number * MIB, 3 * MIB, pattern=0x20 + number)
            domain.discard(target, number * MIB + 64 * KIB, 64 * KIB)
        point = protection.backup()
        expected = INCREMENTAL if number else FULL
        assert point.levels == {"vda": FULL, "vdb": expected, "vdc": expected}
        assert "raw" in point.reason("vda")
    protection.check_all()


def test_more_dirty_extents_than_one_reply_holds(domains: Domains, workdir: pathlib.Path) -> None:
    """Every other 4 KiB cluster is dirty; the allocation is in other and fewer pieces, so the two never keep step.

    A third of a million writes through the monitor would take half an hour: they are made with qemu-io while the
    domain is off, which records them in the same bitmaps.
    """
    pairs = EXTENTS_PER_REPLY + 1000
    domain = domains(Disk("vda", size=pairs * 8 * KIB + 12 * KIB, cluster_size=4 * KIB))
    protection = Protection(domain, workdir / "repository")
    data = [f"write -P {1 + number % 250} {number * 40 * MIB} 1M" for number in range(pairs * 8 // KIB // 40)]
    domain.qemu_io("vda", *data, "flush")
    protection.backup()

    domain.destroy()
    zeroes = [f"write -z {number * 8 * KIB} 4k" for number in range(pairs)]
    patterns = [f"write -P {1 + number % 250} {number * 8 * KIB} 2k" for number in range(0, pairs, 1021)]
    qemu_io(domain.disks["vda"].image, *zeroes, *patterns)
    domain.start()

    run = protection.stage()
    protection.start(run)
    assert len(kit.dirty_map(run.job, "vda")) > EXTENTS_PER_REPLY
    protection.copy(run)
    protection.stop()
    point = protection.publish(run)
    assert point.levels == {"vda": INCREMENTAL}
    protection.check_all()


def qemu_io(image: pathlib.Path, *commands: str) -> None:
    """Run very many qemu-io commands on an image that nobody has open."""
    argv = ["qemu-io", "--cache", "unsafe", "-f", "qcow2", str(image)]
    done = subprocess.run(argv, input="\n".join(commands), text=True, capture_output=True, timeout=100, check=True)
    assert done.stdout.count("wrote") == len(commands)
