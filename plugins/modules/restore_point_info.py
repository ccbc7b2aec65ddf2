#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_point_info
short_description: List the restore points of a repository
version_added: 0.1.0
author:
  - virt.backup contributors (@virt-backup)
description:
  - Lists the published restore points of a domain with their chains, what is wrong with them, the lock, and
    runs in progress.
  - Nothing is believed for its name. A restore point is listed when its manifest says that it belongs there,
    and it is complete when every image of its chains is there with the length that the manifest says.
  - Changes nothing, also where something needs repair.
extends_documentation_fragment:
  - virt.backup.attributes.info_module
  - virt.backup.repository
options:
  domain_uuid:
    description:
      - UUID of the domain. Without it and O(domain_name), the domains of the repository are listed.
      - A domain that the repository doesn't know has no restore points, which is no error.
    type: str
  domain_name:
    description:
      - Name of the domain, as its newest restore point has it.
    type: str
  id:
    description:
      - Id of a restore point, or V(latest). It is returned as RV(chosen), and is an error when there is none.
      - A latest restore point that can't be read is an error, and not passed over for an older one.
    type: str
  before:
    description:
      - A time in ISO 8601, in UTC unless it says otherwise. The newest restore point whose run began before it is
        returned as RV(chosen).
    type: str
seealso:
  - module: virt.backup.restore_point
  - module: virt.backup.restore_point_verify
  - module: virt.backup.backup_repository
"""

EXAMPLES = r"""
- name: See what could be restored
  virt.backup.restore_point_info:
    repository: /srv/backup/vms
    domain_name: web
  register: points

- name: Show the newest
  ansible.builtin.debug:
    msg: "{{ points.latest.path }} of {{ points.latest.created }}"
  when: points.latest is not none
"""

RETURN = r"""
repository:
  description: The repository.
  returned: success
  type: dict
  contains:
    path:
      description: Its path.
      returned: success
      type: str
      sample: /srv/backup/vms
    id:
      description: Its id.
      returned: success
      type: str
      sample: 4f1c09a2be77
    format:
      description: The version of the format.
      returned: success
      type: int
      sample: 1
domains:
  description: The domains of the repository, by UUID.
  returned: when neither O(domain_uuid) nor O(domain_name) is given
  type: list
  elements: dict
  contains:
    uuid:
      description: UUID of the domain.
      returned: success
      type: str
      sample: 7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11
    name:
      description: Its name, as its newest restore point has it. Empty when it has none.
      returned: success
      type: str
      sample: web
    restore_points:
      description: How many restore points it has.
      returned: success
      type: int
      sample: 7
    latest:
      description: Id of the newest, empty when it has none.
      returned: success
      type: str
      sample: 20261123T021500Z-7f3a
domain_uuid:
  description: UUID of the domain.
  returned: when a domain is given
  type: str
  sample: 7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11
restore_points:
  description:
    - The published restore points, oldest first. Each has all that its manifest has
      (C(docs/manifest.schema.json)), and more.
  returned: when a domain is given
  type: list
  elements: dict
  contains:
    id:
      description: Its id.
      returned: success
      type: str
      sample: 20261123T021500Z-7f3a
    path:
      description: Absolute path of its directory.
      returned: success
      type: str
      sample: /srv/backup/vms/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261123T021500Z-7f3a
    checkpoint:
      description: The name of its checkpoint.
      returned: success
      type: str
      sample: virt-backup.4f1c09a2be77.20261123T021500Z-7f3a
    created:
      description: When its run began, in UTC.
      returned: success
      type: str
      sample: "2026-11-23T02:15:00Z"
    published:
      description: When it was published, in UTC.
      returned: success
      type: str
      sample: "2026-11-23T02:15:41Z"
    disks:
      description:
        - Its disks, with C(name), C(level), C(reason), C(chain), C(parent), C(incremental), C(source),
          C(serial), C(virtual_size), C(format), C(bitmap), C(image), C(record), C(stored_size),
          C(bytes_copied), C(digest), C(digests), C(encryption), C(content) and C(content_reason).
      returned: success
      type: list
      elements: dict
      sample: [{"name": "vda", "level": "full", "image": "vda.qcow2"}]
    chain:
      description: Per disk, the ids of the restore points whose images it needs, the full one first, its own last.
      returned: success
      type: dict
      sample: {"vda": ["20261122T021500Z-19c2", "20261123T021500Z-7f3a"]}
    complete:
      description: Whether it can be restored as far as can be told without reading the images.
      returned: success
      type: bool
      sample: true
    problems:
      description: What is wrong, a sentence each.
      returned: success
      type: list
      elements: str
      sample: []
    distrusted:
      description:
        - Per disk, why nothing may build on its image although that may restore well. A later run found that what the
          disk held was not what this image and its bitmap said. The disk's next image is full.
      returned: success
      type: dict
      sample: {}
    verified:
      description:
        - The last verification of its own files by M(virt.backup.restore_point_verify), or null. Whether what it builds
          on is good is in its other fields.
        - C(when) in UTC; C(depth), V(files) or V(content); whether it was C(good); the C(damage), each with C(file),
          C(disk), C(problem) and C(depth); the C(content), each with C(disk), C(verified) and C(reason); C(errors) that
          kept it from finding out; and in C(notes) what could not be looked at without a secret.
      returned: success
      type: dict
      sample: {"when": "2026-11-24T03:00:00Z", "depth": "files", "good": true}
latest:
  description: The newest entry of RV(restore_points), or null.
  returned: when a domain is given
  type: dict
  sample: {"id": "20261123T021500Z-7f3a"}
bases:
  description:
    - The checkpoint that the next increment of each disk starts from. One that the domain has forgotten can
      be redefined.
  returned: when a domain is given
  type: list
  elements: dict
  contains:
    disk:
      description: Target name of the disk.
      returned: success
      type: str
      sample: vda
    id:
      description: Id of the restore point with its newest image.
      returned: success
      type: str
      sample: 20261123T021500Z-7f3a
    checkpoint:
      description: Name of the checkpoint.
      returned: success
      type: str
      sample: virt-backup.4f1c09a2be77.20261123T021500Z-7f3a
    checkpoint_xml:
      description:
        - Its XML for O(virt.backup.virt_checkpoint#module:redefine_xml), empty when the restore point has
          no C(checkpoint.xml).
      returned: success
      type: str
      sample: "<domaincheckpoint>...</domaincheckpoint>"
lock:
  description: The lock of the domain, or null when it is free or can't be read.
  returned: when a domain is given
  type: dict
  contains:
    run:
      description: Who holds it.
      returned: success
      type: str
      sample: hv1
    id:
      description: Id of the restore point that is being made.
      returned: success
      type: str
      sample: 20261124T021500Z-a001
    checkpoint:
      description: Name of its checkpoint.
      returned: success
      type: str
      sample: virt-backup.4f1c09a2be77.20261124T021500Z-a001
    socket:
      description: Socket of its job.
      returned: success
      type: str
      sample: /run/virt-backup/libvirt-7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11.sock
    status_file:
      description: The file whose time extends the lease.
      returned: success
      type: str
      sample: /srv/backup/vms/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261124T021500Z-a001.staging/status.json
    lease_until:
      description: When the lease ends, in UTC, signs of life included.
      returned: success
      type: str
      sample: "2026-11-24T03:15:00Z"
    expired:
      description: Whether another run may take it over.
      returned: success
      type: bool
      sample: false
stagings:
  description: Runs in progress, and what dead ones left.
  returned: when a domain is given
  type: list
  elements: dict
  contains:
    id:
      description: Id of the restore point that is or was being made.
      returned: success
      type: str
      sample: 20261124T021500Z-a001
    path:
      description: Absolute path of the staging directory.
      returned: success
      type: str
      sample: /srv/backup/vms/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261124T021500Z-a001.staging
    run:
      description: Who runs it.
      returned: success
      type: str
      sample: hv1
    checkpoint:
      description: Name of its checkpoint.
      returned: success
      type: str
      sample: virt-backup.4f1c09a2be77.20261124T021500Z-a001
    socket:
      description: Socket of its job.
      returned: success
      type: str
      sample: /run/virt-backup/libvirt-7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11.sock
    created:
      description: When it began, in UTC.
      returned: success
      type: str
      sample: "2026-11-24T02:15:00Z"
    alive:
      description: Whether it holds the lock.
      returned: success
      type: bool
      sample: true
chosen:
  description: The restore point that O(id) or O(before) means, with the keys of RV(restore_points).
  returned: when O(id) or O(before) is given
  type: dict
  sample: {"id": "20261123T021500Z-7f3a", "complete": true}
problems:
  description: What else was found in the domain's directory and is left alone, a sentence each.
  returned: when a domain is given
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import InfoRequest, look


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "repository": {"type": "path", "required": True},
            "domain_uuid": {"type": "str"},
            "domain_name": {"type": "str"},
            "id": {"type": "str"},
            "before": {"type": "str"},
        },
        mutually_exclusive=[("domain_uuid", "domain_name"), ("id", "before")],
        supports_check_mode=True,
    )
    names = ("repository", "domain_uuid", "domain_name", "id", "before")
    request = InfoRequest(**{name: module.params[name] or "" for name in names})
    run_module(module, lambda: look(request))


if __name__ == "__main__":
    main()
