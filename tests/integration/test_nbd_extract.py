# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nbd_extract against real servers: the images it makes show, read by QEMU, what the servers served."""

from __future__ import annotations

import contextlib
import json
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy.content import Difference
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_scene import in_memory

if t.TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host


def copy(*images: ImageRequest, **options: t.Any) -> list[dict[str, t.Any]]:
    outcome = extract(ExtractRequest(images=images, **options), check=False)
    result: list[dict[str, t.Any]] = outcome.result["images"]
    return result


def full(server: nbd.Server, dest: Path, **options: t.Any) -> dict[str, t.Any]:
    return copy(ImageRequest(server.uri(), str(dest)), **options)[0]


def increment(server: nbd.Server, dest: Path, bitmap: str, backing: Path, **options: t.Any) -> dict[str, t.Any]:
    image = ImageRequest(server.uri(), str(dest), bitmap=bitmap, backing_file=backing.name)
    return copy(image, **options)[0]


@pytest.mark.parametrize("compression", ["none", "zstd", "zlib"])
@pytest.mark.parametrize("granularity", [512, CLUSTER, MIB])
@pytest.mark.parametrize("size", [512, 3 * CLUSTER + 512, 40 * MIB, 70 * MIB + 33 * 1024])
def test_a_chain_shows_what_was_served(tmp_path: Path, size: int, granularity: int, compression: str) -> None:
    """Data, overwritten data, written zeroes and trimmed ranges, over two increments, at sizes that are no clusters."""
    disk = nbd.create(tmp_path / "disk.qcow2", size)
    last = max(size - 70 * 1024, 0) // 512 * 512
    tail = size - last

    def within(*commands: tuple[str, int, int]) -> list[str]:
        return [f"{verb} {start} {length}" for verb, start, length in commands if start + length <= size]

    nbd.qemu_io(disk, *within(("write -P 1", 0, 512), ("write -P 1", 0, 5 * MIB), ("write -P 2", 20 * MIB, 6 * MIB)))
    nbd.qemu_io(disk, *within(("write -P 3", last, tail)))
    images = [tmp_path / f"{number}.qcow2" for number in range(3)]
    with nbd.qemu_nbd(disk, "-r") as server:
        result = full(server, images[0], compression=compression)
        assert (result["level"], result["size"]) == ("full", size)
    nbd.identical(images[0], disk)
    assert result["digest"] == nbd.digest_by_qemu(images[0], incremental=False)

    changes = [
        within(("write -P 4", 0, 512), ("write -P 4", MIB, 100 * 1024), ("write -z", 2 * MIB, MIB)),
        within(("discard", 3 * MIB, MIB), ("discard", 21 * MIB, 130 * 1024), ("write -z", last, tail)),
    ]
    for number, commands in enumerate(changes, start=1):
        nbd.add_bitmap(disk, f"b{number}", granularity)
        nbd.qemu_io(disk, "read 0 512", *commands)
        with nbd.qemu_nbd(disk, "-r", "-B", f"b{number}") as server:
            image = images[number]
            result = increment(server, image, f"b{number}", images[number - 1], compression=compression)
            assert (result["level"], result["size"]) == ("incremental", size)
        nbd.identical(images[number], disk)
        assert result["digest"] == nbd.digest_by_qemu(images[number], incremental=True)
        assert nbd.root_of(*images[: number + 1]) == nbd.digest_by_qemu(images[number], incremental=False)


def test_a_flipped_bit_in_a_middle_image_is_found_with_its_image(tmp_path: Path) -> None:
    disk = nbd.create(tmp_path / "disk.qcow2", 8 * MIB)
    nbd.qemu_io(disk, "write -P 1 0 6M")
    images = [tmp_path / f"{number}.qcow2" for number in range(3)]
    with nbd.qemu_nbd(disk, "-r") as server:
        full(server, images[0])
    for number in (1, 2):
        nbd.add_bitmap(disk, f"b{number}")
        nbd.qemu_io(disk, f"write -P {number + 1} {number * MIB} 128k")
        with nbd.qemu_nbd(disk, "-r", "-B", f"b{number}") as server:
            increment(server, images[number], f"b{number}", images[number - 1])
    assert nbd.differences_by_qemu(*images) == []
    content = bytearray(images[1].read_bytes())
    at = content.rindex(b"\2" * CLUSTER)
    content[at] ^= 0x10
    images[1].write_bytes(content)
    nbd.run("qemu-img", "check", "-q", "-f", "qcow2", images[1])
    assert nbd.differences_by_qemu(*images) == [Difference(MIB + CLUSTER, MIB + 2 * CLUSTER, 1)]
    assert nbd.differences_by_qemu(images[0]) == []


@pytest.mark.parametrize("compression", ["none", "zstd", "zlib"])
@pytest.mark.parametrize("cluster", [128 * 1024, MIB])
@pytest.mark.parametrize("size", [3 * CLUSTER + 512, 70 * MIB + 33 * 1024])
def test_a_chain_of_larger_clusters(tmp_path: Path, size: int, cluster: int, compression: str) -> None:
    """Dirty grains between clean ones, zeroes in a part of a cluster: what QEMU reads and the digest are the same."""
    disk = nbd.create(tmp_path / "disk.qcow2", size)
    tail = f"{size - CLUSTER} {CLUSTER}"
    nbd.qemu_io(disk, f"write -P 1 0 {min(5 * MIB, size)}", f"write -P 2 {tail}")
    base, image, plain = (tmp_path / name for name in ("base.qcow2", "image.qcow2", "plain.qcow2"))
    with nbd.qemu_nbd(disk, "-r") as server:
        request = ImageRequest(server.uri(), str(base), cluster_size=cluster)
        digests = {copy(request, compression=compression)[0]["digest"], full(server, plain)["digest"]}
    nbd.identical(base, disk)
    assert digests == {nbd.digest_by_qemu(base, incremental=False)}

    nbd.add_bitmap(disk, "b", 512)
    commands = ["write -P 3 0 512", f"write -z {tail}"]
    if size > 5 * MIB:
        commands += [f"write -z {MIB} {CLUSTER}", f"write -P 4 {2 * MIB + CLUSTER} 512", f"write -z {3 * MIB} {MIB}"]
        commands += [f"discard {4 * MIB + CLUSTER} {CLUSTER}", f"write -P 5 {40 * MIB} 512"]
    nbd.qemu_io(disk, "read 0 512", *commands)
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        request = ImageRequest(server.uri(), str(image), bitmap="b", backing_file="base.qcow2", cluster_size=cluster)
        result = copy(request, compression=compression)[0]
    nbd.identical(image, disk)
    assert json.loads(nbd.run("qemu-img", "info", "--output=json", image))["cluster-size"] == cluster
    assert result["digest"] == nbd.digest_by_qemu(image, incremental=True)


@pytest.mark.parametrize("size", [1, 511, CLUSTER + 1, BLOCK - 1, 3 * MIB + 65])
def test_a_size_that_is_no_sector_is_rounded_up(tmp_path: Path, size: int) -> None:
    """nbdkit exports what it has; QEMU rounds a header's odd size down and would lose the last bytes."""
    source = tmp_path / "source.raw"
    source.write_bytes(bytes(range(1, 250)) * (size // 249) + b"\xee" * (size % 249))
    with nbd.nbdkit(tmp_path, "file", source) as server:
        result = copy(
            ImageRequest(server.uri(), str(tmp_path / "a.qcow2")),
            ImageRequest(server.uri(), str(tmp_path / "b.raw"), format="raw"),
        )
    assert [image["size"] for image in result] == [size, size]
    nbd.identical(tmp_path / "a.qcow2", source, other_format="raw")
    assert (tmp_path / "b.raw").read_bytes() == source.read_bytes()
    digests = {
        result[0]["digest"],
        result[1]["digest"],
        nbd.digest_by_qemu(tmp_path / "a.qcow2", incremental=False),
        nbd.digest_by_qemu(tmp_path / "b.raw", incremental=False, image_format="raw"),
    }
    assert len(digests) == 1


def test_an_empty_export(tmp_path: Path) -> None:
    with nbd.nbdkit(tmp_path, "memory", "0") as server:
        copy(ImageRequest(server.uri(), str(tmp_path / "a.qcow2")))
    nbd.identical(tmp_path / "a.qcow2", nbd.create(tmp_path / "empty.qcow2", 0))


@pytest.fixture
def memory() -> t.Iterator[Path]:
    """Return a folder for gibibytes that no disk shall write and delete."""
    with in_memory() as folder:
        yield folder


def test_more_dirty_extents_than_one_reply_holds(memory: Path) -> None:
    """QEMU answers with at most 131072 extents; here every second 4 KiB of 1 GiB are dirty, and some are zero again."""
    count, size = 131200, 1030 * MIB
    disk = nbd.create(memory / "disk.qcow2", size, "-o", "cluster_size=4k,lazy_refcounts=on")
    nbd.qemu_io(disk, "write -P 1 0 8M")
    with nbd.qemu_nbd(disk, "-r") as server:
        full(server, memory / "0.qcow2")
    nbd.add_bitmap(disk, "b", 4096)
    changes, expected = memory / "changes.raw", memory / "expected.raw"
    with changes.open("wb") as file, expected.open("wb") as other:
        other.write(b"\1" * 8 * MIB)
        for number in range(count):
            for target in (file, other):
                target.seek(number * 8192)
                target.write(bytes([2 + number % 200]) * 4096)
        file.truncate(size)
        other.truncate(size)
    with nbd.qemu_nbd(disk, "--cache=unsafe") as server:
        nbd.run("nbdcopy", "--destination-is-zero", "--request-size=4096", "--sparse=4096", changes, server.uri())
    changes.unlink()
    zeroes = ("write -z 100M 3M", "discard 300M 5M")
    nbd.qemu_io(disk, *zeroes)
    nbd.qemu_io(expected, *zeroes, image_format="raw")
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        result = increment(server, memory / "1.qcow2", "b", memory / "0.qcow2")
    assert result["bytes_copied"] + result["bytes_zeroed"] == count * 8192
    nbd.identical(memory / "1.qcow2", expected, other_format="raw")


def test_a_disk_with_a_backing_file_of_its_own_is_flattened(tmp_path: Path) -> None:
    base = nbd.create(tmp_path / "base.qcow2", 10 * MIB)
    nbd.qemu_io(base, "write -P 5 0 3M", "write -P 6 9M 1M")
    disk = tmp_path / "disk.qcow2"
    nbd.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base.name, "-F", "qcow2", disk, str(12 * MIB))
    nbd.qemu_io(disk, "write -P 7 1M 1M", "write -z 2M 512k")
    with nbd.qemu_nbd(disk, "-r") as server:
        full(server, tmp_path / "0.qcow2")
    nbd.identical(tmp_path / "0.qcow2", disk)
    nbd.add_bitmap(disk, "b")
    nbd.qemu_io(disk, "discard 9M 64k", "write -P 8 11M 4k")
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        increment(server, tmp_path / "1.qcow2", "b", tmp_path / "0.qcow2")
    nbd.identical(tmp_path / "1.qcow2", disk)


def test_a_disk_that_grew(tmp_path: Path) -> None:
    """An overlay may be larger than what it lies on; what lies beyond reads as zero."""
    disk = nbd.create(tmp_path / "disk.qcow2", 4 * MIB)
    nbd.qemu_io(disk, "write -P 1 0 4M")
    with nbd.qemu_nbd(disk, "-r") as server:
        full(server, tmp_path / "0.qcow2")
    nbd.add_bitmap(disk, "b")
    nbd.run("qemu-img", "resize", "-q", "-f", "qcow2", disk, str(9 * MIB))
    nbd.qemu_io(disk, "write -P 2 8M 64k")
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        increment(server, tmp_path / "1.qcow2", "b", tmp_path / "0.qcow2")
    nbd.identical(tmp_path / "1.qcow2", disk)


def test_dirty_zeroes_hide_old_data_and_clean_ranges_show_it(tmp_path: Path) -> None:
    """The fault that qemu-img check does not see: a zero that is left out reads as the old data below it."""
    disk = nbd.create(tmp_path / "disk.qcow2", 2 * MIB)
    nbd.qemu_io(disk, "write -P 1 0 2M")
    with nbd.qemu_nbd(disk, "-r") as server:
        full(server, tmp_path / "0.qcow2")
    nbd.add_bitmap(disk, "b")
    nbd.qemu_io(disk, "write -z 0 64k", "discard 128k 64k", "write -P 0 256k 64k", "write -P 9 384k 64k")
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        result = increment(server, tmp_path / "1.qcow2", "b", tmp_path / "0.qcow2")
    assert (result["bytes_copied"], result["bytes_zeroed"], result["extents"]) == (CLUSTER, 3 * CLUSTER, 4)
    told = json.loads(nbd.run("qemu-img", "map", "--output=json", tmp_path / "1.qcow2"))
    picture = ""
    for extent in told:
        picture += ("0" if extent["zero"] else "A" if extent["depth"] == 0 else ".") * (extent["length"] // CLUSTER)
    assert picture == "0.0.0.A" + "." * 25
    nbd.identical(tmp_path / "1.qcow2", disk)


def test_nothing_dirty_makes_an_image_of_metadata_alone(tmp_path: Path) -> None:
    disk = nbd.create(tmp_path / "disk.qcow2", 8 * 1024**4)
    with nbd.qemu_nbd(disk, "-r") as server:
        full(server, tmp_path / "0.qcow2")
    nbd.add_bitmap(disk, "b", 16 * MIB)
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        result = increment(server, tmp_path / "1.qcow2", "b", tmp_path / "0.qcow2")
    assert (result["bytes_copied"], result["bytes_zeroed"], result["extents"]) == (0, 0, 0)
    assert (tmp_path / "1.qcow2").stat().st_size < MIB
    nbd.run("qemu-img", "check", "-q", tmp_path / "1.qcow2")


def test_a_server_without_structured_replies_is_read_whole(tmp_path: Path) -> None:
    source = nbd.create(tmp_path / "source.raw", 20 * MIB, image_format="raw")
    nbd.qemu_io(source, "write -P 3 5M 70k", image_format="raw")
    with nbd.nbdkit(tmp_path, "--no-sr", "file", source) as server:
        result = full(server, tmp_path / "0.qcow2")
    assert result["bytes_copied"] == 2 * CLUSTER
    nbd.identical(tmp_path / "0.qcow2", source, other_format="raw")


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
@pytest.mark.parametrize("connections", [1, 4, 16])
@pytest.mark.parametrize("shared", [1, 2, 3, 0])
def test_every_number_of_connections(tmp_path: Path, shared: int, connections: int, image_format: str) -> None:
    """A server that admits one client says so; one that admits two or three leaves more of them waiting."""
    disk = nbd.create(tmp_path / "disk.qcow2", 30 * MIB)
    nbd.qemu_io(disk, "write -P 3 0 20M", "write -z 3M 2M")
    with nbd.qemu_nbd(disk, "-r", f"--shared={shared}") as server:
        image = ImageRequest(server.uri(), str(tmp_path / f"0.{image_format}"), format=image_format)
        copy(image, connections=connections)
    nbd.identical(tmp_path / f"0.{image_format}", disk, image_format=image_format)


@pytest.mark.parametrize("connections", [1, 4])
def test_increment_over_one_connection(tmp_path: Path, connections: int) -> None:
    """Both contexts come over the one connection then, with replies of their own lengths."""
    disk = nbd.create(tmp_path / "disk.qcow2", 30 * MIB)
    nbd.qemu_io(disk, "write -P 3 0 20M")
    with nbd.qemu_nbd(disk, "-r") as server:
        full(server, tmp_path / "0.qcow2")
    nbd.add_bitmap(disk, "b")
    nbd.qemu_io(disk, *[f"write -P 4 {at}k 64k" for at in range(0, 20000, 256)], "write -z 5M 3M")
    with nbd.qemu_nbd(disk, "-r", "-B", "b", "--shared=1") as server:
        increment(server, tmp_path / "1.qcow2", "b", tmp_path / "0.qcow2", connections=connections)
    nbd.identical(tmp_path / "1.qcow2", disk)


def test_several_images_at_once(tmp_path: Path) -> None:
    disks = [nbd.create(tmp_path / f"disk{number}.qcow2", (3 + number) * MIB) for number in range(5)]
    images = []
    with contextlib.ExitStack() as stack:
        for number, disk in enumerate(disks):
            nbd.qemu_io(disk, f"write -P {number + 1} 0 2M")
            server = stack.enter_context(nbd.qemu_nbd(disk, "-r", export=f"vd{number}"))
            dest = tmp_path / f"out{number}.qcow2"
            images.append(ImageRequest(server.uri(f"vd{number}"), str(dest), source_id="monday"))
        result = copy(*images)
    assert [image["dest"] for image in result] == [image.dest for image in images]
    for number, disk in enumerate(disks):
        nbd.identical(tmp_path / f"out{number}.qcow2", disk)
        record = json.loads((tmp_path / f"out{number}.json").read_text())
        assert (record["export"], record["source_id"], record["size"]) == (f"vd{number}", "monday", (3 + number) * MIB)
        assert record["digest"] == result[number]["digest"]


def test_a_bitmap_that_is_not_served_is_refused(tmp_path: Path) -> None:
    """Without the context every block would look clean, and the increment would be empty."""
    disk = nbd.create(tmp_path / "disk.qcow2", MIB)
    nbd.add_bitmap(disk, "b")
    nbd.create(tmp_path / "0.qcow2", MIB)
    before = nbd.names(tmp_path)
    with (
        nbd.qemu_nbd(disk, "-r") as server,
        pytest.raises(InputError, match=r"^images\[0\]\.bitmap: 'b' is not offered"),
    ):
        increment(server, tmp_path / "1.qcow2", "b", tmp_path / "0.qcow2")
    with nbd.nbdkit(tmp_path, "--no-sr", "memory", "1M") as server, pytest.raises(InputError, match="is not offered"):
        increment(server, tmp_path / "1.qcow2", "b", tmp_path / "0.qcow2")
    assert nbd.names(tmp_path) == before
