# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that die, stall, err or answer oddly: the right bytes, or one clear sentence and no file under the final name."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store import tries
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.bad_storage import (
    FAULTS,
    READ_ONLY,
    Fault,
    Storage,
)
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_scene import in_memory

if t.TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host
out = without_hypervisor.out


@pytest.fixture(autouse=True)
def tried(request: pytest.FixtureRequest) -> t.Iterator[None]:
    with tries.told(request.node):
        yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a raw disk of 64 MiB full of data."""
    path = tmp_path / "source.raw"
    path.write_bytes(b"".join(bytes([number + 1]) * MIB for number in range(64)))
    return path


def copy(server: nbd.Server, out: Path, **options: t.Any) -> dict[str, t.Any]:
    request = ExtractRequest(images=(ImageRequest(server.uri(), str(out / "a.qcow2")),), **options)
    result: dict[str, t.Any] = extract(request, check=False).result["images"][0]
    return result


def when(status: Path, arrived: t.Callable[[dict[str, t.Any]], bool]) -> None:
    """Return once the status file tells of it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if status.exists() and arrived(json.loads(status.read_text())["images"][0]):
            return
        time.sleep(0.01)
    raise AssertionError("the copy did not get that far")


@pytest.mark.parametrize("connections", [1, 4])
def test_a_server_that_dies_in_the_middle(tmp_path: Path, source: Path, out: Path, connections: int) -> None:
    status = tmp_path / "status.json"
    with nbd.nbdkit(tmp_path, "--filter=rate", "file", source, "rate=64M") as server:

        def kill() -> None:
            when(status, lambda image: image["bytes_done"] > 0)
            server.signal(signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(StateError, match=r"^images\[0\]\.uri: reading from .* failed: .*was not written"):
            copy(server, out, connections=connections, status_file=str(status))
        killer.join()
    assert nbd.names(out) == set()
    assert json.loads(status.read_text())["images"][0]["state"] == "failed"


@pytest.mark.parametrize("connections", [1, 4])
def test_a_server_that_stalls_in_the_middle(tmp_path: Path, source: Path, out: Path, connections: int) -> None:
    status = tmp_path / "status.json"
    with nbd.nbdkit(tmp_path, "--filter=rate", "file", source, "rate=64M") as server:

        def stop() -> None:
            when(status, lambda image: image["bytes_done"] > 0)
            server.signal(signal.SIGSTOP)

        stopper = threading.Thread(target=stop)
        stopper.start()
        began = time.monotonic()
        with pytest.raises(StateError, match="the server sent nothing for 2 seconds"):
            copy(server, out, connections=connections, status_file=str(status), timeout=2)
        assert time.monotonic() - began < 20
        stopper.join()
    assert nbd.names(out) == set()


def test_a_server_that_stalls_before_it_says_hello(tmp_path: Path, source: Path, out: Path) -> None:
    with nbd.nbdkit(tmp_path, "file", source) as server:
        server.signal(signal.SIGSTOP)
        with pytest.raises(InputError, match=r"images\[0\]\.uri: .* the server sent nothing for 1 seconds"):
            copy(server, out, timeout=1)
    assert nbd.names(out) == set()


def test_a_slow_server_is_no_stalled_server(tmp_path: Path, source: Path, out: Path) -> None:
    """The harmless twin: bytes keep coming, each request takes longer than the time-out allows for silence."""
    with nbd.nbdkit(tmp_path, "--filter=rate", "file", source, "rate=200M") as server:
        copy(server, out, timeout=1)
    nbd.identical(out / "a.qcow2", source, other_format="raw")


@pytest.mark.parametrize("what", ["error-pread-rate=50%", "error-extents-rate=100%"])
def test_errors_of_the_server_end_the_copy(tmp_path: Path, source: Path, out: Path, what: str) -> None:
    with (
        nbd.nbdkit(tmp_path, "--filter=error", "file", source, what, "error=EIO") as server,
        pytest.raises(StateError, match=r"Input/output error"),
    ):
        copy(server, out)
    assert nbd.names(out) == set()


def test_errors_of_what_is_not_asked_for_do_not_matter(tmp_path: Path, source: Path, out: Path) -> None:
    """The harmless twin: nobody writes, trims or zeroes at the source."""
    with nbd.nbdkit(
        tmp_path, "--filter=error", "file", source, "error-pwrite-rate=100%", "error-zero-rate=100%"
    ) as server:
        copy(server, out)
    nbd.identical(out / "a.qcow2", source, other_format="raw")


@pytest.mark.parametrize(
    "filters",
    [
        (
            "--filter=blocksize-policy",
            "blocksize-minimum=4096",
            "blocksize-maximum=128K",
            "blocksize-error-policy=error",
        ),
        (
            "--filter=blocksize-policy",
            "blocksize-minimum=65536",
            "blocksize-preferred=65536",
            "blocksize-maximum=256K",
            "blocksize-error-policy=error",
        ),
        ("--filter=noextents",),
        ("--filter=noparallel", "serialize=connections"),
        ("--filter=multi-conn", "multi-conn-mode=disable"),
        ("--filter=delay", "delay-read=5ms"),
        ("--filter=extentlist",),
    ],
    ids=lambda filters: filters[0].partition("=")[2],
)
def test_servers_with_rules_of_their_own(tmp_path: Path, source: Path, out: Path, filters: tuple[str, ...]) -> None:
    words = [word for word in filters if word.startswith("--")]
    rest = [word for word in filters if not word.startswith("--")]
    if "--filter=extentlist" in words:
        listed = tmp_path / "extents"
        listed.write_text("".join(f"{at}M 1M {('', 'hole')[at % 2]}\n" for at in range(64)))
        rest.append(f"extentlist={listed}")
    with nbd.nbdkit(tmp_path, *words, "file", source, *rest) as server:
        copy(server, out)
    nbd.identical(out / "a.qcow2", source, other_format="raw")


def test_the_odd_end_behind_a_minimum_block_size(tmp_path: Path, out: Path) -> None:
    """The protocol lets nobody read these bytes; to leave them out in silence would be worse than an error."""
    path = tmp_path / "odd.raw"
    path.write_bytes(b"x" * (MIB + 100))
    filters = ("--filter=blocksize-policy", "file", path, "blocksize-minimum=512", "blocksize-error-policy=error")
    with nbd.nbdkit(tmp_path, *filters) as server, pytest.raises(StateError, match=r"reading from .* failed"):
        copy(server, out)
    assert nbd.names(out) == set()


def test_one_failing_image_stops_the_others_and_none_gets_its_name(tmp_path: Path, source: Path, out: Path) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.mkdir()
    good.mkdir()
    with (
        nbd.nbdkit(bad, "--filter=error", "file", source, "error-pread-rate=100%") as broken,
        nbd.nbdkit(good, "--filter=rate", "file", source, "rate=8M") as slow,
    ):
        images = (ImageRequest(slow.uri(), str(out / "a.qcow2")), ImageRequest(broken.uri(), str(out / "b.qcow2")))
        began = time.monotonic()
        with pytest.raises(StateError, match=r"^images\[1\]"):
            extract(ExtractRequest(images=images), check=False)
        assert time.monotonic() - began < 10
    assert nbd.names(out) == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(tmp_path: Path, source: Path, out: Path, number: signal.Signals) -> None:
    status = tmp_path / "status.json"
    with nbd.nbdkit(tmp_path, "--filter=rate", "file", source, "rate=32M") as server:
        images = [{"uri": server.uri(), "dest": str(out / "a.qcow2")}]
        process = nbd.module_process({"images": images, "status_file": str(status)}, tmp_path)
        when(status, lambda image: image["bytes_done"] > 0)
        process.send_signal(number)
        result = json.loads(process.communicate(timeout=20)[0])
    assert result["failed"]
    assert signal.Signals(number).name in result["msg"]
    assert nbd.names(out) == set()


def test_a_full_file_system(tmp_path: Path, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        nbd.nbdkit(tmp_path, "file", source) as server,
        pytest.raises(StateError, match=r"images\[0\]\.dest: writing .* failed: No space left on device"),
    ):
        copy(server, out)
    assert nbd.names(out) == set()


def test_a_status_file_that_goes_away_does_not_matter(tmp_path: Path, source: Path, out: Path) -> None:
    """The copy is worth more than the news of it."""
    folder = tmp_path / "status"
    folder.mkdir()
    with nbd.nbdkit(tmp_path, "--filter=rate", "file", source, "rate=200M") as server:

        def remove() -> None:
            when(folder / "status.json", lambda image: image["bytes_done"] >= 0)
            shutil.rmtree(folder)

        remover = threading.Thread(target=remove)
        remover.start()
        copy(server, out, status_file=str(folder / "status.json"))
        remover.join()
    nbd.identical(out / "a.qcow2", source, other_format="raw")


def test_the_rate_limit_holds(tmp_path: Path, source: Path, out: Path) -> None:
    with nbd.nbdkit(tmp_path, "file", source) as server:
        result = copy(server, out, rate_limit=32 * MIB)
    assert 1.8 < result["seconds"] < 6
    nbd.identical(out / "a.qcow2", source, other_format="raw")


def test_every_kill_between_the_renames_is_safe(
    tmp_path: Path, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash table of docs/internals/extract.md: after any step, a run for the new moment never says unchanged wrongly."""

    class Killed(BaseException):
        pass

    def request(server: nbd.Server, source_id: str, *, force: bool) -> ExtractRequest:
        image = ImageRequest(server.uri(), str(out / "a.qcow2"), source_id=source_id)
        return ExtractRequest(images=(image,), force=force)

    steps: dict[str, t.Callable[..., None]] = {"rename": os.rename, "unlink": os.unlink}

    def run_killed_at(server: nbd.Server, kill_at: int, *, force: bool) -> None:
        done = 0

        def counted(name: str) -> t.Callable[..., None]:
            def step(*args: t.Any) -> None:
                nonlocal done
                if not str(args[0]).rpartition("/")[2].startswith(".") or name == "rename":
                    done += 1
                    if done == kill_at:
                        raise Killed
                steps[name](*args)

            return step

        for name in steps:
            monkeypatch.setattr(os, name, counted(name))
        with pytest.raises(Killed):
            extract(request(server, "new", force=force), check=False)
        monkeypatch.undo()

    with nbd.nbdkit(tmp_path, "file", source) as server:
        for kill_at in (1, 2, 3):
            run_killed_at(server, kill_at, force=False)
            assert not (out / "a.qcow2").exists()
            assert extract(request(server, "new", force=False), check=False).changed
            assert not extract(request(server, "new", force=False), check=False).changed
            (out / "a.qcow2").unlink()
        extract(request(server, "old", force=True), check=False)
        for kill_at in (1, 2, 3, 4):
            run_killed_at(server, kill_at, force=True)
            with pytest.raises(InputError, match="exists"):
                extract(request(server, "new", force=False), check=False)
            assert extract(request(server, "old", force=True), check=False).changed


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_call_that_fails_while_images_are_made(tmp_path: Path, fault: Fault) -> None:
    """One sentence and no name, of the first image as little as of the second; then the same call is right."""
    disk = small_disk(tmp_path)
    with in_memory() as out, nbd.qemu_nbd(disk, "-r") as server:
        names = [str(out / "a.qcow2"), str(out / "b.qcow2")]
        images = tuple(ImageRequest(server.uri(), name, source_id="monday") for name in names)
        request = ExtractRequest(images=images, connections=1)
        for error in each_fault(fault, out, lambda: extract(request, check=False)):
            if fault is not READ_ONLY:  # where nothing can be taken back any more
                assert (nbd.names(out) == set()) is (error is not None)
            assert extract(request, check=False).changed is (error is not None) or fault is READ_ONLY
            assert not extract(request, check=False).changed
            for name in ("a", "b"):
                nbd.identical(out / f"{name}.qcow2", disk)
            shutil.rmtree(out)
            out.mkdir()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_call_that_fails_while_an_image_is_replaced(tmp_path: Path, fault: Fault) -> None:
    """The old image with its record, or one without that only force replaces: nothing is taken for the new one."""
    disk = small_disk(tmp_path)
    with in_memory() as out, nbd.qemu_nbd(disk, "-r") as server:

        def request(source_id: str, *, force: bool) -> ExtractRequest:
            image = ImageRequest(server.uri(), str(out / "a.qcow2"), source_id=source_id)
            return ExtractRequest(images=(image,), connections=1, force=force)

        extract(request("old", force=True), check=False)
        for error in each_fault(fault, out, lambda: extract(request("new", force=True), check=False)):
            if error is not None and fault is not READ_ONLY:
                with pytest.raises(InputError, match="exists"):
                    extract(request("new", force=False), check=False)
            nbd.identical(out / "a.qcow2", disk)
            extract(request("new", force=True), check=False)
            assert not extract(request("new", force=False), check=False).changed
            extract(request("old", force=True), check=False)


def small_disk(folder: Path) -> Path:
    disk = nbd.create(folder / "disk.qcow2", MIB)
    nbd.qemu_io(disk, "write -P 1 0 128k", "write -P 2 512k 64k")
    return disk


def each_fault(fault: Fault, out: Path, action: t.Callable[[], object]) -> t.Iterator[BackupError | None]:
    """Do ``action`` with the fault one call later each time, until none is left; yield the error."""
    number, met = 0, True
    while met:
        number += 1
        storage = Storage(fault, number, out)
        error: BackupError | None = None
        with storage.at_work():
            try:
                action()
            except BackupError as caught:
                error = caught
        met = storage.met >= number
        assert error is None or re.fullmatch(r"images\[[01]\]\.dest: [^\n]+; [^\n;]+\.", str(error)), str(error)
        yield error
    assert number > 3, "hardly anything failed"


def test_a_truncated_image_is_not_taken_for_unchanged(tmp_path: Path, source: Path, out: Path) -> None:
    with nbd.nbdkit(tmp_path, "file", source) as server:
        images = (ImageRequest(server.uri(), str(out / "a.qcow2"), source_id="monday"),)
        extract(ExtractRequest(images=images), check=False)
        os.truncate(out / "a.qcow2", CLUSTER)
        with pytest.raises(BackupError, match="is not the file its record describes"):
            extract(ExtractRequest(images=images), check=False)
