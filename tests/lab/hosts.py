# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several hypervisors on a bridge of their own, and a controller that reaches them over real SSH.

::

    tests/lab/hosts run --hosts 2 --inventory build/lab/inventory.yml -- molecule test     all in one, and gone after
    tests/lab/hosts up --hosts 2 --inventory build/lab/inventory.yml                       to look around
    tests/lab/hosts exec -- ansible-playbook -i build/lab/inventory.yml site.yml
    tests/lab/hosts down

The hosts are called hv1, hv2, ...; the inventory has them in the group ``hypervisors``. They and the controller see
each other and nothing else: neither the machine's network nor its libvirt. Commands run as root in the controller's
namespaces, where every path but /run is the machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import typing as t

if __package__ in (None, ""):
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from lab.enter import PASSED_ON, environment, run_inside
from lab.errors import LabError
from lab.hypervisor import Hypervisor
from lab.node import NODES, Node, Spec
from lab.tools import call

BRIDGE = "lab0"
NETWORK = "10.77.0"


class Controller(Node):
    """The node that the hypervisors are wired to; it holds the bridge and the SSH key."""

    def __init__(self, name: str = "controller", *, detached: bool = False) -> None:
        super().__init__(name, detached=detached)
        self.key = self.folder / "id_ed25519"

    def prepare(self, spec: Spec) -> None:
        """Make the key that all hosts accept."""
        super().prepare(spec)
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", self.key)

    def wire(self) -> None:
        """Make the bridge."""
        self.ip("link", "add", BRIDGE, "type", "bridge")
        self.ip("address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        self.ip("link", "set", BRIDGE, "up")

    def ip(self, *words: str) -> None:
        """Run ``ip`` in the controller's network, with process ids as we see them."""
        call("nsenter", f"--target={self.pid}", "--net", "--", "ip", *words)

    def plug(self, number: int, pid: int) -> None:
        """Lay a cable from the bridge to the network namespace of a process, where it is called ``lan0``."""
        self.ip("link", "add", f"host{number}", "type", "veth", "peer", "name", "lan0", "netns", str(pid))
        self.ip("link", "set", f"host{number}", "master", BRIDGE, "up")


class Host(Hypervisor):
    """A hypervisor on the controller's bridge."""

    def __init__(self, number: int, controller: Controller, *, detached: bool = False) -> None:
        self.number, self.controller = number, controller
        self.ip_address = f"{NETWORK}.{10 + number}"
        super().__init__(
            f"hv{number}",
            detached=detached,
            authorized_key=controller.key.with_suffix(".pub").read_text(encoding="ascii"),
            interface="lan0",
            address=f"{self.ip_address}/24",
        )

    def wire(self) -> None:
        """Plug into the bridge."""
        self.controller.plug(self.number, self.pid)


class Hosts:
    """A controller and its hypervisors, started and stopped together."""

    def __init__(self, count: int, *, detached: bool = False) -> None:
        self._count, self._detached = count, detached
        self.nodes: list[Node] = []

    def start(self) -> Controller:
        """Start all; nothing is left when one of them fails."""
        try:
            controller = Controller(detached=self._detached)
            self._start(controller)
            for number in range(1, self._count + 1):
                self._start(Host(number, controller, detached=self._detached))
        except BaseException:
            self.stop()
            raise
        return controller

    def _start(self, node: Node) -> None:
        node.start()
        self.nodes.append(node)

    def inventory(self) -> dict[str, t.Any]:
        """Return the inventory (JSON is YAML too)."""
        controller = next(node for node in self.nodes if isinstance(node, Controller))
        hosts = [node for node in self.nodes if isinstance(node, Host)]
        # Host keys are new each time; the sockets of shared connections live and die with the controller's /run.
        common = "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR"
        variables = {
            "ansible_connection": "ssh",
            "ansible_user": "root",
            "ansible_port": 22,
            "ansible_ssh_private_key_file": str(controller.key),
            "ansible_ssh_common_args": common,
            "ansible_control_path_dir": "/run/ssh",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        members = {host.name: {"ansible_host": host.ip_address} for host in hosts}
        return {"all": {"children": {"hypervisors": {"hosts": members, "vars": variables}}}}

    def write_inventory(self, path: pathlib.Path) -> None:
        """Write the inventory file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.inventory(), indent=2) + "\n", encoding="utf-8")

    def stop(self) -> None:
        """Stop all, last one first, even when one of them complains; raise the first complaint afterwards."""
        stop_all(self.nodes)


def stop_all(nodes: list[Node]) -> None:
    """Stop these nodes in reverse order and raise the first complaint when all are stopped."""
    errors: list[LabError] = []
    while nodes:
        try:
            nodes.pop().stop()
        except LabError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _state_file(name: str) -> pathlib.Path:
    return NODES.parent / f"hosts-{name}.json"


def _command(options: argparse.Namespace) -> list[str]:
    words: list[str] = options.command
    return words[1:] if words[:1] == ["--"] else words


def _run(options: argparse.Namespace) -> int:
    hosts = Hosts(options.hosts)
    controller = hosts.start()
    try:
        hosts.write_inventory(options.inventory)
        env = {**environment(controller), "VIRT_BACKUP_LAB_INVENTORY": str(options.inventory.resolve())}
        return run_inside(controller, _command(options), env)
    finally:
        hosts.stop()
        options.inventory.unlink(missing_ok=True)


def _up(options: argparse.Namespace) -> int:
    state = _state_file(options.name)
    if state.exists():
        raise LabError(f"hosts {options.name!r} are up already; tests/lab/hosts down --name {options.name}")
    hosts = Hosts(options.hosts, detached=True)
    hosts.start()
    hosts.write_inventory(options.inventory)
    kept = {"inventory": str(options.inventory.resolve()), "nodes": [node.state() for node in hosts.nodes]}
    state.write_text(json.dumps(kept), encoding="utf-8")
    print(f"{options.hosts} hosts are up; inventory: {options.inventory}")
    return 0


def _kept(options: argparse.Namespace) -> tuple[pathlib.Path, list[Node]]:
    state = _state_file(options.name)
    if not state.exists():
        raise LabError(f"no hosts {options.name!r} are up")
    kept = json.loads(state.read_text(encoding="utf-8"))
    return pathlib.Path(kept["inventory"]), [Node.from_state(node) for node in kept["nodes"]]


def _exec(options: argparse.Namespace) -> int:
    inventory, nodes = _kept(options)
    env = {**environment(nodes[0]), "VIRT_BACKUP_LAB_INVENTORY": str(inventory)}
    return run_inside(nodes[0], _command(options), env)


def _down(options: argparse.Namespace) -> int:
    inventory, nodes = _kept(options)
    _state_file(options.name).unlink()
    inventory.unlink(missing_ok=True)
    stop_all(nodes)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/lab/hosts", description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    for name, function in {"run": _run, "up": _up, "exec": _exec, "down": _down}.items():
        verb = verbs.add_parser(name)
        verb.set_defaults(function=function)
        verb.add_argument("--name", default="default", help="which set of hosts, when several are up")
        if name in ("run", "up"):
            verb.add_argument("--hosts", type=int, default=2)
            verb.add_argument("--inventory", type=pathlib.Path, required=True)
        if name in ("run", "exec"):
            verb.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    return parser


def main(arguments: t.Sequence[str]) -> int:
    """Do what the verb says; 125 when it is the lab that fails."""
    options = _parser().parse_args(arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    try:
        return int(options.function(options))
    except (LabError, subprocess.SubprocessError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
