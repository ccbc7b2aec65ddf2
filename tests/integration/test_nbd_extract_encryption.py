# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encrypted images: what QEMU reads of them with the secret, and who else ever sees that secret."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time
import typing as t
import zlib
from pathlib import Path

import pytest

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._copy.ends import Means
from ansible_collections.virt.backup.plugins.module_utils._copy.qemu_file import QemuFile
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
from ansible_collections.virt.backup.plugins.module_utils._model.errors import ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import without_hypervisor
from ansible_collections.virt.backup.tests.integration.watch import Watch

MIB = 1024 * 1024
SECRET = "Kq9-täglich-0x7"
QUICK = 1  # milliseconds: QEMU still takes a thousand rounds, which protects nothing here

lab_host = without_hypervisor.lab_host
out = without_hypervisor.out


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """Return the file with the secret."""
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(SECRET)
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return a disk with two dirty clusters and a zeroed one, in the bitmap ``b``, and as it was before: ``before``."""
    path = nbd.create(tmp_path / "disk.qcow2", 20 * MIB + 512)
    nbd.qemu_io(path, "write -P 1 0 5M", "write -P 9 20M 512")
    nbd.run("cp", path, tmp_path / "before.qcow2")
    nbd.add_bitmap(path, "b")
    nbd.qemu_io(path, "write -P 2 1M 128k", "write -z 2M 64k", "write -P 3 20M 512")
    return path


def options_of(path: Path, secret_file: Path) -> list[str]:
    """Return an image with all below it (named by its own header) as QEMU's programs take it with a secret."""
    info = json.loads(nbd.run("qemu-img", "info", "--output=json", "--backing-chain", path))
    words = ["driver=qcow2", f"file.filename={path}", "encrypt.key-secret=k"]
    for depth, image in enumerate(info[1:], 1):
        prefix = "backing." * depth
        words += [f"{prefix}driver=qcow2", f"{prefix}file.filename={image['filename']}"]
        words.append(f"{prefix}encrypt.key-secret=k")
    return ["--object", f"secret,id=k,file={secret_file}", "--image-opts", ",".join(words)]


def same_as(path: Path, secret_file: Path, disk: Path, tmp_path: Path) -> None:
    """Assert that QEMU reads from the chain, with the secret, what is on the disk."""
    plain = tmp_path / "plain.raw"
    options = options_of(path, secret_file)
    nbd.run("qemu-img", "convert", "-O", "raw", *options, plain)
    nbd.run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", plain, disk)
    plain.unlink()


def extraction(server: nbd.Server, dest: Path, encryption: dict[str, t.Any], **image: t.Any) -> dict[str, t.Any]:
    images = [{"uri": server.uri("vda"), "dest": str(dest), "source_id": dest.stem, **image}]
    return {"images": images, "encryption": {"iter_time": QUICK, **encryption}}


def test_a_chain_with_a_secret_that_nobody_else_sees(disk: Path, out: Path, secret_file: Path, tmp_path: Path) -> None:
    """A full by file, an increment by variable: four times each, and the secret is in nothing but its own file."""
    status = tmp_path / "status.json"
    results = []
    with Watch(SECRET) as watch:
        with nbd.qemu_nbd(tmp_path / "before.qcow2", "-r", export="vda") as server:
            full = {
                **extraction(server, out / "0.qcow2", {"secret_file": str(secret_file)}),
                "status_file": str(status),
            }
            results += [nbd.run_module(full, tmp_path, check=check) for check in (True, False, True, False)]
        with nbd.qemu_nbd(disk, "-r", "-B", "b", export="vda") as server:
            more = extraction(server, out / "1.qcow2", {"secret": SECRET}, bitmap="b", backing_file="0.qcow2")
            results += [nbd.run_module(more, tmp_path, check=check) for check in (True, False, True, False)]
    assert [result.get("msg") for result in results] == [None] * 8
    assert [result["changed"] for result in results] == [True, True, False, False] * 2
    assert {result["images"][0]["encryption"] for result in results} == {"luks"}
    assert {b"qemu-img", b"qemu-nbd"} <= watch.programs
    assert watch.found == set()
    told = [json.dumps(result, ensure_ascii=False) for result in results]
    told += [path.read_text() for path in (status, out / "0.json", out / "1.json")]
    assert [text for text in told if SECRET in text] == []
    assert nbd.names(out) == {"0.qcow2", "0.json", "1.qcow2", "1.json"}
    assert json.loads((out / "1.json").read_text())["encryption"] == "luks"
    assert results[5]["images"][0]["bytes_copied"] == 192 * 1024 - CLUSTER + 512
    same_as(out / "0.qcow2", secret_file, tmp_path / "before.qcow2", tmp_path)
    same_as(out / "1.qcow2", secret_file, disk, tmp_path)
    for path in (out / "0.qcow2", out / "1.qcow2"):
        content = path.read_bytes()
        assert not any(bytes([value]) * 512 in content for value in (1, 2, 3, 9))
        _qemu.check(str(path), encryption=Encryption(SECRET.encode()))
        assert _qemu.info(str(path)).encrypted
        with pytest.raises(ToolError, match="key-secret"):
            _qemu.check(str(path))
    refused_secrets(disk, out, tmp_path)


def refused_secrets(disk: Path, out: Path, tmp_path: Path) -> None:
    """A base that is encrypted wants its own secret, and one that is not wants none. Nothing is left of the attempts."""
    nbd.create(out / "clear.qcow2", 20 * MIB + 512)
    before = nbd.names(out)
    with nbd.qemu_nbd(disk, "-r", "-B", "b", export="vda") as server:

        def message(encryption: dict[str, t.Any] | None, backing_file: str) -> str:
            call = extraction(server, out / "2.qcow2", encryption or {}, bitmap="b", backing_file=backing_file)
            if encryption is None:
                del call["encryption"]
            said = {nbd.run_module(call, tmp_path, check=check)["msg"] for check in (True, False)}
            assert len(said) == 1
            return said.pop()

        assert message({"secret": "0ther-w0rd"}, "0.qcow2") == (
            "encryption: '(hidden)' is another secret than that of '0.qcow2', the backing_file; "
            "give the secret with which the chain was made, or take a full image."
        )
        assert "images[0].backing_file: 'clear.qcow2' is not encrypted" in message({"secret": SECRET}, "clear.qcow2")
        assert "images[0].backing_file: '0.qcow2' is an encrypted image" in message(None, "0.qcow2")
    assert nbd.names(out) == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"encryption": {}}, "encryption: 'neither secret_file nor secret' is not one secret; give exactly one"),
        (
            {"encryption": {"secret": "q7x9", "secret_file": "/b"}},
            "encryption: 'both secret_file and secret' is not one",
        ),
        ({"encryption": {"secret_file": "b"}}, "encryption.secret_file: 'b' is relative; give an absolute path."),
        ({"encryption": {"secret_file": "/none"}}, "encryption.secret_file: '/none' can't be read (No such file"),
        ({"encryption": {"secret_file": "/dev/null"}}, "encryption.secret_file: '/dev/null' is no regular file"),
        (
            {"encryption": {"secret_file": "/etc/passwd"}},
            "'/etc/passwd' is open to every user (mode 0644); give it mode",
        ),
        ({"encryption": {"secret": "x" * 5000}}, "encryption.secret: '(hidden)' is longer than 4096 bytes"),
        (
            {"encryption": {"secret": "nul\0here"}},
            "encryption.secret: '(hidden)' is no text in UTF-8, which QEMU wants",
        ),
        ({"encryption": {"secret": "q7x9", "iter_time": 0}}, "encryption.iter_time: 0 is out of range; use 1 to 60000"),
        ({"direct": True}, "direct: True can't be used together with encryption: QEMU writes these images, buffered; "),
        ({"compression": "zstd"}, "compression: 'zstd' can't be used together with encryption: QEMU stores"),
        ({"format": "raw"}, "encryption: 'luks' can't be used for the raw image"),
    ],
)
def test_what_is_refused_before_anything_is_written(
    out: Path, tmp_path: Path, change: dict[str, t.Any], sentence: str
) -> None:
    image = {"uri": "nbd+unix:///vda?socket=/none", "dest": str(out / "a.qcow2")}
    call: dict[str, t.Any] = {"images": [image], "encryption": {"secret": "abc"}, **change}
    if "format" in call:
        image["format"] = call.pop("format")
    result = nbd.run_module(call, tmp_path)
    assert result["failed"]
    assert sentence in result["msg"]
    assert nbd.names(out) == set()


def test_qemu_stores_compressed_clusters_in_the_clear(tmp_path: Path, secret_file: Path) -> None:
    """Why compression and encryption exclude each other: a reader without the secret finds the content."""
    path = tmp_path / "image.qcow2"
    with path.open("wb+") as file:
        _qemu.create(file.fileno(), MIB, "", "", Encryption(SECRET.encode(), QUICK))
    image = f"driver=qcow2,encrypt.key-secret=k,file.filename={path}"
    keys = ["--object", f"secret,id=k,file={secret_file}", "--image-opts"]
    nbd.run("qemu-io", *keys, "-c", "write -P 7 0 64k", image)
    assert b"\7" * CLUSTER not in inflated(path)
    nbd.run("qemu-io", *keys, "-c", "write -c -P 7 64k 64k", image)
    assert b"\7" * CLUSTER in inflated(path)


def inflated(path: Path) -> list[bytes]:
    """Return what clusters of the file hold as compressed data."""
    content, found = path.read_bytes(), []
    for at in range(0, len(content), CLUSTER):
        with contextlib.suppress(zlib.error):
            found.append(zlib.decompressobj(-12).decompress(content[at : at + CLUSTER]))
    return found


def test_an_end_that_is_closed_early_leaves_no_process(tmp_path: Path) -> None:
    with (tmp_path / "image.qcow2").open("wb+") as file:
        end = QemuFile(file.fileno(), MIB, "", "", Means("none", None, 30.0, threading.Event()))
        end.write(0, memoryview(bytearray(b"x" * CLUSTER)))
        pid = end._server.pid
        assert Path(f"/proc/{pid}").exists()
        end.close()
        assert not Path(f"/proc/{pid}").exists()


def test_a_server_that_dies_is_told_as_such(tmp_path: Path) -> None:
    with (tmp_path / "image.qcow2").open("wb+") as file:
        end = QemuFile(file.fileno(), MIB, "", "", Means("none", None, 30.0, threading.Event()))
        with contextlib.closing(end):
            os.kill(end._server.pid, signal.SIGKILL)
            with pytest.raises(ToolError, match=r"^qemu-nbd could not write the image: "):
                end.write(0, memoryview(bytearray(b"x" * CLUSTER)))


def test_a_killed_module_leaves_no_server(disk: Path, out: Path, tmp_path: Path) -> None:
    """Killed outright in the middle of a copy: the server behind the new image ends by itself."""
    with nbd.qemu_nbd(disk, "-r", export="vda") as server:
        call = {**extraction(server, out / "a.qcow2", {"secret": SECRET}), "rate_limit": MIB}
        process = nbd.module_process(call, tmp_path)
        ended = os.pidfd_open(child_of(process))
        process.kill()
        process.communicate()
    assert select.select([ended], [], [], 10)[0], "the server outlives the module"
    os.close(ended)
    assert not [name for name in nbd.names(out) if not name.startswith(".")]


def child_of(process: subprocess.Popen[str]) -> int:
    """Wait until the module runs its qemu-nbd and return that one's number."""
    deadline = time.monotonic() + 30
    children = Path(f"/proc/{process.pid}/task")
    while time.monotonic() < deadline:
        for task in children.glob("*/children"):
            for pid in task.read_text().split():
                with contextlib.suppress(OSError):
                    if (Path("/proc") / pid / "comm").read_text().strip() == "qemu-nbd":
                        return int(pid)
        time.sleep(0.01)
    raise AssertionError("no qemu-nbd was started")
