# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NBD servers: qemu-nbd, and qemu-storage-daemon in the shape in which libvirt serves a running pull job."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from benchmarks.model import BenchError

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PATIENCE = 20.0


@dataclasses.dataclass(frozen=True)
class Server:
    """A running server: the processes that serve, and where."""

    pids: tuple[int, ...]
    path: Path | None = None
    port: int = 0

    def uri(self, export: str = "") -> str:
        """Return the URI of an export."""
        return f"nbd+unix:///{export}?socket={self.path}" if self.path else f"nbd://127.0.0.1:{self.port}/{export}"


@contextlib.contextmanager
def started(ready: t.Callable[[], bool], *command: str | Path) -> Iterator[int]:
    """Run a server in the background, wait until it is ready, yield its process id and end it afterwards."""
    words = [str(word) for word in command]
    # Not the terminal's: what clients that leave without a word make a server say is no news.
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=errors) as process,
    ):
        try:
            deadline = time.monotonic() + _PATIENCE
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    errors.seek(0)
                    raise BenchError(f"{words[0]} did not become ready: {errors.read().decode(errors='replace')}")
                time.sleep(0.01)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def listening(address: Path | int) -> bool:
    """Whether a socket's path or a port of the loopback takes connections."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    with socket.socket(family) as probe:
        target = ("127.0.0.1", address) if isinstance(address, int) else str(address)
        return probe.connect_ex(target) == 0


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def qemu_nbd(image: Path, *options: str, image_format: str = "qcow2", tcp: bool = False) -> Iterator[Server]:
    """Serve an image read-only to any number of clients."""
    port, path = (free_port(), None) if tcp else (0, image.with_suffix(".sock"))
    where = ("-b", "127.0.0.1", "-p", str(port)) if tcp else ("-k", str(path))
    command = ("qemu-nbd", "-r", "-t", "--shared=0", "-f", image_format, *where, *options, str(image))
    with started(lambda: listening(path or port), *command) as pid:
        yield Server((pid,), path, port)


@contextlib.contextmanager
def storage_daemon(folder: Path, images: Sequence[Path], bitmaps: Sequence[str] = ()) -> Iterator[Server]:
    """Serve images as libvirt serves a pull job: each through a scratch overlay that a running job keeps frozen.

    The exports are called disk0, disk1, ...; each offers the named bitmaps of its image.
    """
    path, control = folder / "daemon.sock", folder / "daemon.qmp"
    for stale in (path, control):
        stale.unlink(missing_ok=True)
    chardev = f"socket,id=control,path={control},server=on,wait=off"
    serve = f"addr.type=unix,addr.path={path},max-connections=0"
    command = ("qemu-storage-daemon", "--chardev", chardev, "--monitor", "chardev=control", "--nbd-server", serve)
    with (
        started(lambda: control.exists() and listening(path), *command) as pid,
        contextlib.closing(Monitor(control)) as monitor,
    ):
        for index, image in enumerate(images):
            _freeze(monitor, folder, index, image, bitmaps)
        yield Server((pid,), path)


def _freeze(monitor: Monitor, folder: Path, index: int, image: Path, bitmaps: Sequence[str]) -> None:
    disk, scratch = f"disk{index}", f"scratch{index}"
    overlay = folder / f"{scratch}.overlay"
    create = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(overlay)]
    subprocess.run([*create, str(virtual_size(image))], check=True)
    file = {"driver": "file", "filename": str(image)}
    monitor.call("blockdev-add", driver="qcow2", **{"node-name": disk}, file=file)
    file = {"driver": "file", "filename": str(overlay)}
    monitor.call("blockdev-add", driver="qcow2", **{"node-name": scratch}, file=file, backing=disk)
    monitor.call("blockdev-backup", **{"job-id": f"job{index}"}, device=disk, target=scratch, sync="none")
    offered = [{"node": disk, "name": name} for name in bitmaps]
    export = {"node-name": scratch, "name": disk, "bitmaps": offered}
    monitor.call("block-export-add", type="nbd", id=f"export{index}", **export)


class Monitor:
    """The control socket of a QEMU program."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._lines.readline()
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: t.Any) -> None:
        """Run one command; raises :class:`BenchError` with the program's words."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        for line in self._lines:
            reply = json.loads(line)
            if "error" in reply:
                raise BenchError(f"{command}: {reply['error']['desc']}")
            if "return" in reply:
                return
        raise BenchError(f"{command}: the program ended")

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


def virtual_size(image: Path) -> int:
    """Return the size that a qcow2 image shows, in bytes."""
    words = ["qemu-img", "info", "-U", "--output=json", str(image)]
    size: int = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)["virtual-size"]
    return size


@contextlib.contextmanager
def link(behind: Server, round_trip: float, bytes_per_second: int) -> Iterator[Server]:
    """Put a link of that round trip (seconds) and bandwidth before a server."""
    port = free_port()
    arguments = (str(port), str(behind.path), str(round_trip), str(bytes_per_second))
    with started(lambda: listening(port), sys.executable, Path(__file__).with_name("link.py"), *arguments):
        yield Server(behind.pids, None, port)
