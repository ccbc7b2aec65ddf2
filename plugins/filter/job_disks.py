# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a repository, in the words of a backup job."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = r"""
name: job_disks
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Turn the plan for a restore point into the disks of a backup job
description:
  - A disk that is planned as full is forced to be full. A disk that is planned as incremental names its checkpoint
    and stays
    free to fall back to full, should its bitmap prove unusable at the last moment.
options:
  _input:
    description: The planned disks, as RV(virt.backup.restore_point#module:disks) returns them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Start what was planned
  virt.backup.virt_backup:
    domain: web01
    disks: "{{ plan.disks | virt.backup.job_disks }}"
"""

RETURN = r"""
_value:
  description: Entries for the option O(virt.backup.virt_backup#module:disks).
  type: list
  elements: dict
"""


def job_disks(planned: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    """Return one entry for ``virt_backup`` per planned disk."""
    return [job_disk(disk) for disk in planned]


def job_disk(disk: dict[str, t.Any]) -> dict[str, t.Any]:
    """Force a full, and offer an increment."""
    if disk["level"] == "full":
        return {"name": disk["name"], "backupmode": "full"}
    return {"name": disk["name"], "backupmode": "auto", "incremental": disk["incremental"]}


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"job_disks": job_disks}
