#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_point_verify
short_description: Verify that restore points are still what was stored
version_added: 0.1.0
author:
  - virt.backup contributors (@virt-backup)
description:
  - Reads every stored byte of restore points and of all that they build on, and compares it with the digests that were
    taken when they were published. A single flipped bit in any file is found, and the file is named.
  - Checks the manifest, what each image builds on, its size, and its structure with C(qemu-img check).
  - With O(content=true), reads what comes out of each chain through QEMU as a restore would, and compares it with the
    digest of the content in the manifest.
  - Records the result in C(verified.json) beside the manifest, which itself never changes. Disks whose images are
    damaged are marked in C(damaged.json). They are no base for an increment any more, nor is what builds on them, so
    the next backup of such a disk is full.
  - When something is damaged, the module fails after everything was verified and recorded. It names each damaged file,
    and each restore point of the domain that needs it, whether asked about or not.
  - A mark of an earlier verification is taken back when a verification at least as deep finds the image good, such as
    after the file was brought back from a copy. What another part of the collection says about a disk stays.
  - Takes no lock, and can run beside a backup. A restore point that is removed meanwhile is gone, not damaged.
  - An image that several restore points build on is read once per call to compare what is stored. With
    O(content=true), each chain is read on top of that.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.repository
attributes:
  check_mode:
    support: full
    details:
      - Tells in RV(verified) what would be verified. Reads no image, and does not fail for what is known to be damaged.
  diff_mode:
    support: none
    details:
      - There is nothing to show but the result itself.
  idempotent:
    support: partial
    details:
      - With O(max_age), what was verified lately is not verified again. Without, each call verifies everything.
requirements:
  - C(qemu-img)
  - C(qemu-nbd) (only with O(content=true))
  - libnbd with its Python bindings, 1.14 or newer (C(python3-libnbd)) (only with O(content=true))
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
      - Id of the restore point to verify, or V(latest). Without it, all restore points of the domain are verified.
      - What a restore point builds on is always verified with it.
    type: str
    default: ""
  content:
    description:
      - Whether to compare the content of the chains of the restore points asked about, too.
      - What has no digest of its content is not compared, and RV(restore_points[].disks[].content_reason) says why.
        That is so for a disk that was copied without a checksum, and for increments that are encrypted.
    type: bool
    default: false
  max_age:
    description:
      - What was found good within this time, in seconds or as V(12h), V(30d), by a verification at least as deep as
        this one, is not verified again. V(0) verifies everything.
    type: str
    default: "0"
  encryption:
    description:
      - The secret of encrypted images. Without it, only their stored bytes and what they build on are verified.
      - Exactly one of O(encryption.secret_file) and O(encryption.secret) gives the secret. It reaches QEMU's programs
        in memory that only they share.
      - Images that another secret opens can't be verified, which is an error. Verify them on their own, by O(id).
    type: dict
    suboptions:
      secret_file:
        description:
          - The absolute path of a file on the host that runs the module. It must not be open to every user.
          - The secret is its whole content, byte by byte.
        type: str
        default: ""
      secret:
        description:
          - The secret itself, text in UTF-8.
        type: str
        default: ""
seealso:
  - module: virt.backup.restore_point
  - module: virt.backup.restore_point_info
"""

EXAMPLES = r"""
- name: Read everything that was not read in the last 30 days
  virt.backup.restore_point_verify:
    repository: /srv/backup/vms
    domain_name: web
    max_age: 30d

- name: Prove that last night's restore point would give back the disks of that moment
  virt.backup.restore_point_verify:
    repository: /srv/backup/vms
    domain_name: web
    id: latest
    content: true

- name: The same of encrypted images
  virt.backup.restore_point_verify:
    repository: /srv/backup/vms
    domain_name: web
    id: latest
    content: true
    encryption:
      secret_file: /etc/virt-backup/secret
"""

RETURN = r"""
domain_uuid:
  description: UUID of the domain.
  returned: always
  type: str
  sample: 7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11
verified:
  description: Ids of the restore points that this call verified, or would verify in check mode.
  returned: always
  type: list
  elements: str
  sample: ["20261123T021500Z-7f3a"]
restore_points:
  description: The restore points that were asked about, oldest first.
  returned: when not in check mode, also when the module fails because of damage
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
    good:
      description: Whether it and all that it builds on is what was stored.
      returned: success
      type: bool
      sample: true
    problems:
      description: What is wrong, a sentence each.
      returned: success
      type: list
      elements: str
      sample: []
    disks:
      description: Its disks.
      returned: success
      type: list
      elements: dict
      contains:
        name:
          description: Target name of the disk.
          returned: success
          type: str
          sample: vda
        problem:
          description: What is wrong with the images that it needs, empty when nothing is.
          returned: success
          type: str
          sample: ""
        content_verified:
          description: Whether the last verification read the content, and it was that of the manifest.
          returned: success
          type: bool
          sample: true
        content_reason:
          description: Why the content was not verified; empty where it was, or was not asked for.
          returned: success
          type: str
          sample: ""
    record:
      description:
        - The record of its last verification, as in
          RV(virt.backup.restore_point_info#module:restore_points[].verified).
      returned: success
      type: dict
      sample: {"when": "2026-11-24T03:00:00Z", "depth": "content", "good": true}
damaged:
  description: Everything that is damaged or missing, in the restore points asked about and in all that they build on.
  returned: when not in check mode, also when the module fails because of damage
  type: list
  elements: dict
  contains:
    id:
      description: Id of the restore point that the file belongs to.
      returned: success
      type: str
      sample: 20261122T021500Z-19c2
    file:
      description: Name of the file, empty when the restore point or the entry of a disk in it is missing.
      returned: success
      type: str
      sample: vda.qcow2
    problem:
      description: What is wrong, as a sentence.
      returned: success
      type: str
      sample: "vda.qcow2 is not the file that was stored: its SHA-256 differs."
    disks:
      description: Target names of the disks that can't be restored because of it.
      returned: success
      type: list
      elements: str
      sample: [vda]
    breaks:
      description: Ids of all restore points of the domain that are not whole because of it.
      returned: success
      type: list
      elements: str
      sample: ["20261122T021500Z-19c2", "20261123T021500Z-7f3a"]
gone:
  description: Ids of restore points that were removed while they were verified.
  returned: when not in check mode, also when the module fails because of damage
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
from ansible_collections.virt.backup.plugins.module_utils._run.verify import VerifyRequest, verify


def main() -> t.NoReturn:
    respawn_if_missing("nbd", "python3-libnbd")
    encryption = {
        "secret_file": {"type": "str", "default": ""},
        "secret": {"type": "str", "default": "", "no_log": True},
    }
    module = AnsibleModule(
        argument_spec={
            "repository": {"type": "path", "required": True},
            "domain_uuid": {"type": "str"},
            "domain_name": {"type": "str"},
            "id": {"type": "str", "default": ""},
            "content": {"type": "bool", "default": False},
            "max_age": {"type": "str", "default": "0"},
            "encryption": {"type": "dict", "options": encryption},
        },
        mutually_exclusive=[("domain_uuid", "domain_name")],
        required_one_of=[("domain_uuid", "domain_name")],
        supports_check_mode=True,
    )
    params = dict(module.params)
    given = params.pop("encryption")
    request = VerifyRequest(
        params.pop("repository"),
        params.pop("domain_uuid") or "",
        params.pop("domain_name") or "",
        **params,
        encryption=EncryptionRequest(**given) if given else None,
    )
    run_module(module, lambda: verify(request, check=module.check_mode))


if __name__ == "__main__":
    main()
