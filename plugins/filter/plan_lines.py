# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan for people: one line per disk."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.size import in_units

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Data = dict[str, t.Any]

DOCUMENTATION = r"""
name: plan_lines
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Show the plan for a restore point, one line per disk
description:
  - Says for each disk its level, what will be copied and why, in words for people.
positional: domain, checkpoints, skipped
options:
  _input:
    description: The planned disks, as RV(virt.backup.restore_point#module:disks) returns them.
    type: list
    elements: dict
    required: true
  domain:
    description: Name of the domain.
    type: str
    required: true
  checkpoints:
    description:
      - The checkpoints, as RV(virt.backup.virt_backup_info#module:checkpoints) returns them. They know how much
        changed.
    type: list
    elements: dict
    default: []
  skipped:
    description: Disks that take no part, as C(name) and C(reason).
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Show the plan
  ansible.builtin.debug:
    msg: "{{ plan.disks | virt.backup.plan_lines('web01', info.checkpoints, chosen.skipped) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
  sample:
    - "web01 vda: incremental, 1.0 MiB changed since checkpoint 'virt-backup.7c2f.20261123T021500Z-7f3a'"
    - "web01 vdb: full, the disk has no image in this repository yet"
    - "web01 sda: skipped, the cdrom drive is empty"
"""


def plan_lines(
    disks: list[Data], domain: str, checkpoints: Sequence[Data] = (), skipped: Sequence[Data] = ()
) -> list[str]:
    """Return one line per planned disk, then one per skipped one."""
    lines = [f"{domain} {disk['name']}: {disk['level']}, {amount(disk, checkpoints)}{disk['reason']}" for disk in disks]
    return lines + [f"{domain} {disk['name']}: skipped, {disk['reason']}" for disk in skipped]


def amount(disk: Data, checkpoints: Sequence[Data]) -> str:
    """Return what an increment has to copy, as far as libvirt knows; nothing for a full."""
    dirty = {
        (checkpoint["name"], entry["name"]): entry.get("dirty_bytes")
        for checkpoint in checkpoints
        for entry in checkpoint["disks"]
    }.get((disk["incremental"], disk["name"]))
    return "" if dirty is None else f"{in_units(dirty)} to copy, "


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"plan_lines": plan_lines}
