# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every end has to do, whatever it is: one suite, run unchanged over all of them, with faults and cancel."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor
from ansible_collections.virt.backup.tests.integration.ends_kit import ENDS, MORE_ENDS, OLD, Dest

if t.TYPE_CHECKING:
    from pathlib import Path

KIB = 1024
MIB = 1024 * KIB

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host
out = without_hypervisor.out

every_end = pytest.mark.parametrize("end", ENDS)
every_end_and_more = pytest.mark.parametrize("end", MORE_ENDS)


def copy(server: nbd.Server, dest: Dest, **options: t.Any) -> dict[str, t.Any]:
    image = ImageRequest(server.uri(), dest.dest, format=dest.format)
    request = ExtractRequest(images=(image,), force=True, direct=dest.direct, **options)
    result: dict[str, t.Any] = extract(request, check=False).result
    return t.cast("dict[str, t.Any]", result["images"][0])


def make_source(path: Path, size: int, *pieces: tuple[int, int]) -> Path:
    """Make a raw disk with pieces (start, length) of data, the rest of it holes."""
    with path.open("wb") as file:
        file.truncate(size)
        for number, (start, length) in enumerate(pieces):
            if start < size:
                file.seek(start)
                file.write(bytes([number % 250 + 1]) * min(length, size - start))
    return path


def same(dest: Dest, source: Path) -> None:
    nbd.run("qemu-img", "compare", "-q", "-U", "-f", dest.format, "-F", "raw", dest.show, source)
    if dest.format == "qcow2":
        nbd.run("qemu-img", "check", "-q", dest.show)


@every_end
@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (512, [(0, 512)]),
        (3 * MIB + 65 * 512, [(0, 64 * KIB), (MIB + 128 * KIB, 64 * KIB), (3 * MIB + 64 * 512, 512)]),
        (3 * MIB + 65, [(MIB, MIB), (3 * MIB, 65)]),
        (5 * MIB + 1, [(0, 1), (4 * MIB, 5 * KIB)]),
        (40 * MIB, [(at * 128 * KIB, 64 * KIB) for at in range(200)]),
        (20 * MIB, []),
        (20 * MIB, [(0, 20 * MIB)]),
    ],
    ids=["sector", "sectors", "odd", "zero-end", "fragments", "nothing", "everything"],
)
def test_it_shows_what_was_served_and_nothing_old(
    tmp_path: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
    connections: int,
    size: int,
    pieces: list[tuple[int, int]],
) -> None:
    """Data, zeroes, holes and the last partial cluster, over old content that must not show anywhere."""
    source = make_source(tmp_path / "source.raw", size, *pieces)
    with ENDS[end](out, size, monkeypatch) as dest, nbd.nbdkit(tmp_path, "file", source) as server:
        result = copy(server, dest, connections=connections)
        assert (result["size"], result["atomic"]) == (size, not dest.in_place)
    same(dest, source)


@every_end_and_more
def test_zeroes_that_are_served_as_data(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Without extents every byte is read, and what is zero is found out by looking, the odd end of the disk too."""
    size = 9 * MIB + 65
    source = make_source(tmp_path / "source.raw", size, (MIB, MIB), (4 * MIB, 64 * KIB))
    with MORE_ENDS[end](out, size, monkeypatch) as dest, nbd.nbdkit(tmp_path, "--no-sr", "file", source) as server:
        copy(server, dest)
    same(dest, source)


def left_as_it_must_be(dest: Dest, message: str, before: set[str], out: Path, old: bytes = b"") -> None:
    """A file still has its old content and nothing new beside it; of the others the error says what they are now."""
    told = f"The content of '{dest.dest}' is undefined now." in message
    assert told is dest.in_place
    assert nbd.names(out) == before
    if not dest.in_place:
        assert dest.show.read_bytes() == (old or OLD * dest.show.stat().st_size)


@every_end_and_more
@pytest.mark.parametrize("connections", [1, 4])
def test_a_read_that_fails_in_the_middle(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, end: str, connections: int
) -> None:
    source = make_source(tmp_path / "source.raw", 20 * MIB, (0, 20 * MIB))
    marker = tmp_path / "fail"
    filters = ("--filter=error", "file", source, "error-pread-rate=100%", f"error-file={marker}")
    with MORE_ENDS[end](out, 20 * MIB, monkeypatch) as dest, nbd.nbdkit(tmp_path, *filters) as server:
        before = nbd.names(out)
        marker.touch()
        with pytest.raises(StateError, match=r"^images\[0\]\.uri: reading from .* failed") as caught:
            copy(server, dest, connections=connections)
        left_as_it_must_be(dest, caught.value.message, before, out)


@every_end
def test_a_write_that_fails_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """The file system under the end is full: told by the write, the server, or the sync of the device."""
    small, size = tmp_path / "small", 30 * MIB
    small.mkdir()
    source = make_source(tmp_path / "source.raw", size, (0, size))
    with contextlib.ExitStack() as stack:
        nbd.run("mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", small)
        stack.callback(subprocess.run, ["umount", small], check=True)
        dest = stack.enter_context(ENDS[end](small, size, monkeypatch, full=False))
        server = stack.enter_context(nbd.nbdkit(tmp_path, "file", source))
        before = nbd.names(small)
        with pytest.raises(StateError, match=r"^images\[0\]\.dest: .*(No space left|Input/output error)") as caught:
            copy(server, dest)
        left_as_it_must_be(dest, caught.value.message, before, small, old=bytes(size))


@every_end_and_more
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_cancel(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, end: str, number: signal.Signals) -> None:
    status = tmp_path / "status.json"
    source = make_source(tmp_path / "source.raw", 40 * MIB, (0, 40 * MIB))
    slow = ("--filter=rate", "file", source, "rate=64M")
    with MORE_ENDS[end](out, 40 * MIB, monkeypatch) as dest, nbd.nbdkit(tmp_path, *slow) as server:
        before = nbd.names(out)
        image = {"uri": server.uri(), "dest": dest.dest, "format": dest.format}
        parameters = {"images": [image], "force": True, "direct": dest.direct, "status_file": str(status)}
        process = nbd.module_process(parameters, tmp_path)
        deadline = time.monotonic() + 30
        while not (status.exists() and json.loads(status.read_text())["images"][0]["bytes_done"]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, number)
        result = json.loads(process.communicate(timeout=30)[0])
        assert result["failed"]
        assert number.name in result["msg"]
        left_as_it_must_be(dest, result["msg"], before, out)
