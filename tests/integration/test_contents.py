# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a chain shows is what the disk held in its moment, whatever was done to the disk in between."""

from __future__ import annotations

import shutil
import typing as t

import pytest
from integration.protection import FULL, INCREMENTAL, Protection
from lab.disks import KIB, MIB, Disk, create_image
from lab.domains import IMAGES, Domains, LabDomain
from lab.tools import call

SHAPES = {
    "vda": "64 KiB clusters",
    "vdb": "a size that is 512 bytes more than whole clusters",
    "vdc": "a size that ends inside of a cluster",
    "vdd": "a backing file of its own",
    "vde": "4 KiB clusters",
}


@pytest.fixture(scope="module")
def protection() -> t.Iterator[Protection]:
    """Return a domain with disks of every shape, already backed up in full, that the tests of this file go on with."""
    domains, folder = Domains(), IMAGES / "contents"
    folder.mkdir()
    try:
        golden = folder / "golden.qcow2"
        create_image(Disk("golden", size=8 * MIB), golden)
        call("qemu-io", "-f", "qcow2", "-c", "write -P 0x60 0 6M", golden)
        domain = domains(
            Disk("vda", size=10 * MIB),
            Disk("vdb", size=10 * MIB + 512),
            Disk("vdc", size=10 * MIB + 33 * KIB),
            Disk("vdd", size=10 * MIB, backing=golden),
            Disk("vde", size=10 * MIB, cluster_size=4 * KIB),
        )
        protection = Protection(domain, folder / "repository")
        for target in SHAPES:
            domain.write(target, 0, 5 * MIB, pattern=0x10)
            domain.write(target, domain.disks[target].disk.size - 512, 512, pattern=0x11)
        point = protection.backup()
        assert point.levels == dict.fromkeys(SHAPES, FULL)
        yield protection
    finally:
        domains.close()
        shutil.rmtree(folder)


def new_data(domain: LabDomain, target: str) -> None:
    domain.write(target, 7 * MIB + 5 * KIB, 100 * KIB, pattern=0x21)


def overwritten_data(domain: LabDomain, target: str) -> None:
    domain.write(target, MIB - 512, 1024, pattern=0x31)
    domain.write(target, 2 * MIB, 64 * KIB, pattern=0x32)


def written_zeroes(domain: LabDomain, target: str) -> None:
    domain.zero(target, MIB, 128 * KIB)
    domain.zero(target, 3 * MIB + 512, 512)


def unmapped_zeroes(domain: LabDomain, target: str) -> None:
    domain.zero(target, 2 * MIB, 256 * KIB, unmap=True)


def trimmed_ranges(domain: LabDomain, target: str) -> None:
    domain.write(target, 4 * MIB, 512 * KIB, pattern=0x41)
    domain.discard(target, 4 * MIB, 256 * KIB)
    domain.discard(target, 3 * MIB + 4 * KIB, 64 * KIB)


def the_end(domain: LabDomain, target: str) -> None:
    """The last sector as zeroes, and data up to it."""
    size = domain.disks[target].disk.size
    domain.write(target, size - 2048, 1536, pattern=0x51)
    domain.zero(target, size - 512, 512)


def a_mixture(domain: LabDomain, target: str) -> None:
    commands = []
    for number, offset in enumerate((0, 3 * MIB, 8 * MIB)):
        commands.append(f"write -P {0x60 + number} {offset + number * 4 * KIB} 20k")
        commands.append(f"discard {offset + 128 * KIB} 64k")
        commands.append(f"write -z {'-u' if number % 2 else ''} {offset + 192 * KIB + 512} 70k")
        commands.append(f"write -P {0x70 + number} {offset + 160 * KIB} 512")
    domain.qemu_io(target, *commands, "flush")


def nothing(domain: LabDomain, target: str) -> None:
    """No change at all: an increment without data."""


CHANGES: dict[t.Callable[[LabDomain, str], None], dict[str, t.Any]] = {
    new_data: {},
    overwritten_data: {"compression": "zstd"},
    written_zeroes: {"checksum": "none"},
    unmapped_zeroes: {"compression": "zlib"},
    trimmed_ranges: {"connections": 1},
    the_end: {},
    a_mixture: {"compression": "zstd", "connections": 2},
    nothing: {},
}
"""What is done to the disks, and with which options it is then copied."""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_increment_holds_every_kind_of_change(
    protection: Protection, change: t.Callable[[LabDomain, str], None]
) -> None:
    for target in SHAPES:
        change(protection.domain, target)
    point = protection.backup(extract=CHANGES[change])
    assert point.levels == dict.fromkeys(SHAPES, INCREMENTAL)


def test_older_restore_points_are_what_they_were(protection: Protection) -> None:
    for target in SHAPES:
        protection.domain.zero(target, 0, 5 * MIB)
    protection.backup()
    protection.check_all()
