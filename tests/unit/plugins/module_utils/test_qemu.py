# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gateway to QEMU's programs, on programs of our own that note how they were called."""

from __future__ import annotations

import json
import os
import shutil
import socket
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, ToolError

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Path]:
    """Put a ``qemu-img`` first in the path; return the file in which it notes its arguments, one a line."""

    def install(output: str = "", errors: str = "", status: int = 0) -> Path:
        (tmp_path / "output").write_text(output)
        (tmp_path / "errors").write_text(errors)
        script = tmp_path / "qemu-img"
        noted = tmp_path / "noted"
        lines = [
            f'printf "%s\\n" "$@" > {noted}',
            f"cat {tmp_path}/output",
            f"cat {tmp_path}/errors >&2",
            f"exit {status}",
        ]
        script.write_text("#!/bin/sh\n" + "\n".join(lines))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return noted

    return install


def test_info(program: t.Callable[..., Path]) -> None:
    told = {
        "format": "qcow2",
        "virtual-size": 1024,
        "backing-filename": "../a.qcow2",
        "backing-filename-format": "qcow2",
        "format-specific": {"type": "qcow2", "data": {"bitmaps": [{"name": "b0"}, {"name": "b1"}]}},
    }
    noted = program(json.dumps(told))
    expected = _qemu.ImageInfo("qcow2", 1024, "../a.qcow2", "qcow2", ("b0", "b1"))
    assert _qemu.info("/x/b.qcow2", "qcow2") == expected
    assert noted.read_text().split() == ["info", "--output=json", "--force-share", "-f", "qcow2", "/x/b.qcow2"]


def test_info_of_a_plain_image(program: t.Callable[..., Path]) -> None:
    program(json.dumps({"format": "raw", "virtual-size": 512}))
    assert _qemu.info("/x/b") == _qemu.ImageInfo("raw", 512)


@pytest.mark.parametrize("path", ["nbd:host", "-b", "json:{}"])
def test_a_path_is_never_a_protocol_or_an_option(program: t.Callable[..., Path], path: str) -> None:
    noted = program()
    _qemu.check(path)
    assert noted.read_text().splitlines()[-1].startswith("/")


def test_rebase(program: t.Callable[..., Path]) -> None:
    noted = program()
    _qemu.rebase_unsafe("/x/b.qcow2", "../a.qcow2", "qcow2")
    words = "rebase -q -u -f qcow2 -F qcow2 -b ../a.qcow2 /x/b.qcow2"
    assert noted.read_text().split() == words.split()


def test_a_failure_is_one_line(program: t.Callable[..., Path]) -> None:
    program(errors="qemu-img: Could not open\n 'x': No such file.\n", status=1)
    expected = r"^qemu-img check failed with status 1: Could not open 'x': No such file\.$"
    with pytest.raises(ToolError, match=expected):
        _qemu.check("/x")


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_kwargs: None)
    with pytest.raises(BackupError, match=r"qemu-img is missing on this machine; install the package qemu-utils"):
        _qemu.check("/x")


MAP = """[{ "start": 0, "length": 65536, "depth": 1, "present": true, "zero": false, "data": true, "offset": 327680},
{ "start": 65536, "length": 65536, "depth": 0, "present": true, "zero": false, "data": true},
{ "start": 131072, "length": 512, "depth": 1, "present": false, "zero": true, "data": false}]
"""


def test_a_map_of_a_chain(program: t.Callable[..., Path]) -> None:
    noted = program(MAP)
    told = _qemu.ChainMap(["/x/a.qcow2", "/x/b.qcow2"])
    assert list(told) == [
        _qemu.MapExtent(0, 65536, 1, False, 327680),
        _qemu.MapExtent(65536, 65536, 0, False, -1),
        _qemu.MapExtent(131072, 512, 1, True, -1),
    ]
    told.close()
    words = noted.read_text().split("\n")
    assert words[:2] == ["map", "--output=json"]
    top = json.loads(words[2].partition(":")[2])
    assert (top["file"]["filename"], top["backing"]["file"]["filename"]) == ("/x/b.qcow2", "/x/a.qcow2")
    assert (top["backing"]["backing"], top["read-only"], top["force-share"]) == (None, True, True)


def test_a_map_that_fails_behind_some_extents(program: t.Callable[..., Path]) -> None:
    program(MAP.splitlines()[0], "qemu-img: image is corrupt\n", 1)
    told = _qemu.ChainMap(["/x/a.qcow2"])
    with pytest.raises(ToolError, match=r"^qemu-img map failed with status 1: image is corrupt\.$"):
        list(told)
    told.close()


def test_a_storage_daemon_serves_for_reading_and_is_told_no_secret() -> None:
    exports = [_qemu.Export("vda", ("/x/a", "/x/b"), True), _qemu.Export("vdb", ("/x/c",), False)]
    with _qemu.storage_daemon(exports, "/run/a,b", "/run/a.pid", Encryption(b"s3cret")) as (command, fds):
        assert os.pread(fds[0], 99, 0) == b"s3cret"
        assert not any("s3cret" in word for word in command)
        assert f"secret,id=key,file=/dev/fd/{fds[0]}" in command
        nodes = [json.loads(word) for word in command if word.startswith("{")]
    assert [node["node-name"] for node in nodes] == ["disk0", "disk1"]
    assert (nodes[0]["encrypt"], nodes[0]["backing"]["encrypt"]) == ({"format": "luks", "key-secret": "key"},) * 2
    assert "encrypt" not in nodes[1]
    assert all(node["read-only"] and node["force-share"] for node in nodes)
    assert "addr.type=unix,addr.path=/run/a,,b,max-connections=0" in command
    assert "type=nbd,id=disk1,node-name=disk1,name=vdb,writable=off" in command


def test_a_socket_that_has_its_name_but_does_not_listen_yet(tmp_path: Path) -> None:
    """A server binds first: whoever connects at that moment is refused."""
    path = str(tmp_path / "a")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
        assert not _qemu._listens(path)
        bound.listen()
        assert _qemu._listens(path)
    assert not _qemu._listens(path)
