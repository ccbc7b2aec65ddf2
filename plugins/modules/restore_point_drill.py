#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_point_drill
short_description: Tell whether a drill is due, and record what came of one
version_added: 0.1.0
author: virt.backup contributors (@virt-backup)
description:
  - Without O(outcome), tells whether a copy of the domain has to be booted from the repository to see that it can be,
    because no drill of it passed within O(max_age).
  - With O(outcome), records beside the manifest of the restore point what came of a drill. The manifest never changes.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.repository
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows the record of the restore point's last drill before and after.
  idempotent:
    support: none
    details:
      - Each outcome is a drill of its own, with its time.
options:
  domain_uuid:
    description:
      - UUID of the domain. Exactly one of O(domain_uuid) and O(domain_name) is required.
    type: str
  domain_name:
    description:
      - Name of the domain, as its newest restore point has it.
    type: str
  id:
    description:
      - Id of the restore point, or V(latest), which it is without O(id) and O(before), too.
    type: str
  before:
    description:
      - A time in ISO 8601, in UTC unless it says otherwise. The restore point is the newest whose run began before it.
    type: str
  max_age:
    description:
      - The time within which a drill of any restore point of the domain must have passed for none to be due, in seconds
        or like V(12h), V(30d), V(4w). V(0) means that one is always due.
    type: str
    default: "0"
  outcome:
    description:
      - What came of a drill of the restore point.
    type: dict
    suboptions:
      passed:
        description: Whether it passed.
        type: bool
        required: true
      problem:
        description: Why not.
        type: str
        default: ""
      seconds:
        description: The time to recover, from the first step of the drill to a machine that lives.
        type: float
        default: 0.0
      checks:
        description: What came of the checks, as M(virt.backup.virt_drill) returns them. Other keys are left out.
        type: list
        elements: dict
        default: []
seealso:
  - module: virt.backup.virt_drill
  - module: virt.backup.restore_point_info
"""

EXAMPLES = r"""
- name: See whether a drill is due
  virt.backup.restore_point_drill:
    repository: /srv/backup
    domain_name: web
    max_age: 30d
  register: question

- name: Record what came of it
  virt.backup.restore_point_drill:
    repository: /srv/backup
    domain_name: web
    id: "{{ question.restore_point.id }}"
    outcome:
      passed: "{{ drill.passed }}"
      problem: "{{ drill.problem }}"
      seconds: "{{ drill.seconds }}"
      checks: "{{ drill.checks }}"
"""

RETURN = r"""
restore_point:
  description: The restore point, as in RV(virt.backup.restore_disks#module:restore_point).
  returned: success
  type: dict
  sample: {"id": "20261123T021500Z-7f3a", "domain_name": "web"}
due:
  description: Whether a drill is due.
  returned: success
  type: bool
  sample: true
reason:
  description: Why, or why not.
  returned: success
  type: str
  sample: no drill of this domain passed within 30d
drill:
  description: The drill because of which none is due, or the one that was recorded; null when there is none.
  returned: success
  type: dict
  contains:
    format:
      description: The version of the format.
      returned: success
      type: int
      sample: 1
    when:
      description: When it ended, in UTC.
      returned: success
      type: str
      sample: "2026-11-24T02:15:00Z"
    passed:
      description: Whether it passed.
      returned: success
      type: bool
      sample: true
    problem:
      description: Why not.
      returned: success
      type: str
      sample: ""
    milliseconds:
      description: The time to recover.
      returned: success
      type: int
      sample: 41200
    checks:
      description: What came of the checks, as C(name), C(passed) and C(reason).
      returned: success
      type: list
      elements: dict
      sample: [{"name": "the database answers", "passed": true, "reason": ""}]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import choice_spec
from ansible_collections.virt.backup.plugins.module_utils._model.drill import CheckOutcome
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_drill import DrillNote, drill_of
from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import PointRequest


def note_of(given: dict[str, t.Any] | None) -> DrillNote | None:
    """Build the record from the option."""
    if given is None:
        return None
    checks = tuple(
        CheckOutcome(str(entry.get("name", "")), entry.get("passed") is True, str(entry.get("reason", "")))
        for entry in given["checks"]
    )
    return DrillNote(given["passed"], given["problem"], given["seconds"], checks)


def main() -> t.NoReturn:
    """Run the module."""
    outcome = {
        "passed": {"type": "bool", "required": True},
        "problem": {"type": "str", "default": ""},
        "seconds": {"type": "float", "default": 0.0},
        "checks": {"type": "list", "elements": "dict", "default": []},
    }
    module = AnsibleModule(
        argument_spec={
            **choice_spec(),
            "max_age": {"type": "str", "default": "0"},
            "outcome": {"type": "dict", "options": outcome},
        },
        mutually_exclusive=[("domain_uuid", "domain_name"), ("id", "before")],
        required_one_of=[("domain_uuid", "domain_name")],
        supports_check_mode=True,
    )
    names = ("repository", "domain_uuid", "domain_name", "id", "before")
    point = PointRequest(**{name: module.params[name] or "" for name in names})
    note = note_of(module.params["outcome"])
    run_module(module, lambda: drill_of(point, module.params["max_age"], note, check=module.check_mode))


if __name__ == "__main__":
    main()
