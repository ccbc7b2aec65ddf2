#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_disk_copy
short_description: Copy disks of a running domain to another place, and let it go on there
version_added: 0.1.0
author: virt.backup contributors (@virt-backup)
description:
  - Copies disks of a running domain, with all that is below them, into one plain file or block device each, and makes
    the domain go on there, without a pause that its guest would notice. It is the second half of a restore in which the
    machine ran from the backup at once.
  - While the copy runs, every write of the guest goes to both places. The domain moves only when the copies of all
    disks are complete.
  - When a copy fails, what this module began is given up and its files are removed. The domain goes on where it was,
    and no write is lost.
  - An older file is kept as C(.<name>.before-copy) until the domain runs on the new one, and gets its name back when
    the copy fails. What any other disk or domain has is never replaced.
  - What the disks were on before is not removed.
  - Runs on the hypervisor.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.libvirt
  - virt.backup.libvirt.domain
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows where the disks are before and after.
  idempotent:
    support: full
    details:
      - A disk that is at its O(disks[].dest) is left as it is. A copy to there that runs already, as after a run that
        was cut off, is waited for. What a run that was killed left of a copy that did not end is made anew.
options:
  disks:
    description:
      - The disks and where they go.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Target name of the disk, such as V(vda).
        type: str
        required: true
      dest:
        description:
          - The absolute path of the file to make, or of a block device; with O(disks[].type=volume) V(pool/volume).
          - The file is made by libvirt, and has its name while it is still incomplete.
        type: str
        required: true
      type:
        description:
          - What O(disks[].dest) is. A block device is overwritten.
          - A volume of one of libvirt's storage pools is as in M(virt.backup.restore_disks). The domain goes on with
            its path.
        type: str
        choices: [file, block, volume]
        default: file
      format:
        description: The format there. A block device takes V(raw).
        type: str
        choices: [qcow2, raw]
        default: qcow2
  overwrite:
    description:
      - Whether to remove a file that is at a O(disks[].dest). Without it, one that is there is an error.
    type: bool
    default: false
  bandwidth:
    description:
      - The most bytes per second that the copy of each disk takes. V(0) is no limit.
    type: int
    default: 0
  timeout:
    description:
      - Seconds after which copies that make no progress at all are given up.
    type: int
    default: 300
  status_file:
    description:
      - The absolute path of a JSON file that tells how far the disks are. Replaced at most once a second, and at the
        end. It is like that of M(virt.backup.nbd_extract).
    type: str
    default: ""
notes:
  - Checkpoints of the domain stay, but the copy has none of their bitmaps. The next backup of such a disk is full.
seealso:
  - module: virt.backup.virt_restore
  - module: virt.backup.restore_point_export
"""

EXAMPLES = r"""
- name: Move a machine from its overlay on the backup to its own disks
  virt.backup.virt_disk_copy:
    domain: web
    disks:
      - name: vda
        dest: /var/lib/libvirt/images/web.qcow2
      - name: vdb
        dest: /dev/vg/web-data
        type: block
        format: raw
    status_file: /run/virt-backup/web.status
"""

RETURN = r"""
disks:
  description: The disks, in the order of O(disks).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Target name of the disk.
      returned: success
      type: str
      sample: vda
    source:
      description: Where it is now; in check mode, where it would be.
      returned: success
      type: str
      sample: /var/lib/libvirt/images/web.qcow2
    before:
      description: Where it was, or is still when it did not change.
      returned: success
      type: str
      sample: /var/lib/libvirt/images/web.overlay
    format:
      description: The format there.
      returned: success
      type: str
      sample: qcow2
    changed:
      description: Whether it was moved.
      returned: success
      type: bool
      sample: true
seconds:
  description: From the beginning of the first copy until the domain ran on the last one.
  returned: success
  type: float
  sample: 42.105
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import domain_spec, libvirt_spec
from ansible_collections.virt.backup.plugins.module_utils._model.disk_copy import CopyTarget, DiskCopyRequest
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.disk_copy import copy_disks


def argument_spec() -> dict[str, t.Any]:
    """Return the parameters, as documented above."""
    disk = {
        "name": {"type": "str", "required": True},
        "dest": {"type": "str", "required": True},
        "type": {"type": "str", "choices": ["file", "block", "volume"], "default": "file"},
        "format": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
    }
    return {
        **libvirt_spec(),
        **domain_spec(),
        "disks": {"type": "list", "elements": "dict", "required": True, "options": disk},
        "overwrite": {"type": "bool", "default": False},
        "bandwidth": {"type": "int", "default": 0},
        "timeout": {"type": "int", "default": 300},
        "status_file": {"type": "str", "default": ""},
    }


def main() -> t.NoReturn:
    """Run the module."""
    respawn_if_missing("libvirt", "python3-libvirt")
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = dict(module.params)
    params.pop("guest", None)
    disks = tuple(CopyTarget(disk["name"], disk["dest"], disk["format"], disk["type"]) for disk in params.pop("disks"))
    request = DiskCopyRequest(disks=disks, **params)
    run_module(module, lambda: copy_disks(request, check=module.check_mode))


if __name__ == "__main__":
    main()
