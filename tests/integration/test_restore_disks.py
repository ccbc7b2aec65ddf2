# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks out of restore points that were made on real libvirt: what comes back is what was there."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from integration.restore_kit import ODD, Vault, holds
from lab.disks import MIB, Disk, attach_loop
from lab.domains import IMAGES, Domains
from lab.tools import call


@pytest.fixture(scope="module")
def vault(lab_host: str) -> t.Iterator[Vault]:
    domains, folder = Domains(), IMAGES / "restore-vault"
    folder.mkdir()
    try:
        made = Vault(domains(Disk("vda", size=8 * MIB), Disk("vdb", size=ODD, format="qcow2")), folder)
        made.fill()
        yield made
    finally:
        domains.close()
        call("rm", "-rf", folder)


@pytest.fixture
def out(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("number", range(4))
def test_each_kind_of_restore_point(vault: Vault, out: pathlib.Path, number: int) -> None:
    """Check, run, check again, run again; every disk; the repository is left as it was, to the byte and the time."""
    point = vault.points[number]
    before = vault.look()
    options = {"id": point.id, "dest_dir": str(out)}
    results = [vault.restore(check=check, **options) for check in (True, False, True, False)]
    assert [result["changed"] for result in results] == [True, True, False, False]
    ran = results[1]
    assert ran["restore_point"]["id"] == point.id
    assert [disk["name"] for disk in ran["disks"]] == sorted(point.levels)
    for disk in ran["disks"]:
        holds(point, disk["name"], disk["dest"], "qcow2")
        assert disk["content_verified"], disk
        assert len(disk["chain"]) == (1 if disk["name"] == "vdc" else number + 1)
    for checked, made in zip(results[0]["disks"], ran["disks"]):
        assert checked["bytes_copied"] >= made["bytes_copied"] > 0
    assert vault.look() == before
    assert {path.name for path in out.iterdir()} == {
        name for disk in point.levels for name in (f"{disk}.qcow2", f".{disk}.qcow2.restored.json")
    }
