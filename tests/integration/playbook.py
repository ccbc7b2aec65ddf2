# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the role ``backup`` as a user does: with ansible-playbook, one inventory host per domain."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

from lab.modules import LINK

Data = dict[str, t.Any]

PLAY = """\
- hosts: all
  gather_facts: false
  strategy: free
  tasks:
    - block:
        - ansible.builtin.import_role:
            name: virt.backup.backup
      always:
        - ansible.builtin.copy:
            content: "{{ backup_result | to_json }}"
            dest: "{{ folder }}/{{ inventory_hostname }}.json"
            mode: "0600"
          check_mode: false
          changed_when: false
"""

SETTINGS = {
    "ANSIBLE_COLLECTIONS_PATH": str(LINK),
    "ANSIBLE_FORKS": "3",
    "ANSIBLE_LOCALHOST_WARNING": "false",
    "ANSIBLE_NOCOLOR": "true",
    "ANSIBLE_PIPELINING": "true",
    "ANSIBLE_RETRY_FILES_ENABLED": "false",
    "LC_ALL": "C.UTF-8",
}
EVERYWHERE = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
_RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=(\d+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Ended:
    """What became of one host: the fact ``backup_result``, and its line of the recap."""

    result: Data
    changed: int
    failed: bool
    output: str

    @property
    def levels(self) -> dict[str, str]:
        return {disk["name"]: disk["level"] for disk in self.result["disks"]}

    def reason(self, name: str) -> str:
        """Return why a disk has its level, or why it was left out."""
        entries = [*self.result["disks"], *self.result["skipped"]]
        return str({entry["name"]: entry["reason"] for entry in entries}[name])


def command(
    folder: pathlib.Path, hosts: t.Mapping[str, Data], *options: str, text: str = PLAY, **everywhere: t.Any
) -> tuple[list[str], dict[str, str]]:
    """Write play and inventory; return the command that runs them, and its environment."""
    playbook, inventory = folder / "play.yml", folder / "inventory.json"
    playbook.write_text(text, encoding="utf-8")
    variables = {**EVERYWHERE, "folder": str(folder), **everywhere}
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}), encoding="utf-8")
    for name in hosts:
        (folder / f"{name}.json").unlink(missing_ok=True)
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    environment = {**os.environ, **SETTINGS, "HOME": str(folder), "ANSIBLE_LOCAL_TEMP": str(folder / "tmp")}
    return [str(program), "-i", str(inventory), str(playbook), *options], environment


def play(folder: pathlib.Path, *options: str, **hosts: Data) -> dict[str, Ended]:
    """Run the role for each host with its variables, all at the same time; return what became of each."""
    argv, environment = command(folder, hosts, *options)
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300, env=environment)
    return ended(folder, hosts, done.stdout + done.stderr)


def ended(folder: pathlib.Path, hosts: t.Collection[str], output: str) -> dict[str, Ended]:
    """Return what became of each host of a run that has come to its end and printed this."""
    recap = {name: (int(changed), failed != "0") for name, changed, failed in _RECAP.findall(output)}
    assert sorted(recap) == sorted(hosts), output
    return {name: Ended(_result(folder, name), *line, output) for name, line in recap.items()}


def play_one(folder: pathlib.Path, *options: str, **variables: t.Any) -> Ended:
    """Run the role for one host, which has to succeed."""
    alone = play(folder, *options, hv=variables)["hv"]
    assert not alone.failed, alone.output
    return alone


def _result(folder: pathlib.Path, name: str) -> Data:
    result: Data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return result
