# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The qcow2 writer against QEMU: ``qemu-img check`` finds nothing, and QEMU reads what was written."""

from __future__ import annotations

import json
import os
import random
import threading
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy import ends, qcow2
from ansible_collections.virt.backup.plugins.module_utils._copy.compress import compressor
from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2 import Backing, Qcow2File
from ansible_collections.virt.backup.plugins.module_utils._copy.qemu_file import QemuFile
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER, TABLE
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import without_hypervisor

if t.TYPE_CHECKING:
    from pathlib import Path

GIB = 1024**3

lab_host = without_hypervisor.lab_host


def check(path: Path) -> dict[str, t.Any]:
    result: dict[str, t.Any] = json.loads(nbd.run("qemu-img", "check", "--output=json", "-f", "qcow2", path))
    assert (result["check-errors"], result.get("leaks", 0), result.get("corruptions", 0)) == (0, 0, 0)
    assert result["image-end-offset"] == path.stat().st_size
    return result


def clusters_of(chance: random.Random, count: int) -> bytes:
    """Return clusters of which some compress well, some a little and some not at all."""
    kinds = [lambda: bytes([chance.randrange(1, 256)]) * CLUSTER, lambda: chance.randbytes(CLUSTER)]
    kinds += [lambda: chance.randbytes(CLUSTER // 3).ljust(CLUSTER, b"x")] * 2
    return b"".join(chance.choice(kinds)() for _unused in range(count))


def open_writer(kind: str, fd: int, size: int, backing: Backing, cluster: int) -> ends.End:
    """Return an end: one of QEMU's, or one of ours with a kind of compression and a size of clusters."""
    if kind == "qemu":
        return QemuFile(fd, size, backing.file, backing.format, ends.Means("none", None, 30.0, threading.Event()))
    return Qcow2File(fd, size, backing, kind, compressor(kind), cluster)


@pytest.mark.parametrize(
    ("kind", "cluster"),
    [*((kind, size) for kind in ("none", "zlib", "zstd") for size in (CLUSTER, 4 * CLUSTER, BLOCK)), ("qemu", CLUSTER)],
)
@pytest.mark.parametrize("seed", range(8))
def test_random_images_read_as_written(tmp_path: Path, seed: int, kind: str, cluster: int) -> None:
    chance = random.Random(seed)
    size = chance.choice([CLUSTER, 5 * BLOCK, 9 * BLOCK + 512, 3 * TABLE + 5 * CLUSTER + 1024])
    with_backing = chance.random() < 0.5
    expected = tmp_path / "expected.raw"
    backing = Backing()
    with expected.open("wb") as file:
        file.truncate(size)
        if with_backing:
            file.write(b"\xbb" * min(size, 3 * BLOCK))
    if with_backing:
        nbd.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", expected, tmp_path / "base.qcow2")
        backing = Backing("base.qcow2", "qcow2")
    path = tmp_path / "image.qcow2"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    end = open_writer(kind, fd, size, backing, cluster)
    with expected.open("r+b") as file:
        for offset in sorted(chance.sample(range(0, size, BLOCK), min(40, -(-size // BLOCK)))):
            room = min(BLOCK, size - offset)
            count = -(-room // CLUSTER)
            content = bytearray(clusters_of(chance, count))
            content[room:] = bytes(len(content) - room)
            if chance.random() < 0.3:
                content = bytearray(len(content))
                end.zero(offset, offset + room)
            else:
                end.write(offset, memoryview(content))
            file.seek(offset)
            file.write(content[:room])
            end.settled(offset)
    end.finish()
    end.close()
    os.close(fd)
    check(path)
    nbd.identical(path, expected, other_format="raw")


@pytest.mark.parametrize("compression", ["none", "zlib"])
def test_files_of_many_refcount_blocks(tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """9 GiB of clusters whose bytes are never written: the metadata alone, past several 2 GiB marks of the file."""
    write_all = ends.write_all
    data = memoryview(bytearray(BLOCK))
    packed = [None, b"p" * 60000, b"p" * 5000] if compression == "zlib" else [None]
    turn = iter(range(10**9))

    def without_data(fd: int, content: t.Any, offset: int) -> None:
        if (len(content) == CLUSTER and content is not data and not isinstance(content, memoryview)) or (
            not isinstance(content, memoryview) and content[:1] != b"p"
        ):
            write_all(fd, content, offset)

    monkeypatch.setattr(qcow2, "write_all", without_data)
    path = tmp_path / "image.qcow2"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    compress = (lambda _cluster: packed[next(turn) % len(packed)]) if compression == "zlib" else None
    size = 9 * GIB
    end = Qcow2File(fd, size, compression=compression, compress=compress)
    for offset in range(0, size, BLOCK):
        end.write(offset, data)
        end.settled(offset)
    end.finish()
    os.close(fd)
    assert path.stat().st_size > 4 * GIB
    assert check(path)["allocated-clusters"] == size // CLUSTER


@pytest.mark.parametrize("terabytes", [1, 8])
def test_huge_disks_cost_little(tmp_path: Path, terabytes: int) -> None:
    path = tmp_path / "image.qcow2"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    end = Qcow2File(fd, terabytes * 1024**4)
    end.write(terabytes * 1024**4 - CLUSTER, memoryview(bytearray(b"e" * CLUSTER)))
    end.finish()
    os.close(fd)
    check(path)
    assert path.stat().st_size < BLOCK


def test_a_file_that_was_not_finished_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    end = Qcow2File(fd, 100 * BLOCK)
    end.write(0, memoryview(bytearray(b"e" * BLOCK)))
    end.settled(100 * BLOCK)
    os.close(fd)
    with pytest.raises(AssertionError, match="Image is not in qcow2 format"):
        nbd.run("qemu-img", "info", "-f", "qcow2", path)
