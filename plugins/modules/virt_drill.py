#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_drill
short_description: Wait until a machine lives, and ask it what its owner wants to know
version_added: 0.1.0
author: virt.backup contributors (@virt-backup)
description:
  - Lets a domain go that waits paused, waits for its guest agent or for a line on its serial console, runs commands in
    the guest through the agent, and takes a screenshot. It is the middle of a drill, in which a copy of a machine is
    started from a backup to see that it could be.
  - A machine that does not live in time, or a check that fails, is a result and no error of the module, so that the
    copy can be removed before the play fails.
  - Runs on the hypervisor.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.libvirt
  - virt.backup.libvirt.domain
attributes:
  check_mode:
    support: partial
    details:
      - Only the options are looked at, since there is no machine to ask.
  diff_mode:
    support: none
  idempotent:
    support: none
options:
  agent:
    description:
      - Whether to wait for the guest agent.
    type: bool
    default: true
  console:
    description:
      - A regular expression that a line of the first serial console has to match.
      - What was said before the module began can't be heard, so start the domain paused.
    type: str
    default: ""
  timeout:
    description:
      - Seconds that the machine has to show that it lives.
    type: int
    default: 300
  checks:
    description:
      - What to run in the guest, one after another.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the report calls it.
        type: str
        required: true
      command:
        description: The path of a program in the guest, and its arguments. No shell reads it.
        type: list
        elements: str
        required: true
      rc:
        description: What it has to return.
        type: int
        default: 0
      stdout:
        description: A regular expression that its output has to match.
        type: str
        default: ""
  check_timeout:
    description:
      - Seconds that each check has.
    type: int
    default: 60
  screenshot:
    description:
      - The absolute path of a file for a picture of the first screen, without its ending, which is C(.png) or, where
        QEMU makes no other, C(.ppm). No file is made if the domain has no screen.
    type: str
    default: ""
seealso:
  - module: virt.backup.virt_restore
"""

EXAMPLES = r"""
- name: See whether the copy lives, and its database is there
  virt.backup.virt_drill:
    domain: web-drill
    checks:
      - name: the database answers
        command: [/usr/bin/pg_isready]
      - name: its files are there
        command: [/usr/bin/stat, -c, "%F", /srv/data]
        stdout: ^directory$
    screenshot: /var/tmp/web-drill
  register: drill

- name: Say so
  ansible.builtin.assert:
    that: drill.passed
"""

RETURN = r"""
alive:
  description: Whether the machine showed that it lives.
  returned: success
  type: bool
  sample: true
problem:
  description: Why it does not live, or which checks failed and why; empty when all is well.
  returned: success
  type: str
  sample: ""
seconds:
  description: From when it was let go until it lived, or was given up.
  returned: success
  type: float
  sample: 23.5
passed:
  description: Whether it lived and all checks passed.
  returned: success
  type: bool
  sample: true
checks:
  description: The checks, none when the machine did not live.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      returned: success
      type: str
      sample: the database answers
    passed:
      description: Whether it passed.
      returned: success
      type: bool
      sample: true
    reason:
      description: Why not.
      returned: success
      type: str
      sample: ""
    rc:
      description: What the command returned, V(-1) when it did not end by itself.
      returned: success
      type: int
      sample: 0
    stdout:
      description: The first 2000 characters that it printed.
      returned: success
      type: str
      sample: accepting connections
    seconds:
      description: How long it took.
      returned: success
      type: float
      sample: 0.5
console:
  description: The last of what the serial console said.
  returned: success
  type: str
  sample: "web login:"
screenshot:
  description: Where the picture is, empty when there is none.
  returned: success
  type: str
  sample: /var/tmp/web-drill.png
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import domain_spec, libvirt_spec
from ansible_collections.virt.backup.plugins.module_utils._model.drill import Check, DrillRequest
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.drill import drill


def argument_spec() -> dict[str, t.Any]:
    """Return the parameters, as documented above."""
    check = {
        "name": {"type": "str", "required": True},
        "command": {"type": "list", "elements": "str", "required": True},
        "rc": {"type": "int", "default": 0},
        "stdout": {"type": "str", "default": ""},
    }
    return {
        **libvirt_spec(),
        **domain_spec(),
        "agent": {"type": "bool", "default": True},
        "console": {"type": "str", "default": ""},
        "timeout": {"type": "int", "default": 300},
        "checks": {"type": "list", "elements": "dict", "default": [], "options": check},
        "check_timeout": {"type": "int", "default": 60},
        "screenshot": {"type": "str", "default": ""},
    }


def main() -> t.NoReturn:
    """Run the module."""
    respawn_if_missing("libvirt", "python3-libvirt")
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = dict(module.params)
    params.pop("guest", None)
    checks = tuple(
        Check(entry["name"], tuple(entry["command"]), entry["rc"], entry["stdout"]) for entry in params.pop("checks")
    )
    run_module(module, lambda: drill(DrillRequest(checks=checks, **params), check=module.check_mode))


if __name__ == "__main__":
    main()
