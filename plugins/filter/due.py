# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a backup is due, which is what makes a second run of the same playbook change nothing."""

from __future__ import annotations

import datetime
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

    Data = dict[str, t.Any]

DOCUMENTATION = r"""
name: due
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Decide whether a backup is due
description:
  - A backup is not due when the newest restore point is young enough and holds every disk that is asked for.
positional: disks, max_age, now, full
options:
  _input:
    description: The newest restore point, as RV(virt.backup.restore_point_info#module:latest) returns it. Null when there is none.
    type: dict
    required: true
  disks:
    description: Target names of the disks that are asked for.
    type: list
    elements: str
    required: true
  max_age:
    description: How old the newest restore point may be, in seconds. With V(0), a backup is always due.
    type: int
    required: true
  now:
    description: The present time in UTC, as a datetime.
    type: raw
    required: true
  full:
    description: Whether a full backup was asked for, which is always due.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Know whether to back up
  ansible.builtin.set_fact:
    due: "{{ points.latest | virt.backup.due(['vda'], 86400, now(utc=true)) }}"
"""

RETURN = r"""
_value:
  description: The decision.
  type: dict
  contains:
    due:
      description: Whether a backup is due.
      type: bool
    reason:
      description: Why, or why not.
      type: str
"""


def due(latest: Data | None, disks: list[str], max_age: int, now: datetime.datetime, full: bool = False) -> Data:
    """Return whether a backup is due, with the reason."""
    reason = why_due(latest, disks, max_age, now, full)
    if reason or not latest:
        return {"due": True, "reason": reason}
    age = seconds_old(latest, now)
    return {"due": False, "reason": f"restore point {latest['id']} is {age} s old, and {max_age} s are allowed"}


def why_due(latest: Data | None, disks: list[str], max_age: int, now: datetime.datetime, full: bool) -> str:
    """Return the first reason for a backup, or nothing."""
    if full:
        return "a full backup was asked for"
    if not latest:
        return "there is no restore point yet"
    if max_age <= 0:
        return "every run makes a restore point"
    held = [disk["name"] for disk in latest["disks"]]
    missing = [name for name in disks if name not in held]
    if missing:
        return f"restore point {latest['id']} does not hold {', '.join(missing)}"
    age = seconds_old(latest, now)
    return "" if 0 <= age <= max_age else f"restore point {latest['id']} is {age} s old"


def seconds_old(latest: Data, now: datetime.datetime) -> int:
    """Return the age in whole seconds; the manifest's time is UTC, and so is ``now`` where it says nothing."""
    created = datetime.datetime.fromisoformat(str(latest["created"]).replace("Z", "+00:00"))
    if now.tzinfo is None:
        now = now.replace(tzinfo=datetime.timezone.utc)
    return int((now - created).total_seconds())


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"due": due}
