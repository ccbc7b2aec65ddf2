# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One flipped bit in any file of a restore point is found and named, by us and by sha256sum."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._store import stored
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository
from ansible_collections.virt.backup.plugins.module_utils._store.stored import Damage, damaged_files, hash_files
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    UUID,
    Run,
    make_repository,
    raw_disk,
    write_image,
)

pytestmark = pytest.mark.slow

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Point

NAMES = (
    "SHA256SUMS", "checkpoint.xml", "manifest.json", "staging.json", "vda.digests", "vda.json", "vda.qcow2", "vdb.json",
    "vdb.qcow2",
)  # fmt: skip


def publish(folder: pathlib.Path, **changes: t.Any) -> Point:
    """Publish a restore point of two disks, of which only the first has a list of digests."""
    path = str(folder / "repo")
    make_repository(folder / "repo")
    started = Run(path, raw_disk("vda"), raw_disk("vdb"))
    write_image(started.plan["disks"][0], started.plan["checkpoint"], listed=b"the digests", **changes)
    write_image(started.plan["disks"][1], started.plan["checkpoint"], **changes)
    started.present(images=[])
    return read_catalog(open_repository(path), UUID).points[0]


@pytest.fixture
def point(tmp_path: pathlib.Path) -> Point:
    return publish(tmp_path)


def sha256sum(directory: str) -> subprocess.CompletedProcess[str]:
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def flip(path: pathlib.Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def test_a_whole_restore_point(point: Point) -> None:
    assert sorted(os.listdir(point.path)) == list(NAMES)
    assert damaged_files(point.path, point.manifest) == []
    checked = sha256sum(point.path)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize("where", [0, 0.5, 1])
@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit(point: Point, name: str, where: float) -> None:
    path = pathlib.Path(point.path) / name
    flip(path, int(where * (path.stat().st_size - 1)))
    assert [damage.name for damage in damaged_files(point.path, point.manifest)] == [name]
    if name != "SHA256SUMS":
        assert sha256sum(point.path).stdout.startswith(f"{name}: FAILED\n")


def test_every_bit_of_the_sums_counts(point: Point) -> None:
    path = pathlib.Path(point.path) / "SHA256SUMS"
    whole = path.read_bytes()
    for at in range(len(whole)):
        flip(path, at, at % 8)
        assert stored.read_sums(point.path) is None
        path.write_bytes(whole)
    assert stored.read_sums(point.path)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file(point: Point, name: str) -> None:
    (pathlib.Path(point.path) / name).unlink()
    assert [damage.name for damage in damaged_files(point.path, point.manifest)] == [name]


def test_the_sums_are_believed_before_a_damaged_manifest(point: Point) -> None:
    """A manifest whose digest of the image is wrong: the image is not accused."""
    bad = tuple(dataclasses.replace(file, digest="sha256:" + "0" * 64) for file in point.manifest.stored)
    flip(pathlib.Path(point.path) / "manifest.json", 5)
    found = damaged_files(point.path, dataclasses.replace(point.manifest, stored=bad))
    assert found == [Damage("manifest.json", "manifest.json is not the file that was stored: its SHA-256 differs.")]


def test_without_the_sums_the_manifest_tells(point: Point) -> None:
    flip(pathlib.Path(point.path) / "SHA256SUMS", 0)
    flip(pathlib.Path(point.path) / "vda.qcow2", 9)
    assert [one.name for one in damaged_files(point.path, point.manifest)] == ["SHA256SUMS", "vda.qcow2"]


def test_a_restore_point_from_before_there_were_sums(point: Point) -> None:
    (pathlib.Path(point.path) / "SHA256SUMS").unlink()
    old = dataclasses.replace(point.manifest, stored=())
    assert damaged_files(point.path, old) == []
    flip(pathlib.Path(point.path) / "checkpoint.xml", 3)
    assert [one.name for one in damaged_files(point.path, old)] == ["checkpoint.xml"]


def test_an_image_without_a_checksum_is_checked_for_its_length(tmp_path: pathlib.Path) -> None:
    point = publish(tmp_path, digest="")
    image = pathlib.Path(point.path) / "vdb.qcow2"
    assert {file.name: file.digest for file in point.manifest.stored}["vdb.qcow2"] == ""
    assert sha256sum(point.path).returncode == 0
    flip(image, 9)
    assert damaged_files(point.path, point.manifest) == []
    os.truncate(image, 100)
    assert [one.name for one in damaged_files(point.path, point.manifest)] == ["vdb.qcow2"]


def test_a_lost_lock_ends_the_hashing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick comes while threads still read, and what it raises ends them."""
    monkeypatch.setattr(stored, "TICK", 0.0)
    monkeypatch.setattr(stored, "chunks_of", lambda _path: itertools.repeat(b"a file without an end"))

    def lost() -> None:
        raise PermissionError("lost")

    with pytest.raises(PermissionError, match="lost"):
        hash_files([str(tmp_path)], lost)


def test_an_unreadable_file_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        hash_files([str(tmp_path / "none")])
