# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which machines came back in the drills of a run, which did not, and why."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Data = dict[str, t.Any]

DOCUMENTATION = r"""
name: drill_summary
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Sum up the drills of a run
description:
  - Reads what the plays of the playbook C(virt.backup.verify) left in the variables of hypervisors and units of work.
  - Whatever ended without a result counts as failed, so that nothing is forgotten.
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
    summary: "{{ hostvars | virt.backup.drill_summary(groups.hypervisors, groups.virt_backup_drills) }}"
"""

RETURN = r"""
_value:
  description: The summary.
  type: dict
  contains:
    passed:
      description: Names of the units that passed, or that need no drill now.
      type: list
      elements: str
    failed:
      description: Units, hypervisors and names that did not, with C(name) and C(reason).
      type: list
      elements: dict
    lines:
      description: A line for each, the failed last.
      type: list
      elements: str
      sample:
        - "web@hv1: came back in 13.4 seconds, 2 checks passed (20261123T021500Z-7f3a)"
        - "db@hv1: FAILED, its agent did not answer within 300 seconds (20261123T021612Z-90ab)"
"""

LOST = "it did not come to its end: its hypervisor became unreachable, the run was stopped, or a limit leaves it out"


def drill_summary(hostvars: Mapping[str, Data], hypervisors: list[str], units: list[str]) -> Data:
    """Return which drills passed."""
    results = {unit: hostvars[unit].get("verify_result", {}) for unit in sorted(units)}
    failed = [
        {"name": unit, "reason": _why_failed(hostvars[unit])}
        for unit, result in results.items()
        if not (result.get("passed") or _is_planned(hostvars[unit]))
    ]
    failed += [{"name": name, "reason": why} for name in sorted(hypervisors) if (why := _problem(hostvars[name]))]
    failed += [
        {"name": name, "reason": "no domain of that name was found"} for name in _unmatched(hostvars, hypervisors)
    ]
    bad = {entry["name"] for entry in failed}
    lines = [_line(unit, result) for unit, result in results.items() if unit not in bad]
    return {
        "passed": [unit for unit, result in results.items() if result.get("passed")],
        "failed": failed,
        "lines": [*lines, *(f"{entry['name']}: FAILED, {entry['reason']}" for entry in failed)],
    }


def _is_planned(variables: Data) -> bool:
    """Whether check mode found that a drill is due: then there is a result, and nothing failed."""
    result = variables.get("verify_result", {})
    return bool(result.get("due")) and "checks" not in result and "virt_backup_drill_problem" not in variables


def _why_failed(variables: Data) -> str:
    result = variables.get("verify_result", {})
    if "checks" in result:
        return f"{result['reason'].rstrip('.')} ({result['restore_point']})"
    return str(variables.get("virt_backup_drill_problem", LOST))


def _problem(variables: Data) -> str:
    """Return why the domains of a hypervisor are not even known, if so."""
    return str(variables.get("virt_backup_problem", LOST))


def _unmatched(hostvars: Mapping[str, Data], hypervisors: list[str]) -> list[str]:
    """Return the selected names that no repository knows."""
    lists = [set(hostvars[name].get("virt_backup_chosen", {}).get("unmatched", [])) for name in hypervisors]
    return sorted(set.intersection(*lists)) if lists else []


def _line(unit: str, result: Data) -> str:
    if not result["due"]:
        return f"{unit}: nothing to do, {result['reason']}"
    if "checks" not in result:
        return f"{unit}: a drill is due, {result['reason']} ({result['restore_point']})"
    count = len(result["checks"])
    checks = f"{count} check{'' if count == 1 else 's'} passed"
    return f"{unit}: came back in {float(result['seconds']):.1f} seconds, {checks} ({result['restore_point']})"


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"drill_summary": drill_summary}
