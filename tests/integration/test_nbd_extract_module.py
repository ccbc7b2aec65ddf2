# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nbd_extract as a process, as Ansible starts it: check, run, check again, run again; and what servers refuse."""

from __future__ import annotations

import json
import pwd
import socket
import typing as t

import pytest

from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import without_hypervisor

if t.TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024

lab_host = without_hypervisor.lab_host
out = without_hypervisor.out


@pytest.fixture
def server(tmp_path: Path) -> t.Iterator[nbd.Server]:
    """Serve a disk with two dirty clusters and a zeroed one, as ``vda`` with the bitmap ``b``."""
    disk = nbd.create(tmp_path / "disk.qcow2", 20 * MIB)
    nbd.qemu_io(disk, "write -P 1 0 5M", "write -P 0 6M 1M")
    nbd.add_bitmap(disk, "b")
    nbd.qemu_io(disk, "write -P 2 1M 128k", "write -z 2M 64k")
    with nbd.qemu_nbd(disk, "-r", "-B", "b", export="vda") as running:
        yield running


def four_times(parameters: dict[str, t.Any], folder: Path) -> list[dict[str, t.Any]]:
    """Check, run, check again, run again: changed, changed, not, not."""
    results = [nbd.run_module(parameters, folder, check=check) for check in (True, False, True, False)]
    assert [result.get("msg") for result in results] == [None] * 4
    assert [result["changed"] for result in results] == [True, True, False, False]
    return results


def test_four_times_full(server: nbd.Server, out: Path, tmp_path: Path) -> None:
    image = {"uri": server.uri("vda"), "dest": str(out / "vda.qcow2"), "source_id": "monday"}
    checked, ran, *again = four_times({"images": [image]}, tmp_path)
    predicted, made = checked["images"][0], ran["images"][0]
    for name in ("dest", "changed", "level", "size", "extents", "source_id", "format"):
        assert predicted[name] == made[name]
    assert predicted["bytes_copied"] == 6 * MIB - 64 * 1024  # what is written as zeroes is found out by reading
    assert made["bytes_copied"] == 5 * MIB - 64 * 1024
    assert made["bytes_zeroed"] == 15 * MIB + 64 * 1024
    for result in again:
        assert result["images"][0] == {**made, "changed": False}
    assert ran["diff"]["before"] == {image["dest"]: None}
    assert ran["diff"]["after"][image["dest"]] == json.loads((out / "vda.json").read_text())
    assert again[1]["diff"]["before"] == again[1]["diff"]["after"]
    assert made["bytes_stored"] == (out / "vda.qcow2").stat().st_blocks * 512


def test_four_times_incremental_then_forced(server: nbd.Server, out: Path, tmp_path: Path) -> None:
    nbd.run("qemu-img", "convert", "-U", "-O", "qcow2", tmp_path / "disk.qcow2", out / "0.qcow2")
    image = {
        "uri": server.uri("vda"),
        "dest": str(out / "1.qcow2"),
        "bitmap": "b",
        "backing_file": "0.qcow2",
        "source_id": "tuesday",
    }
    results = four_times({"images": [image], "compression": "zstd"}, tmp_path)
    assert results[1]["images"][0]["level"] == "incremental"
    assert (results[1]["images"][0]["bytes_copied"], results[1]["images"][0]["bytes_zeroed"]) == (128 * 1024, 64 * 1024)
    unforeseen = {"bytes_stored": 0, "seconds": 0, "digest": "", "clean_compared": 0}
    assert {**results[0]["images"][0], **unforeseen} == {**results[1]["images"][0], **unforeseen}
    assert results[1]["images"][0]["clean_compared"] == 128
    inode = (out / "1.qcow2").stat().st_ino
    forced = nbd.run_module({"images": [{**image, "source_id": "other"}], "force": True}, tmp_path)
    assert forced["changed"]
    assert forced["diff"]["before"][image["dest"]]["source_id"] == "tuesday"
    assert (out / "1.qcow2").stat().st_ino != inode
    refused = nbd.run_module({"images": [image]}, tmp_path)
    assert refused["failed"]
    assert "source_id 'other'" in refused["msg"]
    assert nbd.names(out) == {"0.qcow2", "1.qcow2", "1.json", "1.digests"}


def test_owner_group_mode_and_the_default(server: nbd.Server, out: Path, tmp_path: Path) -> None:
    images = [{"uri": server.uri("vda"), "dest": str(out / "a.qcow2")}]
    nbd.run_module({"images": images}, tmp_path)
    assert {path.stat().st_mode & 0o7777 for path in out.iterdir()} == {0o600}
    nobody = pwd.getpwnam("nobody")
    wanted = {"owner": "nobody", "group": str(nobody.pw_gid), "mode": "0640", "force": True}
    result = nbd.run_module({"images": images, **wanted}, tmp_path)
    assert result["changed"], result
    for path in out.iterdir():
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (nobody.pw_uid, nobody.pw_gid, 0o640)


def test_the_status_file_tells_the_end(server: nbd.Server, out: Path, tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    images = [{"uri": server.uri("vda"), "dest": str(out / "a.qcow2")}]
    nbd.run_module({"images": images, "status_file": str(status)}, tmp_path)
    content = json.loads(status.read_text())
    told = content["images"]
    # How long it took is not known here: at the very first look nothing has moved yet.
    rate = told[0].pop("rate")
    assert content["total"] == {
        "bytes_done": 20 * MIB,
        "bytes_total": 20 * MIB,
        "bytes_copied": 5 * MIB - 64 * 1024,
        "rate": rate,
    }
    assert rate > 0
    assert told == [
        {
            "dest": images[0]["dest"],
            "state": "done",
            "bytes_done": 20 * MIB,
            "bytes_total": 20 * MIB,
            "bytes_copied": 5 * MIB - 64 * 1024,
        }
    ]


@pytest.mark.parametrize("check", [True, False])
def test_an_export_that_is_not_there(server: nbd.Server, out: Path, tmp_path: Path, check: bool) -> None:
    images = [{"uri": server.uri("vdb"), "dest": str(out / "a.qcow2")}]
    result = nbd.run_module({"images": images}, tmp_path, check=check)
    assert result["failed"]
    assert result["msg"].startswith(f"images[0].uri: '{server.uri('vdb')}' can't be opened: ")
    assert "check that the server runs, serves this export" in result["msg"]
    assert nbd.names(out) == set()


@pytest.mark.parametrize("check", [True, False])
def test_a_dead_socket(out: Path, tmp_path: Path, check: bool) -> None:
    path = tmp_path / "dead.sock"
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    bound.close()
    images = [{"uri": f"nbd+unix:///vda?socket={path}", "dest": str(out / "a.qcow2")}]
    result = nbd.run_module({"images": images}, tmp_path, check=check)
    assert result["failed"]
    assert "Connection refused" in result["msg"]
    assert nbd.names(out) == set()


def test_a_port_where_nobody_listens(out: Path, tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        images = [{"uri": f"nbd://127.0.0.1:{bound.getsockname()[1]}/vda", "dest": str(out / "a.qcow2")}]
        result = nbd.run_module({"images": images}, tmp_path)
    assert "Connection refused" in result["msg"]
    assert nbd.names(out) == set()


@pytest.mark.parametrize("check", [True, False])
def test_a_backing_file_that_is_no_image(server: nbd.Server, out: Path, tmp_path: Path, check: bool) -> None:
    (out / "0.qcow2").write_text("no image")
    image = {"uri": server.uri("vda"), "dest": str(out / "a.qcow2"), "bitmap": "b", "backing_file": "0.qcow2"}
    result = nbd.run_module({"images": [image]}, tmp_path, check=check)
    assert "images[0].backing_file: '0.qcow2' is no readable qcow2 image" in result["msg"]
    assert nbd.names(out) == {"0.qcow2"}


def test_an_export_name_with_odd_letters(tmp_path: Path, out: Path) -> None:
    disk = nbd.create(tmp_path / "disk.qcow2", MIB)
    nbd.qemu_io(disk, "write -P 7 0 1M")
    with nbd.qemu_nbd(disk, "-r", export="a b/ü") as server:
        image = {"uri": f"nbd+unix:///a%20b%2F%C3%BC?socket={server.socket}", "dest": str(out / "a.qcow2")}
        result = nbd.run_module({"images": [image]}, tmp_path)
    assert result["changed"], result
    assert json.loads((out / "a.json").read_text())["export"] == "a b/ü"
    nbd.identical(out / "a.qcow2", disk)


def test_a_server_that_wants_tls(tmp_path: Path, out: Path) -> None:
    keys = tmp_path / "keys.psk"
    keys.write_text("backup:" + "0123456789abcdef" * 4 + "\n")
    keys.chmod(0o600)
    plain = nbd.create(tmp_path / "disk.raw", MIB, image_format="raw")
    nbd.qemu_io(plain, "write -P 7 0 1M", image_format="raw")
    with nbd.nbdkit(tmp_path, "--tls=require", f"--tls-psk={keys}", "file", plain) as server:
        dest = str(out / "a.qcow2")
        uri = f"nbds+unix://backup@/?socket={server.socket}&tls-psk-file={keys}"
        result = nbd.run_module({"images": [{"uri": uri, "dest": dest}]}, tmp_path)
        refused = nbd.run_module({"images": [{"uri": server.uri(), "dest": dest}], "force": True}, tmp_path)
    assert result["changed"], result
    assert "can't be opened" in refused["msg"]
    nbd.identical(out / "a.qcow2", plain, other_format="raw")


def test_it_finds_the_python_that_has_libnbd(server: nbd.Server, out: Path, tmp_path: Path) -> None:
    """Under an interpreter without the library, by Ansible itself: the module starts itself again."""
    bare = tmp_path / "bare"
    nbd.run("/usr/bin/python3", "-m", "venv", "--without-pip", bare)
    images = json.dumps({"images": [{"uri": server.uri("vda"), "dest": str(out / "a.qcow2")}]})
    command = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={bare}/bin/python"]
    printed = nbd.run_ansible(*command, "localhost", "-m", "virt.backup.nbd_extract", "-a", images)
    assert "CHANGED" in printed
    nbd.run("qemu-img", "check", "-q", out / "a.qcow2")
