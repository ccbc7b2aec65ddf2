# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the role ``restore`` as a user does: with ansible-playbook."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

from integration.playbook import EVERYWHERE, SETTINGS, Data

PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.import_role:
        name: virt.backup.restore
    - ansible.builtin.copy:
        content: "{{ restore_result | to_json }}"
        dest: "{{ folder }}/result.json"
        mode: "0600"
      check_mode: false
      changed_when: false
"""


class Restoration:
    """Plays of the role, out of one repository. ``host`` are variables of the inventory host that it runs on."""

    def __init__(self, folder: pathlib.Path, repository: pathlib.Path, host: Data | None = None) -> None:
        self._folder, self._repository = folder, repository
        self._host = EVERYWHERE if host is None else host

    def play(self, *options: str, **variables: t.Any) -> tuple[int, str, Data]:
        """Run the role; return how many tasks changed something (-1 when it failed), the output, and the result."""
        playbook, inventory = self._folder / "restore.yml", self._folder / "restore.json"
        playbook.write_text(PLAY, encoding="utf-8")
        given = {"restore_repository": str(self._repository), **variables}
        hosts = {"hosts": {"hv": given}, "vars": {**self._host, "folder": str(self._folder)}}
        inventory.write_text(json.dumps({"all": hosts}), encoding="utf-8")
        program = pathlib.Path(sys.executable).with_name("ansible-playbook")
        environment = {**os.environ, **SETTINGS, "HOME": str(self._folder)}
        argv = [str(program), "-i", str(inventory), str(playbook), *options]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300, env=environment)
        recap = re.search(r"^hv +: ok=\d+ +changed=(\d+) ", done.stdout, re.MULTILINE)
        if done.returncode or not recap:
            return -1, done.stdout + done.stderr, {}
        result: Data = json.loads((self._folder / "result.json").read_text(encoding="utf-8"))
        return int(recap[1]), done.stdout, result

    def restore(self, *options: str, **variables: t.Any) -> tuple[int, Data]:
        """Run the role, which has to succeed."""
        changed, output, result = self.play(*options, **variables)
        assert changed >= 0, output
        return changed, result
