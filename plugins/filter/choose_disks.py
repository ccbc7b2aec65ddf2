# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which disks of a domain a backup is about, and why the others are not."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.names import listed

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Disk = dict[str, t.Any]
    Names = t.Union[str, Sequence[str]]

DOCUMENTATION = r"""
name: choose_disks
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Choose disks of a domain by target name
description:
  - Splits the disks of a domain into those that take part in a backup and those that do not, each with its reason.
  - A name that no disk has is a problem, as is a named disk that cannot be backed up, and nothing to take. Other disks
    that cannot be backed up are left out with their reason.
  - Disks that nobody writes to, such as an inserted CD, take part only when they are named.
positional: include, exclude
options:
  _input:
    description: The disks, as RV(virt.backup.virt_backup_info#module:disks) returns them.
    type: list
    elements: dict
    required: true
  include:
    description: Target names of the disks to take, as a list or separated by commas. Empty means all.
    type: raw
    default: []
  exclude:
    description: Target names of the disks to leave out, as a list or separated by commas.
    type: raw
    default: []
"""

EXAMPLES = r"""
- name: Leave the swap disk out
  ansible.builtin.set_fact:
    chosen: "{{ info.disks | virt.backup.choose_disks(exclude=['vdb']) }}"
"""

RETURN = r"""
_value:
  description: What was chosen.
  type: dict
  contains:
    take:
      description: The disks that take part, unchanged.
      type: list
      elements: dict
    skipped:
      description: The others, as C(name) and C(reason).
      type: list
      elements: dict
    problem:
      description: What is wrong with the wish, empty when nothing is.
      type: str
"""


def choose_disks(disks: list[Disk], include: Names = (), exclude: Names = ()) -> dict[str, t.Any]:
    """Split the disks into those to take and those to skip, or say what is wrong with the wish."""
    wanted, unwanted = listed(include), listed(exclude)
    reasons = {disk["name"]: why_not(disk, wanted, unwanted) for disk in disks}
    take = [disk for disk in disks if not reasons[disk["name"]]]
    skipped = [{"name": name, "reason": reason} for name, reason in reasons.items() if reason]
    known = [disk["name"] for disk in disks]
    problems = [unknown("backup_include_disks", wanted, known), unknown("backup_exclude_disks", unwanted, known)]
    problems += [impossible(disk) for disk in disks if disk["name"] in wanted and not disk["backup"]]
    if not take:
        reason = "; ".join(f"{disk['name']}: {disk['reason']}" for disk in skipped) or "it has none"
        problems.append(f"the domain has no disk to back up ({reason})")
    return {"take": take, "skipped": skipped, "problem": next((problem for problem in problems if problem), "")}


def unknown(parameter: str, chosen: list[str], known: list[str]) -> str:
    """Return what is wrong with a list that names a disk which the domain does not have."""
    strangers = [name for name in chosen if name not in known]
    if not strangers:
        return ""
    return f"{parameter}: the domain has no disk '{strangers[0]}'; its disks are {', '.join(known) or 'none'}"


def impossible(disk: Disk) -> str:
    """Return what is wrong with naming a disk that cannot be backed up."""
    return f"backup_include_disks: disk '{disk['name']}' cannot be backed up: {disk['backup_reason']}"


def why_not(disk: Disk, wanted: list[str], unwanted: list[str]) -> str:
    """Return why the disk takes no part, or nothing when it does."""
    if disk["name"] in unwanted:
        return "excluded by backup_exclude_disks"
    if wanted and disk["name"] not in wanted:
        return "not in backup_include_disks"
    question = "backup" if wanted else "by_default"
    return "" if disk[question] else str(disk[f"{question}_reason"])


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"choose_disks": choose_disks}
