#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_checkpoint_info
short_description: List the checkpoints of a libvirt domain
version_added: 0.1.0
author: virt.backup contributors (@virt-backup)
description:
  - Lists the checkpoints of a domain, parents first.
  - With O(size=true) tells for each disk how much changed since the checkpoint, and whether its dirty bitmap can
    still be the base of an incremental backup, with the reason when it cannot.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.attributes.info_module
  - virt.backup.libvirt
  - virt.backup.libvirt.domain
options:
  name:
    description:
      - Only the checkpoint of this name. The list is empty when there is none.
    type: str
  size:
    description:
      - Also return RV(checkpoints[].disks[].dirty_bytes), RV(checkpoints[].disks[].usable) and
        RV(checkpoints[].disks[].reason).
      - Needs a running domain. No data is read for it.
    type: bool
    default: false
seealso:
  - module: virt.backup.virt_checkpoint
  - module: virt.backup.virt_backup_info
"""

EXAMPLES = r"""
- name: See which checkpoints could be the base of an incremental backup
  virt.backup.virt_checkpoint_info:
    domain: web
    size: true
  register: found

- name: Show how much changed on each disk
  ansible.builtin.debug:
    msg: "{{ found.checkpoints }}"
"""

RETURN = r"""
checkpoints:
  description: The checkpoints, parents before their children.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the checkpoint, which is also the name of its dirty bitmaps.
      returned: success
      type: str
      sample: nightly-1
    parent:
      description: Name of the checkpoint above it, empty for a root. For display only; every checkpoint stands by
        itself.
      returned: success
      type: str
      sample: ""
    creation_time:
      description: When it was created, in seconds since the epoch.
      returned: success
      type: int
      sample: 1795400100
    description:
      description: Its description, empty when it has none.
      returned: success
      type: str
      sample: before the upgrade
    xml:
      description: The XML from which the checkpoint can be redefined, without the domain's XML.
      returned: success
      type: str
      sample: "<domaincheckpoint>...</domaincheckpoint>"
    disks:
      description: The disks that the checkpoint knows.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: Target name of the disk.
          returned: success
          type: str
          sample: vda
        checkpoint:
          description: V(bitmap) when changes of the disk are recorded, else V(no).
          returned: success
          type: str
          sample: bitmap
        dirty_bytes:
          description: Bytes that changed since the checkpoint, rounded up to the granularity of the bitmap; null
            where libvirt cannot tell.
          returned: when O(size=true)
          type: int
          sample: 1048576
        usable:
          description: Whether an incremental backup of this disk can start from this checkpoint.
          returned: when O(size=true)
          type: bool
          sample: true
        reason:
          description: Why it is not usable, empty when it is.
          returned: when O(size=true)
          type: str
          sample: ""
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import domain_spec, libvirt_spec
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.info import checkpoint_info


def main() -> t.NoReturn:
    respawn_if_missing("libvirt", "python3-libvirt")
    module = AnsibleModule(
        argument_spec={
            **libvirt_spec(),
            **domain_spec(),
            "name": {"type": "str"},
            "size": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    options = module.params
    run_module(
        module,
        lambda: checkpoint_info(options["uri"], options["domain"], name=options["name"] or "", size=options["size"]),
    )


if __name__ == "__main__":
    main()
