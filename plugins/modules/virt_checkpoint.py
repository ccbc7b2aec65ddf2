#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_checkpoint
short_description: Create and remove checkpoints of a libvirt domain
version_added: 0.1.0
author: virt.backup contributors (@virt-backup)
description:
  - A checkpoint is a named moment in the life of a running domain. From then on, a persistent dirty bitmap on each of
    its disks records what changes, so that a later backup can hold just that.
  - Most checkpoints are made together with a backup, by M(virt.backup.virt_backup). This module makes one without a
    backup, removes those that are no longer needed, and gives libvirt a lost definition back.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.libvirt
  - virt.backup.libvirt.domain
options:
  name:
    description:
      - Name of the checkpoint. Letters, digits, C(_), C(-) and C(.), not starting with C(.).
      - A name should never be used twice, since a bitmap of that name may still be in an image.
    type: str
    required: true
  state:
    description:
      - V(present) creates the checkpoint. One that exists and is as asked for is left alone. One that exists and
        differs is an error that says how.
      - V(absent) removes it with its bitmaps. Other checkpoints lose nothing by that.
    type: str
    choices: [present, absent]
    default: present
  description:
    description:
      - A text to keep with the checkpoint.
    type: str
  disks:
    description:
      - The disks that get a bitmap.
      - When omitted, every disk that can carry one does. That is not libvirt's default, which fails on the first raw
        disk.
      - When given, disks that are not listed get none.
    type: list
    elements: dict
    suboptions:
      name:
        description: Target name of the disk, such as V(vda).
        type: str
        required: true
      checkpoint:
        description: Whether changes of the disk are recorded.
        type: str
        choices: [bitmap, 'no']
        default: bitmap
  redefine_xml:
    description:
      - The XML of a checkpoint whose definition libvirt has lost, while its bitmaps are still in the images. This
        happens when a domain is migrated, or a transient domain stops. M(virt.backup.virt_checkpoint_info) returns
        such XML, and every restore point holds it in C(checkpoint.xml).
      - Disks and a parent that the domain no longer has are left out, with a warning.
    type: str
  validate:
    description:
      - With O(redefine_xml), have libvirt check that the bitmaps exist. Needs a running domain.
    type: bool
    default: false
  children:
    description:
      - With O(state=absent), also remove all checkpoints below this one.
    type: bool
    default: false
  metadata_only:
    description:
      - With O(state=absent), make libvirt forget the checkpoint and leave its bitmaps in the images. Works while the
        domain is off.
    type: bool
    default: false
  quiesce:
    description:
      - Whether the guest's file systems are frozen for the moment of the checkpoint, through the guest agent.
      - V(try) goes on without when that fails, and warns. V(require) fails.
      - The guest is thawed on every path.
    type: str
    choices: [never, try, require]
    default: never
seealso:
  - module: virt.backup.virt_checkpoint_info
  - module: virt.backup.virt_backup
"""

EXAMPLES = r"""
- name: Record from now on what changes on all disks of a domain
  virt.backup.virt_checkpoint:
    domain: web
    name: before-upgrade

- name: Only on one disk
  virt.backup.virt_checkpoint:
    domain: web
    name: data-only
    disks:
      - name: vdb

- name: Give libvirt a definition back after a migration
  virt.backup.virt_checkpoint:
    domain: web
    name: before-upgrade
    redefine_xml: "{{ lookup('ansible.builtin.file', 'before-upgrade.xml') }}"

- name: Stop recording
  virt.backup.virt_checkpoint:
    domain: web
    name: before-upgrade
    state: absent
"""

RETURN = r"""
checkpoint:
  description: The checkpoint, null when it is absent.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      returned: success
      type: str
      sample: before-upgrade
    parent:
      description: Name of the checkpoint above it, empty for a root.
      returned: success
      type: str
      sample: ""
    creation_time:
      description: When it was created, in seconds since the epoch; 0 in check mode.
      returned: success
      type: int
      sample: 1795400100
    description:
      description: Its description, empty when it has none.
      returned: success
      type: str
      sample: ""
    disks:
      description: The disks that it knows. On one that existed before, C(dirty_bytes), C(usable) and C(reason) as in
        M(virt.backup.virt_checkpoint_info) too.
      returned: success
      type: list
      elements: dict
      sample:
        - name: vda
          checkpoint: bitmap
xml:
  description: The checkpoint's XML; in check mode exactly what would be sent.
  returned: success
  type: str
  sample: "<domaincheckpoint>...</domaincheckpoint>"
quiesced:
  description: Whether the guest was frozen for that moment.
  returned: when a checkpoint was created
  type: bool
  sample: false
freeze_seconds:
  description: How long it was frozen.
  returned: when a checkpoint was created
  type: float
  sample: 0.0
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import domain_spec, libvirt_spec, pairs
from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint_goal import CheckpointGoal
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.checkpoint import ensure_checkpoint

DISK_SPEC = {
    "name": {"type": "str", "required": True},
    "checkpoint": {"type": "str", "choices": ["bitmap", "no"], "default": "bitmap"},
}


def goal_from(options: dict[str, t.Any]) -> CheckpointGoal:
    """Build the goal from the module's options."""
    return CheckpointGoal(
        uri=options["uri"],
        domain=options["domain"],
        name=options["name"],
        state=options["state"],
        description=options["description"] or "",
        disks=pairs(options["disks"]),
        redefine_xml=options["redefine_xml"] or "",
        validate=options["validate"],
        children=options["children"],
        metadata_only=options["metadata_only"],
        quiesce=options["quiesce"],
    )


def main() -> t.NoReturn:
    respawn_if_missing("libvirt", "python3-libvirt")
    module = AnsibleModule(
        argument_spec={
            **libvirt_spec(),
            **domain_spec(),
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "description": {"type": "str"},
            "disks": {"type": "list", "elements": "dict", "options": DISK_SPEC},
            "redefine_xml": {"type": "str"},
            "validate": {"type": "bool", "default": False},
            "children": {"type": "bool", "default": False},
            "metadata_only": {"type": "bool", "default": False},
            "quiesce": {"type": "str", "choices": ["never", "try", "require"], "default": "never"},
        },
        supports_check_mode=True,
    )
    run_module(module, lambda: ensure_checkpoint(goal_from(module.params), check=module.check_mode))


if __name__ == "__main__":
    main()
