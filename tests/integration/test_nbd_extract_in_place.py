# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Block devices and exports as dest: who may overwrite them, what a second run says, and what is refused in words."""

from __future__ import annotations

import json
import os
import subprocess
import typing as t

import pytest

from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import without_hypervisor
from ansible_collections.virt.backup.tests.integration.ends_kit import loop_device

if t.TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
SERVERS = {"device.sock", "device.pid"}

lab_host = without_hypervisor.lab_host
out = without_hypervisor.out


@pytest.fixture
def server(tmp_path: Path) -> t.Iterator[nbd.Server]:
    """Serve a disk of 8 MiB as ``vda`` with a bitmap ``b``."""
    disk = nbd.create(tmp_path / "disk.qcow2", 8 * MIB)
    nbd.qemu_io(disk, "write -P 1 0 3M")
    nbd.add_bitmap(disk, "b")
    with nbd.qemu_nbd(disk, "-r", "-B", "b", export="vda") as running:
        yield running


@pytest.fixture
def backing(out: Path) -> Path:
    """Return the file below the device, as large as the disk."""
    return nbd.create(out / "device.raw", 8 * MIB, image_format="raw")


@pytest.fixture
def device(backing: Path) -> t.Iterator[str]:
    """Return a loop device."""
    with loop_device(backing) as path:
        yield path


def image(server: nbd.Server, dest: str, **more: str) -> dict[str, str]:
    return {"uri": server.uri("vda"), "dest": dest, "format": "raw", "source_id": "monday", **more}


def refused(tmp_path: Path, *images: dict[str, str], check: bool = False, **options: t.Any) -> str:
    parameters = {"images": list(images), "force": True, **options}
    result = nbd.run_module(parameters, tmp_path, check=check)
    assert result.get("failed"), result
    assert "is undefined now" not in result["msg"]
    return str(result["msg"])


@pytest.mark.parametrize("kind", ["device", "export"])
def test_a_record_makes_it_idempotent_and_only_a_record(
    server: nbd.Server, out: Path, tmp_path: Path, backing: Path, kind: str
) -> None:
    with nbd.qemu_nbd(backing, image_format="raw") if kind == "export" else loop_device(backing) as place:
        dest = place if isinstance(place, str) else place.uri()
        record = out / "record.json"
        plain, kept = image(server, dest), image(server, dest, record=str(record))
        for check in (True, False):
            assert "without a record; set force" in refused(tmp_path, kept, check=check, force=False)
        assert nbd.run_module({"images": [kept], "force": True}, tmp_path, check=True)["changed"]
        assert not any(backing.read_bytes())
        first = nbd.run_module({"images": [kept], "force": True}, tmp_path)
        assert (first["changed"], first["images"][0]["atomic"]) == (True, False)
        nbd.run("qemu-img", "compare", "-q", "-U", "-f", "raw", "-F", "qcow2", backing, tmp_path / "disk.qcow2")
        assert dest.partition("?")[0] in json.loads(record.read_text())["written_to"] or kind == "export"
        for check in (True, False):
            again = nbd.run_module({"images": [kept]}, tmp_path, check=check)
            assert (again.get("msg"), again["changed"]) == (None, False)
            assert "without a record; set force" in refused(tmp_path, plain, check=check, force=False)
            other = {**kept, "source_id": "tuesday"}
            assert "its record tells of full raw, source_id 'monday'" in refused(
                tmp_path, other, check=check, force=False
            )
        assert nbd.names(out) == {"device.raw", "record.json", "record.digests"} | nbd.names(out) & SERVERS
        changed = nbd.run_module({"images": [kept], "mode": "0640"}, tmp_path)
        assert (changed["changed"], record.stat().st_mode & 0o777) == (True, 0o640)


def test_the_record_of_one_device_is_none_of_another(
    server: nbd.Server, out: Path, tmp_path: Path, device: str
) -> None:
    kept = image(server, device, record=str(out / "record.json"))
    nbd.run_module({"images": [kept], "force": True}, tmp_path)
    with loop_device(nbd.create(out / "other.raw", 8 * MIB, image_format="raw")) as other:
        assert "its record tells of" in refused(tmp_path, {**kept, "dest": other}, force=False)


def test_a_failure_leaves_no_record(server: nbd.Server, out: Path, tmp_path: Path, device: str) -> None:
    """The crash table: between the first write and the new record there is none."""
    record = out / "record.json"
    kept = image(server, device, record=str(record))
    nbd.run_module({"images": [kept], "force": True}, tmp_path)
    source = nbd.create(tmp_path / "source.raw", 8 * MIB, image_format="raw")
    nbd.qemu_io(source, "write -P 1 0 8M", image_format="raw")
    with nbd.nbdkit(tmp_path, "--filter=error", "file", source, "error-pread-rate=100%") as broken:
        result = nbd.run_module({"images": [{**kept, "uri": broken.uri()}], "force": True}, tmp_path)
    assert f"The content of '{device}' is undefined now." in result["msg"]
    assert nbd.names(out) == {"device.raw"}


@pytest.mark.parametrize("check", [True, False])
def test_what_is_in_use(server: nbd.Server, out: Path, tmp_path: Path, device: str, check: bool) -> None:
    """A mount holds it by the kernel's claim, QEMU by its lock. The record of before stays."""
    nbd.run("/sbin/mke2fs", "-q", device)
    record = out / "record.json"
    record.write_text("{}")
    kept = image(server, device, record=str(record))
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    nbd.run("mount", device, mounted)
    try:
        assert "is in use; unmount it" in refused(tmp_path, kept, check=check)
    finally:
        subprocess.run(["umount", mounted], check=True)
    command = ["qemu-nbd", "-t", "-f", "raw", "-k", out / "user.sock", "--fork", "--pid-file", out / "user.pid"]
    nbd.run(*[str(word) for word in command], device)
    try:
        assert "is in use; unmount it" in refused(tmp_path, kept, check=check)
    finally:
        os.kill(int((out / "user.pid").read_text()), 9)
    assert record.read_text() == "{}"


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("kind", ["device", "export"])
def test_what_is_too_small(server: nbd.Server, out: Path, tmp_path: Path, kind: str, check: bool) -> None:
    small = nbd.create(out / "small.raw", 8 * MIB - 512, image_format="raw")
    with nbd.qemu_nbd(small, image_format="raw") if kind == "export" else loop_device(small) as place:
        dest = place if isinstance(place, str) else place.uri()
        message = refused(tmp_path, image(server, dest), check=check)
    assert f"has room for {8 * MIB - 512} bytes, and the disk has {8 * MIB}; use a larger {kind}" in message
    assert not any(small.read_bytes())


@pytest.mark.parametrize("check", [True, False])
def test_an_export_that_is_read_only_or_not_there(
    server: nbd.Server, backing: Path, tmp_path: Path, check: bool
) -> None:
    with nbd.qemu_nbd(backing, "-r", image_format="raw") as other:
        assert "is read-only; let the server export it" in refused(tmp_path, image(server, other.uri()), check=check)
        assert "images[0].dest: " in refused(tmp_path, image(server, other.uri("none")), check=check)
    assert "which does not exist" in refused(tmp_path, image(server, other.uri()), check=check)


def test_what_only_a_file_can_be(server: nbd.Server, out: Path, tmp_path: Path, device: str) -> None:
    uri = f"nbd+unix:///?socket={tmp_path}/x.sock"
    for dest, kind in ((device, "a block device"), (uri, "an NBD export")):
        assert f"can't be written to {kind}; use format raw" in refused(tmp_path, image(server, dest, format="qcow2"))
        bitmap = image(server, dest, bitmap="b", backing_file="0.qcow2")
        assert f"can't be extracted into {kind}" in refused(tmp_path, bitmap)
    assert "whose record is beside it" in refused(tmp_path, image(server, str(out / "a.raw"), record="/x/y.json"))
    assert "is the export that is read" in refused(tmp_path, image(server, server.uri("vda")))


def test_two_names_of_one_place(server: nbd.Server, out: Path, tmp_path: Path, device: str) -> None:
    link = out / "link"
    link.symlink_to(device)
    message = refused(tmp_path, image(server, device), image(server, str(link)))
    assert "is the same device or export as images[0]" in message
    uri = f"nbd+unix:///a?socket={tmp_path}/x.sock"
    same = f"nbd+unix:///%61?socket={tmp_path}/./x.sock"
    assert "is the same device or export as images[0]" in refused(tmp_path, image(server, uri), image(server, same))


def test_what_lies_beyond_the_disk_stays(server: nbd.Server, out: Path, tmp_path: Path) -> None:
    large = out / "large.raw"
    large.write_bytes(b"\xa5" * (9 * MIB))
    with loop_device(large) as dest:
        assert nbd.run_module({"images": [image(server, dest)], "force": True}, tmp_path)["changed"]
    content = large.read_bytes()
    assert content == b"\1" * 3 * MIB + bytes(5 * MIB) + b"\xa5" * MIB
