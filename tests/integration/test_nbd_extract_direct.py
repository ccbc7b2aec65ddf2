# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Past the page cache, on a real ext4: the same images, nothing of them in the cache, and a refusal where it can't be."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
import random
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run import extract as use_case
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor
from ansible_collections.virt.backup.tests.integration.as_nobody import as_nobody, open_folder
from ansible_collections.virt.backup.tests.integration.ends_kit import loop_device

KIB = 1024
MIB = 1024 * KIB

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host


@pytest.fixture
def ext4(tmp_path: Path) -> t.Iterator[Path]:
    """Return a file system with 160 MiB, whatever the tests' own folder lies on."""
    device = tmp_path / "ext4.raw"
    with device.open("wb") as file:
        file.truncate(160 * MIB)
    nbd.run("mke2fs", "-q", "-t", "ext4", device)
    yield from mounted(tmp_path / "ext4", "-t", "ext4", "-o", "loop", device)


@pytest.fixture
def ramfs(tmp_path: Path) -> t.Iterator[Path]:
    """Return a file system that has no direct writes. (Nor has tmpfs before Linux 6.6.)"""
    yield from mounted(tmp_path / "ramfs", "-t", "ramfs", "ramfs")


def mounted(folder: Path, *words: str | Path) -> t.Iterator[Path]:
    folder.mkdir()
    nbd.run("mount", *words, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def copy(image: ImageRequest, *, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
    request = ExtractRequest(images=(image,), **{"direct": True, **options})
    return t.cast("dict[str, t.Any]", use_case.extract(request, check=check).result["images"][0])


def cached(path: Path) -> float:
    """Return which part of a file's pages is in the page cache, by ``mincore(2)``."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    size = path.stat().st_size
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    # Writable, as its address is asked for by way of a buffer; private, so that nothing reaches the file.
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as area,
    ):
        window = ctypes.c_char.from_buffer(area)
        failed = library.mincore(ctypes.addressof(window), size, pages)
        del window
    assert not failed, ctypes.get_errno()
    return sum(page & 1 for page in pages.raw[: len(pages)]) / len(pages)


def make_source(path: Path, size: int) -> Path:
    """Make a raw disk of pieces that compress well, somewhat and not at all, with holes between."""
    chance, low = random.Random(7), bytes(number % 64 for number in range(256))
    with path.open("wb") as file:
        file.truncate(size)
        for number, start in enumerate(range(0, size, 320 * KIB)):
            file.seek(start)
            noise = chance.randbytes(192 * KIB)
            piece = (noise, noise.translate(low), bytes(range(1, 193)) * KIB)[number % 3]
            file.write(piece[: size - start])
        file.seek(size - 1)
        file.write(b"\xee")
    return path


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize(
    ("image_format", "compression"), [("qcow2", "none"), ("qcow2", "zstd"), ("qcow2", "zlib"), ("raw", "none")]
)
@pytest.mark.parametrize("size", [1, 4096, 3 * MIB + 65, 20 * MIB + 4097])
def test_it_shows_what_was_served(
    tmp_path: Path, ext4: Path, size: int, image_format: str, compression: str, connections: int
) -> None:
    source, dest = make_source(tmp_path / "source.raw", size), ext4 / "image"
    with nbd.nbdkit(tmp_path, "file", source) as server:
        image = ImageRequest(server.uri(), str(dest), format=image_format)
        result = copy(image, compression=compression, connections=connections)
    assert result["size"] == size
    nbd.identical(dest, source, image_format, "raw")
    assert result["digest"] == nbd.digest_by_qemu(dest, incremental=False, image_format=image_format)
    assert image_format != "raw" or dest.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("cluster_size", [128 * KIB, MIB])
def test_large_clusters(tmp_path: Path, ext4: Path, cluster_size: int, compression: str) -> None:
    """An increment on another cluster size, with an odd end: what a cluster holds is then written in larger pieces."""
    disk = nbd.create(tmp_path / "disk.qcow2", 20 * MIB + 33 * KIB)
    nbd.qemu_io(disk, "write -P 1 0 9M", "write -P 2 20M 33k")
    with nbd.qemu_nbd(disk, "-r") as server:
        image = ImageRequest(server.uri(), str(ext4 / "0.qcow2"), cluster_size=cluster_size)
        copy(image, compression=compression)
    assert compression != "none" or cached(ext4 / "0.qcow2") < 0.1
    nbd.identical(ext4 / "0.qcow2", disk)
    nbd.add_bitmap(disk, "b")
    nbd.qemu_io(disk, "write -P 3 1M 100k", "write -z 2M 1M", "discard 4M 1M", "write -P 4 20M 512")
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        image = ImageRequest(server.uri(), str(ext4 / "1.qcow2"), bitmap="b", backing_file="0.qcow2")
        copy(image, compression=compression)
    nbd.identical(ext4 / "1.qcow2", disk)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_chain(tmp_path: Path, ext4: Path, compression: str) -> None:
    disk = nbd.create(tmp_path / "disk.qcow2", 40 * MIB + 33 * KIB)
    nbd.qemu_io(disk, "write -P 1 0 9M", "write -P 2 40M 33k")
    with nbd.qemu_nbd(disk, "-r") as server:
        copy(ImageRequest(server.uri(), str(ext4 / "0.qcow2")), compression=compression)
    nbd.add_bitmap(disk, "b")
    nbd.qemu_io(disk, "write -P 3 1M 100k", "write -z 2M 1M", "discard 4M 1M", "write -P 4 40M 512")
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        image = ImageRequest(server.uri(), str(ext4 / "1.qcow2"), bitmap="b", backing_file="0.qcow2")
        assert copy(image, compression=compression)["level"] == "incremental"
    nbd.identical(ext4 / "1.qcow2", disk)
    assert nbd.root_of(ext4 / "0.qcow2", ext4 / "1.qcow2") == nbd.digest_by_qemu(ext4 / "1.qcow2", incremental=False)


@pytest.mark.parametrize(("image_format", "compression"), [("qcow2", "none"), ("qcow2", "zstd"), ("raw", "none")])
def test_the_page_cache_stays_free_of_the_image(
    tmp_path: Path, ext4: Path, monkeypatch: pytest.MonkeyPatch, image_format: str, compression: str
) -> None:
    """A buffered copy of the same disk stays in the cache, which shows that the measure measures.

    Without compression nothing is let go of here, so what is not in the cache was never there.
    """
    if compression == "none":
        monkeypatch.setattr(os, "posix_fadvise", lambda *_words: None)
    source = make_source(tmp_path / "source.raw", 60 * MIB + 65)
    parts = {}
    with nbd.nbdkit(tmp_path, "file", source) as server:
        for direct in (True, False):
            dest = ext4 / f"{direct}"
            copy(ImageRequest(server.uri(), str(dest), format=image_format), compression=compression, direct=direct)
            parts[direct] = cached(dest)
    assert parts[True] < 0.1
    if compression == "none":  # else the order in which clusters are packed decides
        direct, buffered = ((ext4 / name).stat() for name in ("True", "False"))
        assert direct.st_size == buffered.st_size
        assert abs(direct.st_blocks - buffered.st_blocks) * 512 <= MIB  # room that was taken ahead is given back
    assert parts[False] > (0.7 if image_format == "qcow2" else 0.5)  # of the raw file, two fifths are holes
    nbd.identical(ext4 / "True", source, image_format, "raw")


def test_a_mode_that_closes_the_image_to_its_maker(tmp_path: Path) -> None:
    """The second descriptor is opened by name, which a user who is not root may not do with a mode of 0400."""
    mount = contextlib.contextmanager(mounted)
    with open_folder() as name:
        folder, device = Path(name), Path(name, "ext4.raw")
        nbd.create(device, 32 * MIB, image_format="raw")
        nbd.run("mke2fs", "-q", "-t", "ext4", device)
        source = make_source(tmp_path / "source.raw", 4 * MIB)
        with mount(folder / "ext4", "-t", "ext4", "-o", "loop", device) as place:
            place.chmod(0o777)
            with nbd.nbdkit(folder, "file", source) as server:
                server.socket.chmod(0o777)
                image = ImageRequest(server.uri(), str(place / "image"))
                told = as_nobody(functools.partial(copy, image, mode="0400"))
            assert told.get("msg") is None
            assert (place / "image").stat().st_mode & 0o7777 == 0o400
            nbd.identical(place / "image", source, "qcow2", "raw")


def test_a_block_device(tmp_path: Path) -> None:
    """Old content, zeroed gaps and an odd end, without which the last page of the device would be direct too."""
    size = 20 * MIB + 512
    source, backing = make_source(tmp_path / "source.raw", size), tmp_path / "device"
    backing.write_bytes(b"\xa5" * size)
    with loop_device(backing) as path, nbd.nbdkit(tmp_path, "file", source) as server:
        image = ImageRequest(server.uri(), path, format="raw")
        assert copy(image, force=True, check=True)["changed"]
        assert backing.read_bytes() == b"\xa5" * size
        copy(image, force=True)
    nbd.identical(backing, source, "raw", "raw")


def test_a_full_file_system_leaves_nothing(tmp_path: Path, ext4: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(b"\1" * (170 * MIB))
    before = nbd.names(ext4)
    with nbd.nbdkit(tmp_path, "file", source) as server:
        image = ImageRequest(server.uri(), str(ext4 / "image"))
        with pytest.raises(StateError, match=r"^images\[0\]\.dest: writing '.*' failed: No space left on device; "):
            copy(image)
    assert nbd.names(ext4) == before


REFUSED = "direct: True is refused by the file system of '{}' (O_DIRECT: Invalid argument); use false, or a dest on"


@pytest.mark.parametrize("check", [False, True])
def test_a_file_system_that_refuses_is_named_and_nothing_is_left(tmp_path: Path, ramfs: Path, check: bool) -> None:
    source = make_source(tmp_path / "source.raw", MIB)
    with nbd.nbdkit(tmp_path, "file", source) as server:
        image = {"uri": server.uri(), "dest": str(ramfs / "image"), "source_id": "monday"}
        result = nbd.run_module({"images": [image], "direct": True}, tmp_path, check=check)
        assert result["failed"]
        assert REFUSED.format(ramfs) in result["msg"]
        assert nbd.names(ramfs) == set()
        assert nbd.run_module({"images": [image], "direct": False}, tmp_path)["changed"]
        # What is there already is not written, so nothing has to be allowed for it.
        assert not nbd.run_module({"images": [image], "direct": True}, tmp_path)["changed"]


def test_so_is_one_that_has_no_nameless_files_to_ask(
    tmp_path: Path, ramfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_case, "check_file_system", lambda _image: None)
    source = make_source(tmp_path / "source.raw", MIB)
    with nbd.nbdkit(tmp_path, "file", source) as server:
        with pytest.raises(InputError) as caught:
            copy(ImageRequest(server.uri(), str(ramfs / "image")))
        assert REFUSED.format(ramfs) in caught.value.message
    assert nbd.names(ramfs) == set()
