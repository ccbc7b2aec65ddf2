# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that a copy makes, byte by byte, and how they and their records get their names."""

from __future__ import annotations

import datetime
import errno
import json
import os
import struct
import threading
import time
import typing as t
import zlib

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy import compress, qcow2_format
from ansible_collections.virt.backup.plugins.module_utils._copy.publish import (
    Attributes,
    FileDraft,
    digests_path,
    record_path,
)
from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2 import Backing, Qcow2File
from ansible_collections.virt.backup.plugins.module_utils._copy.rate import RateLimit
from ansible_collections.virt.backup.plugins.module_utils._copy.raw import RawFile
from ansible_collections.virt.backup.plugins.module_utils._copy.status import Progress, StatusFile
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import Record
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level

if t.TYPE_CHECKING:
    from pathlib import Path

ATTRIBUTES = Attributes(-1, -1, 0o640)


@pytest.fixture
def fd(tmp_path: Path) -> t.Iterator[int]:
    """Return a new file."""
    number = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT)
    yield number
    os.close(number)


def test_every_field_of_the_header() -> None:
    first = qcow2_format.header(
        size=5 * 512,
        l1_offset=0x30000,
        l1_entries=7,
        refcount_offset=0x10000,
        refcount_clusters=2,
        backing_file="../1/vda.qcow2",
        backing_format="qcow2",
        compression="zstd",
    )
    assert len(first) == CLUSTER
    names = (
        "magic version backing_offset backing_size cluster_bits size crypt l1_entries l1_offset refcount_offset "
        "refcount_clusters snapshots snapshots_offset incompatible compatible autoclear refcount_order header_length "
        "compression"
    )
    fields = dict(zip(names.split(), struct.unpack_from(">4sIQIIQIIQQIIQQQQIIB", first)))
    assert fields == {
        "magic": b"QFI\xfb",
        "version": 3,
        "backing_offset": 112 + 16 + 8,
        "backing_size": 14,
        "cluster_bits": 16,
        "size": 2560,
        "crypt": 0,
        "l1_entries": 7,
        "l1_offset": 0x30000,
        "refcount_offset": 0x10000,
        "refcount_clusters": 2,
        "snapshots": 0,
        "snapshots_offset": 0,
        "incompatible": 8,
        "compatible": 0,
        "autoclear": 0,
        "refcount_order": 4,
        "header_length": 112,
        "compression": 1,
    }
    assert struct.unpack_from(">II8s", first, 112) == (0xE2792ACA, 5, b"qcow2\0\0\0")
    assert struct.unpack_from(">II", first, 128) == (0, 0)
    assert first[136:150] == b"../1/vda.qcow2"
    assert not any(first[150:])


def test_zlib_sets_no_incompatible_feature_and_no_backing_is_no_offset() -> None:
    first = qcow2_format.header(size=512, l1_offset=1, l1_entries=1, refcount_offset=1, refcount_clusters=1)
    assert struct.unpack_from(">QI", first, 8) == (0, 0)
    assert struct.unpack_from(">Q", first, 72) == (0,)
    assert first[104] == 0


@pytest.mark.parametrize(
    ("host", "length", "more_sectors"), [(0x50000, 512, 0), (0x50000, 513, 1), (0x501FF, 2, 1), (0x501FF, 1, 0)]
)
def test_compressed_entries_count_the_sectors_after_the_first(host: int, length: int, more_sectors: int) -> None:
    entry = qcow2_format.compressed_entry(host, length)
    assert entry >> 62 == 1
    assert entry & (1 << 54) - 1 == host
    assert entry >> 54 & 0xFF == more_sectors


def test_the_header_is_written_last(fd: int) -> None:
    end = Qcow2File(fd, CLUSTER, Backing("base.qcow2", "qcow2"))
    end.write(0, memoryview(b"x" * CLUSTER))
    end.settled(CLUSTER)
    assert os.pread(fd, 4, 0) == bytes(4)
    end.finish()
    assert os.pread(fd, 4, 0) == b"QFI\xfb"
    assert os.fstat(fd).st_size % CLUSTER == 0


def test_tables_are_forgotten_when_they_are_settled(fd: int) -> None:
    """Memory is bounded by what is in flight, not by the disk."""
    table = 8192 * CLUSTER
    end = Qcow2File(fd, 10 * table)
    for number in range(10):
        end.zero(number * table, (number + 1) * table)
        end.settled((number + 1) * table)
        assert len(end._tables) == 0


def test_raw_is_sparse_and_exact(fd: int) -> None:
    end = RawFile(fd, 3 * CLUSTER + 5)
    end.write(3 * CLUSTER, memoryview(b"x" * CLUSTER))
    end.zero(0, CLUSTER)
    end.settled(3 * CLUSTER)
    end.finish()
    assert os.fstat(fd).st_size == 3 * CLUSTER + 5
    assert os.fstat(fd).st_blocks * 512 <= CLUSTER
    assert os.pread(fd, 100, 3 * CLUSTER) == b"xxxxx"


def test_zlib_streams_are_raw_with_a_small_window() -> None:
    packer = compress.compressor("zlib")
    assert packer is not None
    content = b"hello " * (CLUSTER // 6 + 1)
    packed = packer(memoryview(content)[:CLUSTER])
    assert packed is not None
    assert zlib.decompressobj(-12).decompress(packed) == content[:CLUSTER]


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_what_does_not_become_smaller_is_left_alone(kind: str) -> None:
    packer = compress.compressor(kind)
    assert packer is not None
    assert packer(memoryview(bytearray(os.urandom(CLUSTER)))) is None
    assert len(packer(memoryview(bytearray(CLUSTER))) or b"") in range(1, 200)


def test_none_has_no_compressor() -> None:
    assert compress.compressor("none") is None


def test_a_machine_without_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress, "ZSTD_LIBRARY", "libnone.so.1")
    with pytest.raises(InputError, match=r"^compression: 'zstd' needs libnone\.so\.1, .*; install libzstd1"):
        compress.compressor("zstd")


def test_the_rate_limit_counts_what_was_granted() -> None:
    limit, cancel = RateLimit(1000), threading.Event()
    began = time.monotonic()
    for _unused in range(4):
        limit.wait(50, cancel)
    assert 0.14 < time.monotonic() - began < 1
    cancel.set()
    limit.wait(10**9, cancel)
    limit.wait(10**9, cancel)
    RateLimit(0).wait(10**12, threading.Event())


def record() -> Record:
    numbers: dict[str, t.Any] = dict.fromkeys(
        ("size", "bytes_copied", "bytes_zeroed", "bytes_stored", "file_bytes", "extents"), 0
    )
    words: dict[str, t.Any] = dict.fromkeys(
        ("source_id", "export", "bitmap", "backing_file", "backing_format", "digest"), ""
    )
    return Record(**words, **numbers, level=Level.FULL, format="qcow2", compression="none", seconds=0.0)


def test_a_record_survives_json() -> None:
    assert Record.from_dict(json.loads(json.dumps(record().as_dict()))) == record()


def test_a_record_of_a_newer_minor_kind_is_read_and_of_another_format_not() -> None:
    assert Record.from_dict({**record().as_dict(), "unknown": 1}) == record()
    with pytest.raises(ValueError, match="record_format"):
        Record.from_dict({**record().as_dict(), "record_format": 2})


@pytest.mark.parametrize(("dest", "beside"), [("/x/vda.qcow2", "/x/vda.json"), ("/x.y/vda", "/x.y/vda.json")])
def test_names_beside(dest: str, beside: str) -> None:
    assert record_path(dest) == beside
    assert digests_path(dest) == beside.replace(".json", ".digests")


def steps_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note renames and removals, in order, by the last part of the name that changes."""
    steps: list[str] = []
    rename, unlink = os.rename, os.unlink

    def noted_rename(old: str, new: str) -> None:
        steps.append(f"rename {os.path.basename(new)}")
        rename(old, new)

    def noted_unlink(path: str) -> None:
        unlink(path)
        steps.append(f"unlink {os.path.basename(path)}")

    monkeypatch.setattr(os, "rename", noted_rename)
    monkeypatch.setattr(os, "unlink", noted_unlink)
    return steps


def publish(folder: Path, *, digests: bool) -> None:
    draft = FileDraft(str(folder / "a.qcow2"), ATTRIBUTES)
    if digests:
        draft.open_digests().write(b"new")
    draft.write_record(record())
    draft.publish()
    draft.close()


@pytest.mark.parametrize("digests", [True, False])
def test_a_new_image_gets_its_record_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digests: bool) -> None:
    steps = steps_of(monkeypatch)
    publish(tmp_path, digests=digests)
    middle = ["a.digests"] if digests else []
    assert steps == [f"rename {name}" for name in ("a.json", *middle, "a.qcow2")]
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "a.qcow2", *middle}
    assert {path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()} == {0o640}
    assert [path.read_bytes() for path in tmp_path.glob("*.digests")] == [b"new"] * digests


def test_digests_without_an_image_are_not_taken_for_the_new_one_s(tmp_path: Path) -> None:
    (tmp_path / "a.digests").write_text("old")
    publish(tmp_path, digests=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.qcow2"]


@pytest.mark.parametrize("digests", [True, False])
def test_a_replaced_image_loses_its_record_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digests: bool
) -> None:
    for name in ("a.qcow2", "a.json", "a.digests"):
        (tmp_path / name).write_text("old")
    steps = steps_of(monkeypatch)
    publish(tmp_path, digests=digests)
    second = "rename a.digests" if digests else "unlink a.digests"
    assert steps == ["unlink a.json", second, "rename a.qcow2", "rename a.json"]
    assert [path.read_bytes() for path in tmp_path.glob("*.digests")] == [b"new"] * digests


def test_an_unpublished_draft_leaves_nothing(tmp_path: Path) -> None:
    draft = FileDraft(str(tmp_path / "a.qcow2"), ATTRIBUTES)
    assert [path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()] == [0o640]
    draft.open_digests()
    draft.write_record(record())
    draft.close()
    draft.close()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_can_not_be_set_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(PermissionError):
        FileDraft(str(tmp_path / "a.qcow2"), ATTRIBUTES)
    assert list(tmp_path.iterdir()) == []


def test_the_status_file_is_replaced_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = tmp_path / "status.json"
    file = StatusFile(str(path))
    for position, at in enumerate((100.0, 100.5, 101.0, 101.9)):
        now = at
        file.write([Progress("/a", "copying", position, 10, 0)])
    content = json.loads(path.read_text())
    assert content["images"] == [
        {"dest": "/a", "state": "copying", "bytes_done": 2, "bytes_total": 10, "bytes_copied": 0, "rate": 0}
    ]
    assert content["format"] == 1
    assert datetime.datetime.fromisoformat(content["updated"]).utcoffset() == datetime.timedelta(0)
    file.write([], now=True)
    assert json.loads(path.read_text())["images"] == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]


def test_the_rate_is_that_of_the_last_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    path = tmp_path / "status.json"
    file = StatusFile(str(path))
    told = []
    for second in range(31):
        now = float(second)
        fast = 100 * min(second, 20)
        file.write([Progress("/a", "copying", fast, 4000, fast), Progress("/b", "copying", second, 50, second)])
        content = json.loads(path.read_text())
        told.append((*(image["rate"] for image in content["images"]), content["total"]["rate"]))
    assert (told[0], told[1], told[20]) == ((0, 0, 0), (100, 1, 101), (100, 1, 101))
    assert (told[25], told[30]) == ((50, 1, 51), (0, 1, 1))
    assert content["total"] == {"bytes_done": 2030, "bytes_total": 4050, "bytes_copied": 2030, "rate": 1}


def test_no_status_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    StatusFile("").write([], now=True)
    assert list(tmp_path.iterdir()) == []


def test_a_status_that_cannot_be_written_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    StatusFile(str(tmp_path / "status.json")).write([], now=True)
    assert list(tmp_path.iterdir()) == []
