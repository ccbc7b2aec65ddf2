# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real NBD servers on UNIX sockets, disks for them, and readers of images that share no code with the collection."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from ansible_collections.virt.backup.plugins.module_utils._copy.content import (
    Difference,
    differences,
    read_list,
    root,
)
from ansible_collections.virt.backup.plugins.module_utils._copy.digest import content_digest
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER

MODULE = "ansible_collections.virt.backup.plugins.modules.nbd_extract"
SECONDS = 60
MOST = 1024 * 1024


def run(*command: str | Path, stdin: Path = Path(os.devnull)) -> str:
    """Run a program to its end and return what it printed."""
    words = [str(word) for word in command]
    with stdin.open() as source:
        done = subprocess.run(words, stdin=source, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def qemu_io(image: Path, *commands: str, image_format: str = "qcow2") -> None:
    """Change an image the way a guest would. ``commands`` are qemu-io's, such as ``write -P 7 0 64k``."""
    words = [word for command in commands for word in ("-c", command)]
    run("qemu-io", "-d", "unmap", "-f", image_format, *words, image)


def create(path: Path, size: int, *options: str, image_format: str = "qcow2") -> Path:
    """Make an empty image."""
    run("qemu-img", "create", "-q", "-f", image_format, *options, path, str(size))
    return path


def add_bitmap(image: Path, name: str, granularity: int = CLUSTER) -> None:
    """Begin to record changes, as a checkpoint does."""
    run("qemu-img", "bitmap", "--add", "-g", str(granularity), image, name)


class Server(t.NamedTuple):
    """A running server: its process and its socket."""

    pid: int
    socket: Path

    def uri(self, export: str = "") -> str:
        """Return the URI of an export."""
        return f"nbd+unix:///{export}?socket={self.socket}"

    def signal(self, number: int) -> None:
        """Send the server a signal."""
        os.kill(self.pid, number)


@contextlib.contextmanager
def _running(pid_file: Path, socket: Path, ending: signal.Signals) -> t.Iterator[Server]:
    """Yield a server that has gone into the background; end it and wait for its end."""
    pid = _read_pid(pid_file)
    ended = os.pidfd_open(pid)
    try:
        yield Server(pid, socket)
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(ended, signal.SIGCONT)
            signal.pidfd_send_signal(ended, ending)
        assert select.select([ended], [], [], 10)[0], f"server {pid} does not end"
        os.close(ended)
        for path in (pid_file, socket):
            path.unlink(missing_ok=True)


def _read_pid(pid_file: Path) -> int:
    """Return the process's number. nbdkit writes it a moment after the program that started it has ended."""
    deadline = time.monotonic() + 10
    while not pid_file.exists() or not pid_file.read_text().endswith("\n"):
        assert time.monotonic() < deadline, f"no server wrote {pid_file}"
        time.sleep(0.005)
    return int(pid_file.read_text())


@contextlib.contextmanager
def qemu_nbd(image: Path, *options: str, image_format: str = "qcow2", export: str = "") -> t.Iterator[Server]:
    """Serve an image; ``options`` such as ``-r`` (read-only), ``-B bitmap``, ``--shared=1``. Ready on entry."""
    socket, pid_file = image.with_suffix(".sock"), image.with_suffix(".pid")
    shared = () if any(option.startswith("--shared") for option in options) else ("--shared=0",)
    options = (*options, *shared, *(("-x", export) if export else ()))
    words: list[str | Path] = ["-t", "-f", image_format, "-k", socket, "--fork", "--pid-file", pid_file, *options]
    run("qemu-nbd", *words, image)
    with _running(pid_file, socket, signal.SIGTERM) as server:
        yield server


@contextlib.contextmanager
def nbdkit(folder: Path, *arguments: str | Path, writable: bool = False, port: int = 0) -> t.Iterator[Server]:
    """Serve with nbdkit: ``arguments`` are filters, the plugin and its parameters. Ready on entry.

    On a UNIX socket, or with ``port`` on that one of this machine.
    """
    socket, pid_file = folder / "nbdkit.sock", folder / "nbdkit.pid"
    place: tuple[str | Path, ...] = ("-i", "127.0.0.1", "-p", str(port)) if port else ("-U", socket)
    run("nbdkit", *(() if writable else ("-r",)), *place, "-P", pid_file, *arguments)
    with _running(pid_file, socket, signal.SIGKILL) as server:
        yield server


def identical(image: Path, other: Path, image_format: str = "qcow2", other_format: str = "qcow2") -> None:
    """Assert by QEMU that both show the same bytes and size, and that a qcow2 image's metadata is in order."""
    if image_format == "qcow2":
        run("qemu-img", "check", "-q", "-f", "qcow2", image)
    run("qemu-img", "compare", "-q", "-U", "-f", image_format, "-F", other_format, image, other)
    assert virtual_size(image, image_format) == virtual_size(other, other_format)


def virtual_size(image: Path, image_format: str) -> int:
    """Return the size that QEMU shows, in bytes."""
    size: int = json.loads(run("qemu-img", "info", "-U", "--output=json", "-f", image_format, image))["virtual-size"]
    return size


def digest_by_qemu(image: Path, *, incremental: bool, image_format: str = "qcow2") -> str:
    """Return the digest of an image as ``docs/internals/digest.md`` makes it, from what QEMU reads and maps alone."""
    plain = image.with_suffix(".plain")
    run("qemu-img", "convert", "-U", "-f", image_format, "-O", "raw", image, plain)
    size = plain.stat().st_size
    held = _held_clusters(image, size, image_format) if incremental else {0: size}
    with plain.open("rb") as file:
        result = content_digest(size, _blocks(file, held, size), incremental=incremental)
    plain.unlink()
    return result


def root_of(*images: Path) -> str:
    """Return the digest of what shows through a chain, from the lists beside its images, the full one first."""
    with contextlib.ExitStack() as files:
        return root([read_list(files.enter_context(digests_of(image).open("rb"))) for image in images])


def differences_by_qemu(*images: Path) -> list[Difference]:
    """Return what QEMU reads through a chain otherwise than the lists beside its images say."""
    plain = images[-1].with_suffix(".plain")
    run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", images[-1], plain)
    content = plain.read_bytes()
    plain.unlink()
    blocks = [(offset, content[offset : offset + BLOCK]) for offset in range(0, len(content), BLOCK)]
    with contextlib.ExitStack() as files:
        lists = [read_list(files.enter_context(digests_of(image).open("rb"))) for image in images]
        return list(differences(lists, blocks))


def digests_of(image: Path) -> Path:
    """Return the list of digests beside an image."""
    return image.with_suffix(".digests")


def _held_clusters(image: Path, size: int, image_format: str) -> dict[int, int]:
    """Return the ranges (start: end) that the image itself holds, without those of its backing images."""
    told = json.loads(run("qemu-img", "map", "-U", "--output=json", "-f", image_format, image))
    return {
        extent["start"]: min(extent["start"] + extent["length"], size)
        for extent in told
        if extent["depth"] == 0 and (extent["data"] or extent["zero"])
    }


def _blocks(file: t.BinaryIO, held: dict[int, int], size: int) -> t.Iterator[tuple[int, int, bytes]]:
    for offset in range(0, size, BLOCK):
        end = min(offset + BLOCK, size)
        mask = 0
        for start, stop in held.items():
            first, last = max(start, offset), min(stop, end)
            if first < last:
                mask |= (1 << -(-(last - offset) // CLUSTER)) - (1 << (first - offset) // CLUSTER)
        if mask:
            file.seek(offset)
            yield offset, mask, file.read(end - offset)


def module_process(parameters: dict[str, t.Any], folder: Path, *, check: bool = False) -> subprocess.Popen[str]:
    """Start the module as a process of its own, as Ansible does after unpacking it."""
    arguments = folder / "arguments.json"
    content = {"ANSIBLE_MODULE_ARGS": {**parameters, "_ansible_check_mode": check, "_ansible_diff": True}}
    arguments.write_text(json.dumps(content))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-m", MODULE, str(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def run_module(parameters: dict[str, t.Any], folder: Path, *, check: bool = False) -> dict[str, t.Any]:
    """Run the module to its end and return its result."""
    process = module_process(parameters, folder, check=check)
    output, errors = process.communicate(timeout=SECONDS)
    assert output.strip().startswith("{"), output + errors
    result: dict[str, t.Any] = json.loads(output)
    return result


def run_ansible(*arguments: str) -> str:
    """Run an ad-hoc task with the ansible of this environment and the collection of this checkout."""
    collections = Path(__file__).parents[2] / "build" / "link"
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_NOCOLOR": "1"}
    command = [str(Path(sys.executable).parent / "ansible"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def increment_by_qemu(server: Server, bitmap: str, backing: Path, dest: Path) -> None:
    """Make an increment without any code of ours: reads of what is dirty, copied on read into an overlay of the export."""
    told = json.loads(run("nbdinfo", f"--map=qemu:dirty-bitmap:{bitmap}", "--json", server.uri()))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", server.uri(), dest)
    size = virtual_size(dest, "qcow2")
    reads: list[str] = []
    for extent in told:
        if extent["type"] & 1:
            start = extent["offset"] // CLUSTER * CLUSTER
            end = min(-(-(extent["offset"] + extent["length"]) // CLUSTER) * CLUSTER, size)
            reads += [f"read {at} {min(MOST, end - at)}" for at in range(start, end, MOST)]
    script = dest.with_suffix(".script")
    script.write_text("".join(f"{command}\n" for command in reads))
    run("qemu-io", "-C", "-f", "qcow2", dest, stdin=script)
    script.unlink()
    run("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing.name, dest)


def names(folder: Path) -> set[str]:
    """Return the names in a folder."""
    return {path.name for path in folder.iterdir()}
