# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which drills a run is about, and on which hypervisor each is held."""

from __future__ import annotations

import hashlib
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Data = dict[str, t.Any]

DOCUMENTATION = r"""
name: drill_units
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Share drills out among hypervisors
description:
  - Reads what the plays of the playbook C(virt.backup.verify) left in the variables of hypervisors.
  - A domain of a repository that several hypervisors have, over a network file system say, is drilled by one of them,
    always by the same. So is spread the work of many domains.
positional: hypervisors
options:
  _input:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  hypervisors:
    description: Names of the hypervisors that looked for domains.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Make each drill a host
  ansible.builtin.add_host:
    name: "{{ item.name }}"
  loop: "{{ hostvars | virt.backup.drill_units(ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: The units, as RV(virt.backup.choose_domains#filter:_value.units).
  type: list
  elements: dict
"""


def drill_units(hostvars: Mapping[str, Data], hypervisors: list[str]) -> list[Data]:
    """Return each domain of each repository once."""
    held: dict[tuple[str, str], list[Data]] = {}
    for name in sorted(hypervisors):
        repository = hostvars[name].get("virt_backup_repository_id", "")
        for unit in hostvars[name].get("virt_backup_chosen", {}).get("units", []):
            held.setdefault((repository, unit["uuid"]), []).append(unit)
    chosen = [_chosen(units, uuid) for (_repository, uuid), units in sorted(held.items())]
    names = [unit["name"] for unit in chosen]
    return [unit if names.count(unit["name"]) == 1 else _told_apart(unit) for unit in chosen]


def _told_apart(unit: Data) -> Data:
    """Give one of several domains of one name a name that is its own."""
    return {**unit, "name": f"{unit['domain']}-{unit['uuid'][:8]}@{unit['hypervisor']}"}


def _chosen(units: list[Data], uuid: str) -> Data:
    """Choose by the domain alone, so that the copy of a drill that was killed is found by the next."""
    return units[hashlib.sha256(uuid.encode()).digest()[0] % len(units)]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"drill_units": drill_units}
