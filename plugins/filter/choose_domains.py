# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which domains of a hypervisor a run is about."""

from __future__ import annotations

import fnmatch
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.names import listed

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Names = t.Union[str, Sequence[str]]

DOCUMENTATION = r"""
name: choose_domains
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Choose domains of a hypervisor by name
description:
  - Turns the domains of one hypervisor into units of work named C(<domain>@<hypervisor>), so that two hypervisors
    may have
    domains of one name.
positional: hypervisor, include, exclude
options:
  _input:
    description: The domains, as RV(virt.backup.virt_backup_info#module:domains) returns them.
    type: list
    elements: dict
    required: true
  hypervisor:
    description: Name of the inventory host that runs the domains.
    type: str
    required: true
  include:
    description: Names and shell patterns of the domains to take, as a list or separated by commas.
    type: raw
    required: true
  exclude:
    description: Names and shell patterns of the domains to leave out, as a list or separated by commas.
    type: raw
    default: []
"""

EXAMPLES = r"""
- name: Take all web servers but one
  ansible.builtin.set_fact:
    chosen: "{{ info.domains | virt.backup.choose_domains(inventory_hostname, 'web*', 'web-old') }}"
"""

RETURN = r"""
_value:
  description: What was chosen.
  type: dict
  contains:
    units:
      description: One entry per chosen domain.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the unit of work.
          type: str
          sample: web01@hv1
        domain:
          description: Name of the domain.
          type: str
        uuid:
          description: UUID of the domain.
          type: str
        hypervisor:
          description: Name of the inventory host that runs the domain.
          type: str
    unmatched:
      description: Entries of O(include) that match no domain of this hypervisor.
      type: list
      elements: str
"""


def choose_domains(
    domains: list[dict[str, t.Any]], hypervisor: str, include: Names, exclude: Names = ()
) -> dict[str, t.Any]:
    """Return the units of work, and the patterns that match nothing here."""
    wanted, unwanted = listed(include), listed(exclude)
    units = [
        {
            "name": f"{domain['name']}@{hypervisor}",
            "domain": domain["name"],
            "uuid": domain["uuid"],
            "hypervisor": hypervisor,
        }
        for domain in domains
        if matches(domain["name"], wanted) and not matches(domain["name"], unwanted)
    ]
    unmatched = [entry for entry in wanted if not any(matches(domain["name"], [entry]) for domain in domains)]
    return {"units": units, "unmatched": unmatched}


def matches(name: str, patterns: list[str]) -> bool:
    """Whether one of the patterns fits, or is the name; upper and lower case differ, as they do for libvirt."""
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"choose_domains": choose_domains}
