# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore within a file system that can share blocks takes no room, and shares nothing that is written later."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from integration.ends_kit import loop_device
from integration.protection import Point
from integration.restore_kit import Vault, holds
from lab.disks import KIB, MIB, Disk
from lab.domains import IMAGES, Domains
from lab.tools import call

DATA = 24 * MIB
ODD = 9 * MIB + 37 * 512


@pytest.fixture(scope="module")
def xfs(lab_host: str) -> t.Iterator[pathlib.Path]:
    place, backing = IMAGES / "reflink", IMAGES / "reflink.raw"
    place.mkdir()
    with backing.open("wb") as file:
        file.truncate(512 * MIB)
    try:
        with loop_device(backing) as device:
            call("mkfs.xfs", "-q", "-m", "reflink=1", device)
            call("mount", device, place)
            try:
                yield place
            finally:
                call("umount", place)
    finally:
        place.rmdir()
        backing.unlink()


@pytest.fixture(scope="module")
def vault(xfs: pathlib.Path) -> t.Iterator[Vault]:
    """Return two restore points: the increment changes single clusters, so that a restore takes turns in the images."""
    domains = Domains()
    try:
        made = Vault(domains(Disk("vda", size=64 * MIB), Disk("vdb", size=ODD)), xfs)
        made.domain.write("vda", MIB, DATA, pattern=0x21)
        made.domain.write("vdb", ODD - 3 * MIB - 512, 3 * MIB + 512, pattern=0x22)
        made.points.append(made.protection.backup())
        for cluster in range(16, 64, 3):
            made.domain.write("vda", cluster * 64 * KIB, 64 * KIB, pattern=cluster)
        made.change(1, "vdb")
        made.points.append(made.protection.backup())
        yield made
    finally:
        domains.close()


def free(place: pathlib.Path) -> int:
    os.sync()
    space = os.statvfs(place)
    return space.f_bfree * space.f_frsize


def restored(vault: Vault, point: Point, folder: pathlib.Path, image_format: str, **options: t.Any) -> list[str]:
    folder.mkdir()
    disks = [
        {"name": name, "dest": str(folder / f"{name}.{image_format}"), "format": image_format}
        for name in ("vda", "vdb")
    ]
    result = vault.restore(id=point.id, disks=disks, **options)
    for entry in result["disks"]:
        holds(point, entry["name"], entry["dest"], image_format)
        assert entry["content_verified"] is (options.get("checksum") != "none")
    return [entry["dest"] for entry in result["disks"]]


@pytest.mark.parametrize("checksum", ["sha256", "none"])
@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_a_restore_beside_the_repository_takes_no_room(
    vault: Vault, xfs: pathlib.Path, image_format: str, checksum: str
) -> None:
    before, repository = free(xfs), vault.look()
    dests = restored(vault, vault.points[1], xfs / f"{image_format}-{checksum}", image_format, checksum=checksum)
    assert before - free(xfs) < DATA // 4
    call("qemu-io", "-f", image_format, "-c", f"write -P 0x77 {MIB} 2M", dests[0])
    assert vault.look() == repository


def test_elsewhere_it_is_copied(vault: Vault, tmp_path: pathlib.Path) -> None:
    """The file system of the target shares nothing with that of the repository: the first try tells."""
    dests = restored(vault, vault.points[1], tmp_path / "out", "raw", checksum="none")
    assert os.stat(dests[0]).st_blocks * 512 >= DATA


def test_larger_clusters_and_the_page_cache_left_alone(vault: Vault, xfs: pathlib.Path) -> None:
    """A cluster of the new file may be made of parts of which some are holes: those are written."""
    (xfs / "other").mkdir()
    disks = [{"name": "vda", "dest": str(xfs / "other/a.qcow2"), "cluster_size": MIB}]
    vault.restore(id=vault.points[1].id, disks=disks, checksum="none")
    holds(vault.points[1], "vda", xfs / "other/a.qcow2", "qcow2")
    vault.restore(id=vault.points[0].id, disks=disks, overwrite=True, direct=True)
    holds(vault.points[0], "vda", xfs / "other/a.qcow2", "qcow2")
