# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was planned for each disk and what the job made of it, in one entry per disk."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

if t.TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = r"""
name: merge_disks
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Merge the planned disks with those of the running job
description:
  - The level is the job's. The reason is the plan's where the plan asked for a full, because the job only obeyed;
    else it is
    the job's.
  - A disk that was planned as incremental and became full loses its base and its backing file.
positional: job
options:
  _input:
    description: The planned disks, as RV(virt.backup.restore_point#module:disks) returns them.
    type: list
    elements: dict
    required: true
  job:
    description: The disks of the job, as RV(virt.backup.virt_backup#module:disks) returns them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Know what each image will be
  ansible.builtin.set_fact:
    disks: "{{ plan.disks | virt.backup.merge_disks(job.disks) }}"
"""

RETURN = r"""
_value:
  description: The planned entries with C(level), C(reason), C(incremental), C(base), C(backing_file), C(uri) and
    C(exportbitmap) as
    they came to be.
  type: list
  elements: dict
"""

Disk = dict[str, t.Any]


def merge_disks(planned: list[Disk], job: list[Disk]) -> list[Disk]:
    """Return the planned disks as the job runs them."""
    running = {disk["name"]: disk for disk in job}
    missing = [disk["name"] for disk in planned if disk["name"] not in running]
    if missing:
        raise AnsibleFilterError(
            f"job: planned disk {', '.join(missing)} is not part of the running job; end that job first."
        )
    return [merge(disk, running[disk["name"]]) for disk in planned]


def merge(plan: Disk, job: Disk) -> Disk:
    """Return one disk with the level of the job and the reason of whoever decided."""
    merged = {**plan, "level": job["level"], "uri": job["uri"], "exportbitmap": job["exportbitmap"]}
    merged["reason"] = plan["reason"] if plan["level"] == "full" else job["reason"]
    if job["level"] == "full":
        merged.update(incremental="", base="", backing_file="", exportbitmap="")
    return merged


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"merge_disks": merge_disks}
