# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is protected after a run over many domains, who is not, and why."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Data = dict[str, t.Any]

DOCUMENTATION = r"""
name: protection
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Sum up which domains a run protected, and which not
description:
  - Reads what the plays of the playbook C(virt.backup.backup) left in the variables of hypervisors and units of work.
  - Whatever ended without a result counts as not protected, so that nothing is forgotten.
positional: hypervisors, units
options:
  _input:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  hypervisors:
    description: Names of the hypervisors that the run was about.
    type: list
    elements: str
    required: true
  units:
    description: Names of the units of work that the run added.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Sum up
  ansible.builtin.set_fact:
    summary: "{{ hostvars | virt.backup.protection(groups.hypervisors, groups.virt_backup_units) }}"
"""

RETURN = r"""
_value:
  description: The summary.
  type: dict
  contains:
    protected:
      description: The units that are protected, with C(name), C(restore_point), C(reason) and C(disks).
      type: list
      elements: dict
    planned:
      description: In check mode, the units for which a restore point would be made.
      type: list
      elements: dict
    results:
      description: All of them, the protected first.
      type: list
      elements: dict
    unprotected:
      description: Units, hypervisors and names that are not, with C(name) and C(reason).
      type: list
      elements: dict
    left_out:
      description: Names of units that C(--limit) left out, while it named another domain of the same hypervisor.
      type: list
      elements: str
"""

NOT_REACHED = (
    "--limit names its hypervisor but no domain of it: add '*@<hypervisor>' to the limit, or set "
    "virt_backup_hypervisors instead of a limit"
)
LOST = "it did not come to its end: its hypervisor became unreachable, or the run was stopped"


def protection(hostvars: Mapping[str, Data], hypervisors: list[str], units: list[str]) -> Data:
    """Return who is protected and who is not."""
    begun = [unit for unit in sorted(units) if hostvars[unit].get("virt_backup_begun")]
    results = [unit_result(hostvars[unit], unit) for unit in begun]
    named = {hostvars[unit]["virt_backup_hypervisor"] for unit in begun}
    waiting = [unit for unit in sorted(units) if unit not in begun]
    missed = [unit for unit in waiting if hostvars[unit]["virt_backup_hypervisor"] not in named]
    planned = [result for result in results if result.get("planned")]
    protected = [result for result in results if result["protected"]]
    unprotected = [result for result in results if not result["protected"] and not result.get("planned")]
    unprotected += [unprotected_result(unit, NOT_REACHED) for unit in missed]
    unprotected += [problem for name in sorted(hypervisors) for problem in hypervisor_problems(hostvars[name], name)]
    unprotected += unmatched(hostvars, hypervisors)
    return {
        "results": protected + planned + unprotected,
        "protected": protected,
        "planned": planned,
        "unprotected": unprotected,
        "left_out": [unit for unit in waiting if unit not in missed],
    }


def unit_result(variables: Data, name: str) -> Data:
    """Return the result of one unit; one that never ended is not protected."""
    if "backup_result" in variables:
        return {**variables["backup_result"], "name": name}
    return unprotected_result(name, LOST)


def unprotected_result(name: str, reason: str) -> Data:
    """Return the result of something that is not protected."""
    return {"name": name, "protected": False, "reason": reason}


def hypervisor_problems(variables: Data, name: str) -> list[Data]:
    """Return why the domains of a hypervisor are not even known, if so."""
    problem = variables.get("virt_backup_problem", LOST)
    return [unprotected_result(name, problem)] if problem else []


def unmatched(hostvars: Mapping[str, Data], hypervisors: list[str]) -> list[Data]:
    """Return the selected names that no hypervisor knows."""
    lists = [set(hostvars[name].get("virt_backup_chosen", {}).get("unmatched", [])) for name in hypervisors]
    nowhere = set.intersection(*lists) if lists else set()
    return [
        {"name": name, "protected": False, "reason": "no domain of that name was found"} for name in sorted(nowhere)
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"protection": protection}
