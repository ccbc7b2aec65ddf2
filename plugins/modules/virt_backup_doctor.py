#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_backup_doctor
short_description: Repair what dead runs and crashes left of a domain's backups
version_added: 0.1.0
author:
  - virt.backup contributors (@virt-backup)
description:
  - Looks at a domain and at one repository together, and brings back into order what a run that died, a crash or a
    migration left behind.
  - Ends the job of a run that died, and removes its socket, its scratch files, its checkpoint and its staging.
  - Finishes interrupted removals.
  - Gives libvirt the checkpoints back that it has forgotten and the next increment starts from.
  - Removes bitmaps of this repository that record nothing any more, and checkpoints that no increment can start from.
  - Touches nothing but what the staging of a dead run names, or a manifest of this repository. Foreign jobs and
    checkpoints, and what only looks like ours, are left alone. A socket is removed only if its name holds the UUID of
    the domain.
  - While a run for this domain and repository is alive, nothing is repaired.
  - A repair never makes a restore point unusable. The worst that follows from one is that a disk's next image is full.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.libvirt
  - virt.backup.libvirt.domain
  - virt.backup.repository
attributes:
  check_mode:
    support: partial
    details:
      - Whether the bitmaps of a checkpoint that libvirt has forgotten are alive is only found by the repair. Check mode
        shows such a checkpoint with a RV(repairs[].problem) and does not count it as changed.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - The state to bring the domain's backups into.
    type: str
    choices: [healthy]
    default: healthy
  scratch_dir:
    description:
      - The absolute path of the directory that was given to M(virt.backup.virt_backup) as
        O(virt.backup.virt_backup#module:scratch_dir).
      - With it, scratch files of this domain are removed while it has no backup job, as a host that lost its power
        leaves them.
    type: str
    default: ""
  timeout:
    description:
      - How long to wait for a job to end, in seconds.
    type: int
    default: 60
  run:
    description:
      - Words for who repairs, which others are told who meet the lock.
    type: str
    default: ""
seealso:
  - module: virt.backup.restore_point_info
  - module: virt.backup.virt_checkpoint_info
"""

EXAMPLES = r"""
- name: Set right what the crash of last night left
  virt.backup.virt_backup_doctor:
    domain: web
    repository: /srv/backup
    scratch_dir: /var/lib/virt-backup/scratch
  register: doctor

- name: Show what only a person can set right
  ansible.builtin.debug:
    var: doctor.problems
  when: doctor.problems | length > 0
"""

RETURN = r"""
repairs:
  description: What was repaired, in the order in which it was done. In check mode, what would be.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - One of V(end_job), V(stop_server), V(remove_socket), V(remove_scratch), V(remove_checkpoint),
          V(remove_staging), V(finish_removal), V(redefine_checkpoint) and V(remove_bitmaps).
        - V(stop_server) ends the NBD server of a job that libvirt has lost (its daemon was killed in a bad moment) by
          QEMU's monitor, for which libvirt marks the domain as tainted. Nothing else does it but a restart of the
          domain.
      returned: success
      type: str
      sample: remove_checkpoint
    subject:
      description: What it is done to.
      returned: success
      type: str
      sample: virt-backup.4f1c09a2be77.20261123T021500Z-7f3a
    reason:
      description: Why.
      returned: success
      type: str
      sample: the run for 20261123T021500Z-7f3a died before it published, so this is no base
    disks:
      description: The disks whose bitmaps are concerned.
      returned: success
      type: list
      elements: str
      sample: []
    repaired:
      description: Whether it was repaired. In check mode, whether it would be.
      returned: success
      type: bool
      sample: true
    problem:
      description: Why it could not be repaired, empty when it was.
      returned: success
      type: str
      sample: ""
problems:
  description:
    - What only a person can set right, a sentence each - manifests that can't be read, images that are missing or
      damaged, what could not be repaired, and what is nobody's.
  returned: success
  type: list
  elements: str
  sample: []
in_progress:
  description: Whose run is alive, and until when its lease is. Empty when none is.
  returned: success
  type: str
  sample: ""
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import domain_spec, libvirt_spec
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.doctor import heal
from ansible_collections.virt.backup.plugins.module_utils._run.doctor_facts import DoctorRequest


def main() -> t.NoReturn:
    respawn_if_missing("libvirt", "python3-libvirt")
    module = AnsibleModule(
        argument_spec={
            **libvirt_spec(),
            **domain_spec(),
            "repository": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["healthy"], "default": "healthy"},
            "scratch_dir": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 60},
            "run": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    options = {name: value for name, value in module.params.items() if name != "state"}
    run_module(module, lambda: heal(DoctorRequest(**options), check=module.check_mode))


if __name__ == "__main__":
    main()
