# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results for people: a line for each domain, and one for each of its disks."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

    Data = dict[str, t.Any]

DOCUMENTATION = r"""
name: result_lines
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Show the results of backups, with a line per domain and per disk
description:
  - Says for each domain what became of it, and for each disk its level and why, in words for people.
options:
  _input:
    description:
      - The results, as the role P(virt.backup.backup#role) leaves them in C(backup_result). Their C(name), if they have
        one, is shown instead of their C(domain).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what came of it
  ansible.builtin.debug:
    msg: "{{ [backup_result] | virt.backup.result_lines }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
  sample:
    - "web01@hv1: protected, restore point 20261123T021500Z-7f3a was made"
    - "    vda: incremental, 1048576 bytes changed since checkpoint 'virt-backup.9d1c04a7b2e6.20261122T021500Z-11aa'"
    - "    sda: skipped, the cdrom drive is empty"
    - "db@hv1: NOT PROTECTED, Domain db is off (shutoff), and libvirt can back up only what runs; start it."
"""


def result_lines(results: list[Data]) -> list[str]:
    """Return the lines of all results, in their order."""
    return [line for result in results for line in lines_of(result)]


def lines_of(result: Data) -> list[str]:
    """Return the lines of one result."""
    planned = "would be protected" if result.get("planned") else "NOT PROTECTED"
    mark = "protected" if result["protected"] else planned
    lines = [f"{result.get('name', result.get('domain'))}: {mark}, {result['reason']}"]
    lines += [f"    {disk['name']}: {disk['level']}, {disk['reason']}" for disk in result.get("disks", [])]
    lines += [f"    {disk['name']}: skipped, {disk['reason']}" for disk in result.get("skipped", [])]
    return lines + [f"    warning: {warning}" for warning in result.get("warnings", [])]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"result_lines": result_lines}
