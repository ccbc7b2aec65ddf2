# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random chains: sizes, clusters, granularities, writes, zeroes and trims, several increments; and two oracles."""

from __future__ import annotations

import random
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd

if t.TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
SIZES = (512, 65536, 70000 // 512 * 512, 3 * MIB + 33 * 1024, 20 * MIB, 64 * MIB + 512)


@pytest.fixture(scope="session")
def lab_host() -> str:
    """No hypervisor is needed here: these tests run inside the lab and outside of it."""
    return ""


def commands(chance: random.Random, size: int, count: int) -> list[str]:
    """Return writes, writes of zeroes by data and by command, and trims, anywhere, of any length, often overlapping."""
    made = []
    for _unused in range(count):
        start = chance.randrange(0, size, 512)
        length = min(chance.choice([512, 4096, 65536, 70144, 300032, 2 * MIB]), size - start)
        verb = chance.choice(
            ["write -P 0", "write -z", "write -z -u", "discard"] + [f"write -P {chance.randrange(1, 256)}"] * 4
        )
        made.append(f"{verb} {start} {length}")
    return made


@pytest.mark.parametrize("seed", range(30))
def test_random_chain(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    size = chance.choice(SIZES)
    disk = nbd.create(tmp_path / "disk.qcow2", size, "-o", f"cluster_size={chance.choice(['512', '4k', '64k', '1M'])}")
    nbd.qemu_io(disk, *commands(chance, size, chance.randrange(1, 30)))
    images = [tmp_path / "0.qcow2"]
    options: dict[str, t.Any] = {
        "compression": chance.choice(["none", "zstd", "zlib"]),
        "connections": chance.choice([1, 2, 4]),
    }
    with nbd.qemu_nbd(disk, "-r") as server:
        extract(ExtractRequest(images=(ImageRequest(server.uri(), str(images[0])),), **options), check=False)
    nbd.identical(images[0], disk)
    for number in range(1, 4):
        bitmap, image, oracle = f"b{number}", tmp_path / f"{number}.qcow2", tmp_path / f"oracle{number}.qcow2"
        nbd.add_bitmap(disk, bitmap, chance.choice([512, 4096, 65536, MIB]))
        nbd.qemu_io(disk, *commands(chance, size, chance.randrange(0, 20)) or ["read 0 512"])
        with nbd.qemu_nbd(disk, "-r", "-B", bitmap) as server:
            asked = ImageRequest(server.uri(), str(image), bitmap=bitmap, backing_file=images[-1].name)
            result = extract(ExtractRequest(images=(asked,), **options), check=False).result["images"][0]
            nbd.increment_by_qemu(server, bitmap, images[-1], oracle)
        nbd.identical(image, disk)
        nbd.identical(image, oracle)
        assert result["digest"] == nbd.digest_by_qemu(image, incremental=True)
        images.append(image)
