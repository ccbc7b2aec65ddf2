# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node: namespaces for mounts, processes, network and host name, and the folder behind them.

Process 1 of the node (``pid1.py``) holds everything: when it dies, the kernel kills every process in the node and the
mounts and the network go with the last of them. So there is one thing to end, by its id, and nothing to hunt for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time
import types
import typing as t

from lab import processes
from lab.errors import LabError, LeftoverError
from lab.wait import until

if t.TYPE_CHECKING:
    from typing_extensions import Self  # noqa: UP035  mypy checks for 3.10

TESTS = pathlib.Path(__file__).resolve().parent.parent
"""The folder that has to be on the module path for ``import lab``."""

NODES = TESTS.parent / "build" / "lab" / "nodes"
"""Where the folders of nodes are made, unless told otherwise."""

START_SECONDS = 60.0
PYTHON = "/usr/bin/python3"


def _lock(folder: pathlib.Path) -> int:
    """Lock the folder for as long as the node lives: process 1 inherits the descriptor and never closes it.

    The file gets its name only once it is locked, so that :func:`sweep` never sees it unlocked by accident.
    """
    descriptor = os.open(folder / "lock.new", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (folder / "lock.new").rename(folder / "lock")
    return descriptor


def sweep() -> None:
    """Remove the folders of nodes whose maker was killed with -9: the kernel took the node, nobody took the folder."""
    for lock in NODES.glob("*/lock"):
        with contextlib.suppress(OSError), lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Service:
    """A program that process 1 runs in the foreground, and starts again when it ends.

    ``ready`` is a UNIX socket (a path) or a TCP port (``tcp:22``) that accepts once the service is up.
    """

    name: str
    argv: tuple[str, ...]
    log: str
    ready: str


@dataclasses.dataclass(frozen=True)
class Spec:
    """What process 1 is told: everything that makes the node."""

    hostname: str
    folder: str
    private: tuple[str, ...] = ()
    """Paths that are covered by folders of the node's own."""
    services: tuple[Service, ...] = ()
    interface: str = ""
    """Name of the network interface to wait for, once somebody has moved it into the node."""
    address: str = ""
    """``10.77.0.2/24``, given to the interface."""

    def mount_source(self, path: str) -> pathlib.Path:
        """Return the node's own folder for the private ``path``."""
        return pathlib.Path(self.folder) / path.strip("/").replace("/", "-")


class Node:
    """One node, from :meth:`start` to :meth:`stop`. A context manager."""

    def __init__(self, name: str, *, folder: pathlib.Path | None = None, detached: bool = False) -> None:
        """Give the node a name. ``detached`` nodes outlive us and are stopped by whoever has their :meth:`state`."""
        self.name = name
        self.detached = detached
        NODES.mkdir(parents=True, exist_ok=True)
        sweep()
        self.folder = folder or pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=NODES))
        self.pid = 0
        """Process 1 of the node, as seen from here."""
        self._process: subprocess.Popen[bytes] | None = None
        self._outer = 0
        self._outer_start = 0
        self._namespaces: frozenset[str] = frozenset()

    # what a kind of node is made of

    def spec(self) -> Spec:
        """Return what the node consists of."""
        return Spec(self.name, str(self.folder), private=("/run",))

    def prepare(self, spec: Spec) -> None:
        """Fill the node's own folders before anything is mounted."""
        for path in spec.private:
            spec.mount_source(path).mkdir(parents=True, exist_ok=True)
            spec.mount_source(path).chmod(0o755)

    def wire(self) -> None:
        """Connect the node's network, once its namespaces exist and before its services start."""

    # life

    def start(self) -> None:
        """Make the namespaces, start the services, and return when every one of them answers.

        Raises :class:`LabError` with the reason and the tails of the logs; nothing is left behind then.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        spec = self.spec()
        lock = _lock(self.folder)
        self.prepare(spec)
        (self.folder / "spec.json").write_text(json.dumps(dataclasses.asdict(spec)), encoding="utf-8")
        from_init, to_us = os.pipe()
        from_us, to_init = os.pipe()
        try:
            self._launch(to_us, from_us, lock)
            os.close(to_us)
            to_us = -1
            self._expect(from_init, "made")
            self.pid = processes.children(self._outer)[0]
            self._namespaces = processes.namespaces(self.pid) - processes.namespaces(os.getpid())
            self.wire()
            os.write(to_init, b"go\n")
            self._expect(from_init, "ready")
        finally:
            for descriptor in (from_init, to_us, from_us, to_init, lock):
                if descriptor >= 0:
                    os.close(descriptor)

    def _launch(self, report: int, command: int, lock: int) -> None:
        argv = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child=KILL"]
        argv += ["--mount-proc", "--propagation", "private", "--", PYTHON, "-m", "lab.pid1"]
        argv += [str(self.folder / "spec.json"), str(report), str(command)]
        with (self.folder / "pid1.log").open("wb") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(report, command, lock),
                start_new_session=True,
                cwd="/",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(TESTS), "LANG": "C.UTF-8"},
                preexec_fn=self._between_fork_and_exec,  # noqa: PLW1509  no threads here
            )
        self._process = process
        self._outer, self._outer_start = process.pid, processes.start_time(process.pid)

    def _between_fork_and_exec(self) -> None:
        processes.unblock_signals()
        if not self.detached:
            processes.die_with_parent()

    def _expect(self, descriptor: int, word: str) -> None:
        """Read one line from process 1 and insist on what it says."""
        line = b""
        deadline = time.monotonic() + START_SECONDS
        while not line.endswith(b"\n"):
            readable, _w, _x = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(descriptor, 4096) if readable else b""
            if not part:
                why = "ended" if readable else f"was silent for {START_SECONDS:g} s"
                raise LabError(f"node {self.name}: process 1 {why} before it was {word}\n{self.logs()}")
            line += part
        if line.decode().strip() != word:
            raise LabError(f"node {self.name}: {line.decode().strip()}\n{self.logs()}")

    def logs(self, length: int = 2000) -> str:
        """Return the tail of each log of the node."""
        found = sorted(path for path in self.folder.rglob("*.log") if path.is_file() and path.stat().st_size)
        return "\n".join(f"--- {p.name}\n{p.read_text(encoding='utf-8', errors='replace')[-length:]}" for p in found)

    def stop(self) -> None:
        """End every process of the node, delete its folder, and raise :class:`LeftoverError` when anything is left."""
        left: list[str] = []
        if self._alive():
            left += self._loops_of_this_node()
            self._end()
        left += self._leftovers()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.exists():
            left.append(f"folder {self.folder}")
        self.pid = 0
        if left:
            raise LeftoverError(f"node {self.name} left behind: " + "; ".join(left))

    def _alive(self) -> bool:
        return bool(self._outer) and processes.start_time(self._outer) == self._outer_start

    def _end(self) -> None:
        """Kill process 1 and wait: its parent ends only after the kernel has ended all others in the node."""
        for pid in processes.children(self._outer) or [self._outer]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(f"node {self.name}: process {self._outer} has ended", lambda: not self._alive())
        if self._process is not None:
            self._process.wait()

    def _leftovers(self) -> list[str]:
        found = [f"process {pid} in its namespaces" for pid in processes.members(self._namespaces)]
        for line in pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            if str(self.folder) + "/" in line.split()[4] + "/":
                found.append(f"mount {line.split()[4]}")
        return found

    def _loops_of_this_node(self) -> list[str]:
        """Detach loop devices whose files are ours: they are the machine's, so no namespace takes them along."""
        own = {(entry.stat().st_dev, entry.stat().st_ino) for entry in self.folder.rglob("*") if entry.is_file()}
        listing = subprocess.run(
            ["losetup", "--list", "--json", "--output", "NAME,BACK-INO,BACK-MAJ:MIN"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        found = []
        for loop in json.loads(listing)["loopdevices"] if listing.strip() else []:
            major, minor = (int(part) for part in loop["back-maj:min"].split(":"))
            if (os.makedev(major, minor), int(loop["back-ino"])) in own:
                subprocess.run(["losetup", "--detach", loop["name"]], check=True)
                found.append(f"loop device {loop['name']}")
        return found

    # use

    def inside(self, argv: t.Sequence[str], cwd: str | None = None) -> list[str]:
        """Return the command line that runs ``argv`` inside the node, in ``cwd`` (as the node sees it)."""
        where = cwd or os.getcwd()
        return [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            f"--wdns={where}",
            "--",
            *argv,
        ]

    def run(self, argv: t.Sequence[str], check: bool = True, **options: t.Any) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return it completed; text, captured, checked unless told otherwise."""
        settings: dict[str, t.Any] = {"capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run(self.inside(argv), check=check, **settings)

    def state(self) -> dict[str, t.Any]:
        """Return what another process needs to stop this node later."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "pid": self.pid,
            "outer": self._outer,
            "outer_start": self._outer_start,
            "namespaces": sorted(self._namespaces),
        }

    @classmethod
    def from_state(cls, state: t.Mapping[str, t.Any]) -> Node:
        """Return a handle on a node that another process started detached."""
        node = Node(state["name"], folder=pathlib.Path(state["folder"]), detached=True)
        node.pid, node._outer, node._outer_start = state["pid"], state["outer"], state["outer_start"]
        node._namespaces = frozenset(state["namespaces"])
        return node

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.stop()
