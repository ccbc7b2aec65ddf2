# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one command inside a new hypervisor, and leave nothing: ``tests/lab/enter [--guest] -- COMMAND...``.

Inside, ``qemu:///system`` is a libvirtd of its own, /run, /etc, /srv, /var/lib/libvirt and /var/lib/virt-backup are
private, only the loopback interface exists, and every other path (the checkout) is the machine's. The exit status is
the command's. SIGINT, SIGTERM and SIGHUP are passed on to it, and the hypervisor goes when it has ended, or when we are
killed.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import typing as t

if __package__ in (None, ""):
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from lab import processes
from lab.errors import LabError
from lab.guest_build import guest_files
from lab.hypervisor import Hypervisor
from lab.node import Node

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FROM_THE_TERMINAL = 0x80
"""``si_code`` SI_KERNEL: the terminal sent it to its whole foreground group, so the command has it already."""


def run_inside(node: Node, command: t.Sequence[str], env: t.Mapping[str, str]) -> int:
    """Run the command inside the node, pass signals on to it, and return its exit status as a shell would."""
    process = subprocess.Popen(
        node.inside(command),
        env=dict(env),
        preexec_fn=processes.unblock_signals,  # noqa: PLW1509  no threads here
    )
    while process.poll() is None:
        received = signal.sigwaitinfo({*PASSED_ON, signal.SIGCHLD})
        if received.si_signo != signal.SIGCHLD and received.si_code != _FROM_THE_TERMINAL:
            for pid in processes.children(process.pid):  # nsenter's only child is the command
                os.kill(pid, received.si_signo)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def environment(node: Node) -> dict[str, str]:
    """Return our environment plus what tells a test that it is in the lab."""
    return {**os.environ, "VIRT_BACKUP_LAB": node.name, "VIRT_BACKUP_LAB_FOLDER": str(node.folder)}


def main(arguments: t.Sequence[str]) -> int:
    """Parse, make the hypervisor, run, tear down."""
    parser = argparse.ArgumentParser(prog="tests/lab/enter", description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="hv", help="host name of the hypervisor")
    parser.add_argument("--guest", action="store_true", help="build the guest first, if it is not there: needs apt")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("a command is needed, after --")
    # Held back until the command runs: a signal during start or tear-down must not leave half a hypervisor.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    try:
        if options.guest:
            guest_files()
        with Hypervisor(options.name) as hypervisor:
            return run_inside(hypervisor, command, environment(hypervisor))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
