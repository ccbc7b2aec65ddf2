# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Process 1 of a node: mounts, host name, network, services; then it reaps and restarts until it is killed.

Run by ``node.py`` as ``python3 -m lab.pid1 SPEC REPORT COMMAND``: the JSON of a :class:`lab.node.Spec`, the descriptor
to report on (``made``, ``ready`` or a sentence that says what failed), and the one to read ``go`` from.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import typing as t

from lab.errors import LabError
from lab.node import Service, Spec
from lab.processes import unblock_signals
from lab.wait import until

HOLD = pathlib.Path("/run/lab/hold")
"""A file here, named like a service, keeps that service down (see ``services.py``); SIGHUP makes us look again."""

_TOO_SHORT = 1.0
_TOO_OFTEN = 5


def _spec(path: str) -> Spec:
    raw = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    services = tuple(Service(**{**item, "argv": tuple(item["argv"])}) for item in raw.pop("services"))
    return Spec(**{**raw, "private": tuple(raw["private"])}, services=services)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _make(spec: Spec) -> None:
    """Cover the private paths, outer ones first so that inner ones are not hidden, and take the host name."""
    for path in sorted(spec.private):
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(spec.mount_source(path)), path)
    _cover_kvm()
    socket.sethostname(spec.hostname)
    HOLD.mkdir(parents=True, exist_ok=True)
    _run("ip", "link", "set", "lo", "up")


def _cover_kvm() -> None:
    """Cover /dev/kvm with a file that nobody may open.

    Where the device is there but does not work (as in many virtual machines), libvirt finds KVM when it asks QEMU, and
    not when it looks at the device, so it takes what it knows of QEMU for outdated and asks again at every turn:
    seven seconds for each definition of a domain.
    """
    device = pathlib.Path("/dev/kvm")
    if device.exists():
        cover = HOLD.parent / "no-kvm"
        cover.parent.mkdir(parents=True, exist_ok=True)
        cover.touch(mode=0)
        _run("mount", "--bind", str(cover), str(device))


def _network(spec: Spec) -> None:
    if spec.interface:
        _run("ip", "address", "add", spec.address, "dev", spec.interface)
        _run("ip", "link", "set", spec.interface, "up")


def answers(ready: str) -> bool:
    """Whether something accepts on this UNIX socket or TCP port (``tcp:22``)."""
    tcp = ready.startswith("tcp:")
    address: t.Any = ("127.0.0.1", int(ready[4:])) if tcp else ready
    with socket.socket(socket.AF_INET if tcp else socket.AF_UNIX) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
    return True


class Services:
    """The programs we keep running."""

    def __init__(self, services: t.Sequence[Service]) -> None:
        self._services = services
        self._running: dict[int, tuple[Service, float]] = {}
        self._short_lives: dict[str, int] = {}

    def start(self, service: Service) -> None:
        """Start one service, its output going to its log."""
        pathlib.Path(service.log).parent.mkdir(parents=True, exist_ok=True)
        with open(service.log, "ab") as log:
            process = subprocess.Popen(
                service.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                preexec_fn=unblock_signals,  # noqa: PLW1509  no threads here
            )
        self._running[process.pid] = (service, time.monotonic())
        # We wait for any child in reap(); the object's own bookkeeping would be in the way.
        process.returncode = 0

    def start_all(self) -> None:
        """Start them in order, each one once the previous answers."""
        for service in self._services:
            self.start(service)
            until(f"{service.name} answers on {service.ready}", functools.partial(answers, service.ready), 30)

    def reap(self) -> None:
        """Collect what has ended, be it a service or an orphan that became our child."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            service, since = self._running.pop(pid, (None, 0.0))
            if service is not None:
                short = time.monotonic() - since < _TOO_SHORT
                self._short_lives[service.name] = self._short_lives.get(service.name, 0) + 1 if short else 0
                print(f"{service.name} ended with wait status {status}", flush=True)

    def revive(self) -> None:
        """Start what should run and does not, unless it is held down or never lives long."""
        running = {service.name for service, _since in self._running.values()}
        for service in self._services:
            tired = self._short_lives.get(service.name, 0) >= _TOO_OFTEN
            if service.name not in running and not tired and not (HOLD / service.name).exists():
                self.start(service)


def main(arguments: t.Sequence[str]) -> t.NoReturn:
    """Make the node, report, and serve until killed."""
    spec, report, command = _spec(arguments[0]), int(arguments[1]), int(arguments[2])
    watched = {signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM}
    services = Services(spec.services)
    try:
        _make(spec)
        os.write(report, b"made\n")
        if os.read(command, 3) != b"go\n":
            raise LabError("nobody told us to go on")
        _network(spec)
        services.start_all()
    except (LabError, OSError) as error:
        os.write(report, f"{error}\n".encode().replace(b"\n", b" ").strip() + b"\n")
        sys.exit(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    os.write(report, b"ready\n")
    os.close(report)
    os.close(command)
    while True:
        services.reap()
        services.revive()
        if signal.sigwait(watched) is signal.SIGTERM:
            sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
