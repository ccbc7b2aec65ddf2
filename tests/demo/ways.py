# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways back beside the original, by the collection's roles: under a second name, at once, and as a drill."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import subprocess
import time
import typing as t

from lab.guest import Guest
from lab.tools import virsh, virsh_names
from lab.wait import until

from demo import backups
from demo.checks import Sums, mounts, same
from demo.readme import DOMAIN, IMAGES, REPOSITORY

Variables = dict[str, t.Any]

_PLAY = """\
- hosts: hypervisors
  gather_facts: false
  roles:
    - virt.backup.{role}
"""
_PATIENCE = 300
"""Seconds for a play."""
_SOURCE = re.compile(r"^ *(vd\w) +(\S+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Way:
    """What came of one. Seconds until the machine ran (of which a drill says nothing) and until its agent answered.

    They are counted from the command on, in a drill from the role's first step on, as its record has it.
    """

    name: str
    point: str
    machine: str
    running: float | None
    answering: float
    files: int
    verified: bool


def second_name(point: pathlib.Path, expected: Sums) -> Way:
    """Copy the disks to new places and start a machine of another name on them, beside the original."""
    machine = f"{DOMAIN}-second"
    wish = _copy_of(point, machine)
    return _brought_back("second name", machine, point, expected, wish)


def instant(point: pathlib.Path, expected: Sums) -> Way:
    """Start the machine on the backup itself; its disks are copied to their places while it runs."""
    machine = f"{DOMAIN}-instant"
    wish = {**_copy_of(point, machine), "restore_mode": "instant"}
    return _brought_back("instant", machine, point, expected, wish)


def drill(point: pathlib.Path, expected: Sums) -> Way:
    """Boot a copy without its network, let the guest compare its own checksums, and remove it."""
    machine = f"{DOMAIN}-drill-{point.name[-4:]}"
    checks = [{"name": "the guest's own checksums", "command": ["/bin/sh", "-c", _script(expected)]}]
    place = {"verify_domain": DOMAIN, "verify_repository": str(REPOSITORY), "verify_point": point.name}
    with _playing("verify", {**place, "verify_checks": checks}):
        pass
    record = json.loads((point / "drilled.json").read_text(encoding="utf-8"))
    gone = machine not in virsh_names("list", "--all", "--name")
    passed = gone and record["passed"] and [check["passed"] for check in record["checks"]] == [True]
    return Way("drill", point.name, machine, None, record["milliseconds"] / 1000, len(expected), passed)


def _copy_of(point: pathlib.Path, machine: str) -> Variables:
    place = {"restore_domain": DOMAIN, "restore_repository": str(REPOSITORY), "restore_point": point.name}
    return {**place, "restore_as": machine, "restore_dir": str(IMAGES), "restore_state": "running"}


def _brought_back(name: str, machine: str, point: pathlib.Path, expected: Sums, wish: Variables) -> Way:
    """Run the role ``restore``, ask the guest meanwhile, and remove what was made."""
    with Guest(machine) as guest:  # defined by the role, closed by us
        began = time.monotonic()
        with _playing("restore", wish) as run:
            running = _running(machine, run)
            guest.wait_for_agent()
            answering = time.monotonic() - began
            verified = same(guest, expected)
        places = {target: pathlib.Path(path) for target, path in _SOURCE.findall(virsh("domblklist", machine))}
        at_home = {path.parent for path in places.values()} == {IMAGES}
    for path in places.values():
        path.unlink()
    return Way(name, point.name, machine, running, answering, len(expected), verified and at_home)


@contextlib.contextmanager
def _playing(role: str, variables: Variables) -> t.Iterator[subprocess.Popen[str]]:
    """Run a play with one role; on leaving it must have succeeded."""
    playbook = backups.FOLDER / f"{role}.yml"
    playbook.write_text(_PLAY.format(role=role), encoding="utf-8")
    argv = ["ansible-playbook", "-i", "inventory", playbook.name, "-e", json.dumps(variables)]
    log = backups.FOLDER / f"{role}.log"
    with log.open("w", encoding="utf-8") as output:
        run = subprocess.Popen(
            argv, cwd=backups.FOLDER, env=backups.environment(), stdout=output, stderr=output, text=True
        )
    try:
        yield run
        run.wait(timeout=_PATIENCE)
    finally:
        failed = run.poll()
        run.kill()
        run.wait()
        if failed:
            raise SystemExit(f"ansible-playbook failed:\n{log.read_text(encoding='utf-8')}")


def _running(machine: str, run: subprocess.Popen[str]) -> float:
    """Return the seconds from now until the machine runs."""
    began = time.monotonic()

    def runs() -> bool:
        return machine in virsh_names("list", "--name", "--state-running")

    until(f"{machine} runs, or the play has ended", lambda: runs() or run.poll() is not None, _PATIENCE)
    if run.poll():
        raise SystemExit(f"the play that starts {machine} failed")
    return time.monotonic() - began


def _script(expected: Sums) -> str:
    """Return what mounts the disks in the guest and fails unless it finds just these files with these checksums."""
    places = mounts(expected)
    commands = [f"mkdir -p {folder}; mount -t ext4 /dev/{disk} {folder}" for folder, disk in places.items()]
    listing = "\n".join(sorted(f"{digest}  {path}" for path, digest in expected.items()))
    find = f"find {' '.join(places)} -type f -exec sha256sum {{}} + | sort"
    return "; ".join(["set -e", *commands, f"test \"$({find})\" = '{listing}'"])
