# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which checkpoints a repository counts on and libvirt no longer knows."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

    Data = dict[str, t.Any]

DOCUMENTATION = r"""
name: lost_checkpoints
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Find checkpoints that increments would start from and libvirt has forgotten
description:
  - libvirt forgets a domain's checkpoints when the domain is migrated or, if it is transient, stops. The bitmaps
    stay in the images, so
    that telling libvirt again is enough to go on with increments.
  - Only the newest restore point of each disk is a base for increments; the checkpoints of others are not missed.
positional: checkpoints
options:
  _input:
    description: The restore points, oldest first, as RV(virt.backup.restore_point_info#module:restore_points)
      returns them.
    type: list
    elements: dict
    required: true
  checkpoints:
    description: The checkpoints that libvirt knows, as RV(virt.backup.virt_backup_info#module:checkpoints)
      returns them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Find what libvirt has to be told again
  ansible.builtin.set_fact:
    lost: "{{ points.restore_points | virt.backup.lost_checkpoints(info.checkpoints) }}"
"""

RETURN = r"""
_value:
  description: The lost checkpoints, oldest first, with C(name) and the C(path) of the restore point that keeps the
    definition.
  type: list
  elements: dict
"""


def lost_checkpoints(restore_points: list[Data], checkpoints: list[Data]) -> list[Data]:
    """Return the lost ones among the checkpoints that are the newest of at least one disk."""
    known = {checkpoint["name"] for checkpoint in checkpoints}
    newest = {disk["name"]: point for point in restore_points for disk in point["disks"]}
    bases = {point["id"] for point in newest.values()}
    return [
        {"name": point["checkpoint"], "path": point["path"]}
        for point in restore_points
        if point["id"] in bases and point["checkpoint"] and point["checkpoint"] not in known
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"lost_checkpoints": lost_checkpoints}
