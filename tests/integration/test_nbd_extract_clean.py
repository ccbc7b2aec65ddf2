# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clean ranges of an increment against the chain below it: bitmaps that lie, chains that are none, and what it costs."""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host

MIB = 1024 * 1024
SIZE = 16 * MIB
DIRTY = 4 * CLUSTER
SECRET = EncryptionRequest(secret="Kq9x0x7-winter", iter_time=10)


def copy(server: nbd.Server, dest: Path, backing: str = "", **options: t.Any) -> dict[str, t.Any]:
    """Extract one image, an increment on top of ``backing`` if it is given."""
    increment = {"bitmap": "b", "backing_file": backing} if backing else {}
    kind = {"encryption": "luks"} if options.get("encryption") else {}
    image = ImageRequest(server.uri(), str(dest), **increment, **kind, backing_format=options.pop("below", "qcow2"))
    outcome = extract(ExtractRequest(images=(image,), **options), check=False)
    result: dict[str, t.Any] = outcome.result["images"][0]
    return result


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return a disk of which a quarter holds data, a bitmap on it, and the full copy of the time before."""
    disk = nbd.create(tmp_path / "disk.qcow2", SIZE)
    nbd.qemu_io(disk, f"write -P 1 {MIB} {4 * MIB}")
    return disk


def begin(disk: Path, **options: t.Any) -> Path:
    """Copy the whole disk, and let a bitmap record what changes from now on, which is something."""
    base = disk.with_name("base.qcow2")
    with nbd.qemu_nbd(disk, "-r") as server:
        copy(server, base, **options)
    nbd.add_bitmap(disk, "b")
    nbd.qemu_io(disk, f"write -P 2 {2 * MIB} {DIRTY}")
    return base


def change_unseen(disk: Path, *commands: str) -> None:
    """Change the disk while no bitmap records it, as a program does that knows nothing of bitmaps."""
    nbd.run("qemu-img", "bitmap", "--disable", disk, "b")
    nbd.qemu_io(disk, *commands)
    nbd.run("qemu-img", "bitmap", "--enable", disk, "b")


def refused(disk: Path, backing: str = "base.qcow2", **options: t.Any) -> BackupError:
    """Extract an increment, which has to fail and to leave nothing; return its error."""
    out = disk.with_name("next.qcow2")
    before = nbd.names(disk.parent)
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server, pytest.raises(BackupError) as caught:
        copy(server, out, backing, **options)
    assert nbd.names(disk.parent) == before
    return caught.value


def accepted(disk: Path, backing: str = "base.qcow2", **options: t.Any) -> int:
    """Extract an increment that shows what the disk holds; return how many clean clusters were compared for that."""
    out = disk.with_name("next.qcow2")
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        result = copy(server, out, backing, **options)
    if not options.get("encryption"):
        nbd.identical(out, disk)
    return int(result["clean_compared"])


def test_a_true_bitmap_passes_with_what_was_compared(disk: Path) -> None:
    begin(disk)
    clean = (SIZE - DIRTY) // CLUSTER
    assert accepted(disk, clean_samples=clean) == clean


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(f"write -P 9 {MIB} {MIB}", id="data-over-data"),
        pytest.param(f"write -P 9 {8 * MIB} {4 * MIB}", id="data-over-hole"),
        pytest.param(f"write -z {3 * MIB} {2 * MIB}", id="zeroes-over-data"),
        pytest.param(f"discard {3 * MIB} {2 * MIB}", id="trim-of-data"),
    ],
)
def test_what_no_bitmap_recorded_is_found(disk: Path, command: str) -> None:
    base = begin(disk)
    change_unseen(disk, command)
    error = refused(disk)
    assert error.message.startswith(f"images[0]: the disk '' can't be incremental on '{base}': ")
    (mismatch,) = error.details["mismatches"]
    assert mismatch["problem"] in error.message
    start, length = (int(word) for word in command.split()[-2:])
    assert start <= mismatch["offset"] < start + length
    assert mismatch["length"] == CLUSTER


def test_one_wrong_cluster_is_found_when_all_are_compared_and_not_looked_for_with_none(disk: Path) -> None:
    begin(disk)
    change_unseen(disk, f"write -P 9 {5 * MIB - 512} 512")
    clean = (SIZE - DIRTY) // CLUSTER
    assert refused(disk, clean_samples=clean).details["mismatches"][0]["offset"] == 5 * MIB - CLUSTER
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        assert copy(server, disk.with_name("next.qcow2"), "base.qcow2", clean_samples=0)["clean_compared"] == 0


def test_the_little_that_a_nearly_empty_disk_holds_is_compared_as_a_whole(tmp_path: Path) -> None:
    """By chance alone, two thirds of such samples would come by none of it."""
    held = 14 * CLUSTER
    disk = nbd.create(tmp_path / "disk.qcow2", 1024 * MIB)
    nbd.qemu_io(disk, f"write -P 1 {700 * MIB} {held}")
    begin(disk)
    out = tmp_path / "next.qcow2"
    assert accepted(disk) == 64 + held // CLUSTER
    out.unlink()
    change_unseen(disk, f"write -P 9 {700 * MIB + 3 * CLUSTER} {CLUSTER}")
    (mismatch,) = refused(disk, force=True).details["mismatches"]
    assert mismatch["problem"].startswith(f"1 of {64 + held // CLUSTER} clean ranges that were compared differ")
    assert mismatch["offset"] == 700 * MIB + 3 * CLUSTER


def test_all_disks_that_lie_are_named_at_once(disk: Path, tmp_path: Path) -> None:
    begin(disk)
    change_unseen(disk, f"write -P 9 {MIB} {MIB}")
    images = [ImageRequest("", str(tmp_path / f"{name}.qcow2"), bitmap="b", backing_file="base.qcow2") for name in "ab"]
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server, pytest.raises(BackupError) as caught:
        extract(
            ExtractRequest(images=tuple(ImageRequest(**{**vars(image), "uri": server.uri()}) for image in images)),
            check=False,
        )
    assert [entry["dest"] for entry in caught.value.details["mismatches"]] == [image.dest for image in images]
    assert "images[0]: " in caught.value.message
    assert "images[1]: " in caught.value.message


def test_a_raw_base_that_is_no_whole_sector_and_shorter_than_the_disk(disk: Path) -> None:
    base = disk.with_name("base.raw")
    nbd.run("qemu-img", "convert", "-O", "raw", disk, base)
    with base.open("r+b") as file:
        file.truncate(12 * MIB - 100)
    nbd.add_bitmap(disk, "b")
    assert accepted(disk, "base.raw", below="raw", clean_samples=SIZE // CLUSTER) == SIZE // CLUSTER
    disk.with_name("next.qcow2").unlink()
    change_unseen(disk, f"write -P 9 {12 * MIB} {4 * MIB}")
    assert refused(disk, "base.raw", below="raw", force=True).details["mismatches"][0]["offset"] >= 12 * MIB


def test_a_chain_of_many(disk: Path, tmp_path: Path) -> None:
    """Each image holds what the next hides or shows."""
    begin(disk)
    below = "base.qcow2"
    for number in range(5):
        out = tmp_path / f"{number}.qcow2"
        with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
            copy(server, out, below, clean_samples=SIZE // CLUSTER)
        below = out.name
        nbd.run("qemu-img", "bitmap", "--clear", disk, "b")
        nbd.qemu_io(disk, f"write -P {number} {number * MIB} {MIB}", f"write -z {number * MIB + CLUSTER} {CLUSTER}")
    assert accepted(disk, below, clean_samples=SIZE // CLUSTER) == SIZE // CLUSTER - 16


def test_an_encrypted_chain(disk: Path) -> None:
    begin(disk, encryption=SECRET)
    assert accepted(disk, encryption=SECRET) > 64
    disk.with_name("next.qcow2").unlink()
    change_unseen(disk, f"write -P 9 {MIB} {MIB}")
    assert "differ" in refused(disk, encryption=SECRET, force=True).message


def lost(base: Path) -> None:
    base.unlink()


def no_image(base: Path) -> None:
    base.write_bytes(b"nothing" * 100)


def of_a_protocol(base: Path) -> None:
    nbd.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "nbd://127.0.0.1:1/x", "-F", "raw", base)


def on_itself(base: Path) -> None:
    nbd.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", base)


BROKEN = {
    lost: "No such file",
    no_image: "is no qcow2 image",
    of_a_protocol: "'nbd://127.0.0.1:1/x', which is no path",
    on_itself: "builds on itself",
}


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_a_chain_that_is_broken_below_is_no_base(disk: Path, breaks: t.Callable[[Path], None]) -> None:
    base = begin(disk)
    middle = disk.with_name("middle.qcow2")
    nbd.create(middle, SIZE, "-b", base.name, "-F", "qcow2")
    breaks(base)
    error = refused(disk, middle.name)
    assert "its chain can't be read: " in error.message
    assert BROKEN[breaks] in error.message
    assert error.details["mismatches"][0]["length"] == 0


def test_through_a_linked_folder(disk: Path, tmp_path: Path) -> None:
    """A relative backing path counts from where the folder really is."""
    base = begin(disk)
    for folder in ("far/staging", "far/base"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.move(base, tmp_path / "far/base/base.qcow2")
    (tmp_path / "near").symlink_to("far/staging")
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as server:
        result = copy(server, tmp_path / "near" / "next.qcow2", "../base/base.qcow2")
    assert result["clean_compared"] >= 64


@pytest.mark.parametrize("number", [-1, 65537])
def test_a_number_out_of_range(disk: Path, number: int) -> None:
    with pytest.raises(InputError, match=f"clean_samples: {number} is out of range; use 1 to 65536, or 0 for none"):
        extract(ExtractRequest(images=(ImageRequest("nbd://x/", "/x.qcow2"),), clean_samples=number), check=True)
