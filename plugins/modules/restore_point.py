#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_point
short_description: Begin, publish or remove a restore point of a domain
version_added: 0.1.0
author:
  - virt.backup contributors (@virt-backup)
description:
  - Works on the files of a repository only, on the host that has them. It never talks to libvirt.
  - A restore point exists if and only if it was published. Until then it is a staging directory that belongs to
    one run, which holds the lock of the domain in this repository.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.repository
attributes:
  idempotent:
    support: partial
    details:
      - With O(state=staged), every run begins a restore point unless O(max_age) says that the newest is
        young enough, or O(id) and O(token) name the run that has begun.
requirements:
  - qemu-img, with O(state=present) and with O(encryption) (Debian C(qemu-utils), RHEL C(qemu-img))
options:
  domain_uuid:
    description:
      - UUID of the domain.
    type: str
    required: true
  state:
    description:
      - V(staged) decides from where each disk starts, takes the lock and makes the staging directory.
      - V(present) verifies what is in the staging directory, writes the manifest and publishes the restore point.
        It reads all files for their SHA-256, but for images that were copied without a checksum, and leaves
        C(SHA256SUMS) in the restore point.
      - V(absent) removes a staging directory or a restore point. One that others build on is refused.
    type: str
    choices: [staged, present, absent]
    default: present
  domain_name:
    description:
      - Name of the domain, for the manifest and the link under C(by-name). Required with O(state=staged).
    type: str
  id:
    description:
      - Id of the restore point, as returned with O(state=staged). Required with O(state=present), and with
        O(state=absent) unless there is O(break_lock=true) or O(token).
      - With O(state=staged), together with O(token), confirms a run that has begun; its lease begins anew.
    type: str
  token:
    description:
      - What proves that this run holds the lock, as returned with O(state=staged). Required with O(state=present).
      - With O(state=absent), removes under that lock, and gives the lock back if O(id) is that run's own. Without it,
        the lock must be free and is taken for the moment of the removal.
      - With O(state=absent) and without O(id), only gives the lock back. The staging stays and names to the next run
        what this one could not clean up, such as the checkpoint of a domain that was powered off.
    type: str
  disks:
    description:
      - With O(state=staged), the disks that shall take part, as
        RV(virt.backup.virt_backup_info#module:disks) lists them. Used are C(name), C(source), C(inode), C(serial),
        C(format), C(virtual_size), C(backup), C(backup_reason), C(checkpoint) and C(checkpoint_reason).
      - With O(state=present), what they came to be, as RV(virt.backup.virt_backup#module:disks) lists them.
        Used are C(name), C(level), C(reason) and C(incremental).
      - Other keys are ignored, so that the results of those modules can be passed on.
    type: list
    elements: dict
    default: []
  skipped:
    description:
      - Disks of the domain that take no part, with C(name) and C(reason). Entries of
        RV(virt.backup.virt_backup_info#module:disks) can be passed with a C(reason) added; the identity of
        the disk is then known, and its checkpoint is kept only while the disk is the same.
      - With O(state=present), only those that dropped out since the run began have to be named.
    type: list
    elements: dict
    default: []
  checkpoints:
    description:
      - With O(state=staged), the checkpoints that the domain has, as
        RV(virt.backup.virt_backup_info#module:checkpoints) lists them.
    type: list
    elements: dict
    default: []
  full:
    description:
      - With O(state=staged), make every disk full.
    type: bool
    default: false
  full_every_days:
    description:
      - With O(state=staged), make a disk full when the full image of its chain is at least this many days
        old. V(0) means never.
    type: int
    default: 0
  full_every_increments:
    description:
      - With O(state=staged), make a disk full when its chain has this many increments. V(0) means never.
    type: int
    default: 0
  encryption:
    description:
      - With O(state=staged), that the images will be encrypted, as M(virt.backup.nbd_extract) does it with the same
        options. Disks whose newest image is not encrypted become full, and so do, without this, those whose newest
        image is. A chain is encrypted as a whole or not at all.
      - A secret that can't be used is refused, and so is one that does not open an image on which an increment would
        build. To change the secret, give the new one together with O(full=true).
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
      iter_time:
        description:
          - How long one guess at the secret will take, in milliseconds of CPU time.
        type: int
        default: 2000
  mismatches:
    description:
      - With O(state=staged), O(id) and O(token), what this run found out while it copied, as
        RV(virt.backup.nbd_extract#module:mismatches) lists it.
      - The images that these disks would have built on stay what they are, and are no bases any more. So the next run
        makes the disks full, whatever becomes of this one.
    type: list
    elements: dict
    default: []
  max_age:
    description:
      - With O(state=staged), do nothing when the newest restore point is at most this old and holds every disk of
        O(disks) as it is now, in seconds or as V(20h), V(7d). V(0) means that a backup is always due, as does
        O(full=true).
    type: str
    default: "0"
  lease:
    description:
      - With O(state=staged), how many seconds the lock lasts without a sign of life. Each step of the run
        begins it anew, and so does each time that a copy writes RV(status_file).
      - When it has ended, another run may take the lock over, and this run then publishes nothing.
    type: int
    default: 3600
  run:
    description:
      - Words for who runs this, shown to whom the lock keeps out.
    type: str
    default: ""
  socket:
    description:
      - With O(state=staged), absolute path of the socket of the backup job on the hypervisor, by which the
        next run recognises a job that this one left behind.
    type: path
  status_file:
    description:
      - With O(state=staged), absolute path of the file that M(virt.backup.nbd_extract) writes its progress
        to, when it is not the one that is returned. Its time extends the lease.
    type: path
  images:
    description:
      - With O(state=present), the images as RV(virt.backup.nbd_extract#module:images) lists them. Their
        digests are compared with the records beside the images.
    type: list
    elements: dict
    default: []
  files:
    description:
      - With O(state=present), small files that belong to the restore point.
      - Without O(files[].content) and O(files[].src), the file must be in the staging directory already.
      - C(checkpoint.xml) and C(domain.xml) are what a later run and a restore look for.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Name of the file, without a directory.
        type: str
        required: true
      content:
        description:
          - Its content.
        type: str
      encoding:
        description:
          - How O(files[].content) is given.
        type: str
        choices: [text, base64]
        default: text
      src:
        description:
          - Absolute path, on the repository host, of the file to copy.
        type: path
  versions:
    description:
      - With O(state=present), the versions that made the restore point, as
        RV(virt.backup.virt_backup_info#module:versions) returns them.
    type: dict
    default: {}
  consistency:
    description:
      - With O(state=present), how consistent the content is.
    type: dict
    default: {}
    suboptions:
      frozen:
        description:
          - Whether the guest's file systems were frozen.
        type: bool
        default: false
      freeze_seconds:
        description:
          - For how long, in seconds.
        type: float
        default: 0.0
      paused:
        description:
          - Whether the domain was paused.
        type: bool
        default: false
  staging:
    description:
      - With O(state=absent), remove a staging directory, and refuse to remove what is published. Without
        it, the reverse.
    type: bool
    default: false
  break_lock:
    description:
      - With O(state=absent), first remove the lock of the domain, whoever holds it. For an operator who
        knows that the run is dead and cannot wait for its lease to end.
    type: bool
    default: false
seealso:
  - module: virt.backup.restore_point_info
  - module: virt.backup.backup_repository
  - module: virt.backup.virt_backup
  - module: virt.backup.nbd_extract
"""

EXAMPLES = r"""
- name: Begin a restore point, unless the newest is less than a day old
  virt.backup.restore_point:
    repository: /srv/backup/vms
    domain_uuid: "{{ info.domain.uuid }}"
    domain_name: "{{ info.domain.name }}"
    state: staged
    disks: "{{ info.disks | selectattr('by_default') }}"
    checkpoints: "{{ info.checkpoints }}"
    max_age: 20h
    full_every_days: 30
    run: "{{ inventory_hostname }}"
    encryption:
      secret_file: /etc/virt-backup/secret
  register: plan

- name: Publish it
  virt.backup.restore_point:
    repository: /srv/backup/vms
    domain_uuid: "{{ info.domain.uuid }}"
    id: "{{ plan.id }}"
    token: "{{ plan.token }}"
    state: present
    disks: "{{ job.disks }}"
    images: "{{ copy.images }}"
    files:
      - name: domain.xml
        content: "{{ definition.xml }}"
      - name: checkpoint.xml
        content: "{{ checkpoint.checkpoints[0].xml }}"
    versions: "{{ info.versions }}"
    consistency:
      frozen: "{{ job.quiesced }}"
      freeze_seconds: "{{ job.freeze_seconds }}"

- name: Remember that what a disk holds is not what its last image and its bitmap say
  virt.backup.restore_point:
    repository: /srv/backup/vms
    domain_uuid: "{{ info.domain.uuid }}"
    domain_name: "{{ info.domain.name }}"
    id: "{{ plan.id }}"
    token: "{{ plan.token }}"
    state: staged
    mismatches: "{{ copy.mismatches }}"

- name: Give up a run that failed
  virt.backup.restore_point:
    repository: /srv/backup/vms
    domain_uuid: "{{ info.domain.uuid }}"
    id: "{{ plan.id }}"
    token: "{{ plan.token }}"
    state: absent
    staging: true

- name: Let the next run at the domain that was powered off, and clean up there
  virt.backup.restore_point:
    repository: /srv/backup/vms
    domain_uuid: "{{ info.domain.uuid }}"
    token: "{{ plan.token }}"
    state: absent

- name: Free the lock of a run whose controller is gone for good
  virt.backup.restore_point:
    repository: /srv/backup/vms
    domain_uuid: 7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11
    state: absent
    break_lock: true
"""

RETURN = r"""
due:
  description:
    - Whether a restore point is due; if not, nothing was done and only RV(due), RV(reason) and RV(latest) are
      returned.
  returned: with O(state=staged)
  type: bool
  sample: true
reason:
  description: Why a restore point is due or not.
  returned: with O(state=staged)
  type: str
  sample: the domain has no restore point in this repository yet
latest:
  description: Id of the newest published restore point, empty when there is none.
  returned: with O(state=staged)
  type: str
  sample: 20261122T021500Z-19c2
id:
  description: Id of the restore point. In check mode with O(state=staged), a preview.
  returned: when there is one
  type: str
  sample: 20261123T021500Z-7f3a
checkpoint:
  description: The name of the checkpoint that belongs to the restore point.
  returned: with O(state=staged) when due, and with O(state=absent) and O(id)
  type: str
  sample: virt-backup.4f1c09a2be77.20261123T021500Z-7f3a
token:
  description: What proves that this run holds the lock. Empty in check mode.
  returned: with O(state=staged) when due
  type: str
  sample: 0f6f8a1b9d3c4e5f8a7b6c5d4e3f2a1b
staging:
  description: Absolute path of the staging directory.
  returned: with O(state=staged) when due
  type: str
  sample: /srv/backup/vms/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261123T021500Z-7f3a.staging
status_file:
  description: Where M(virt.backup.nbd_extract) shall write its status, so that a long copy keeps the lock.
  returned: with O(state=staged) when due
  type: str
  sample: /srv/backup/vms/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261123T021500Z-7f3a.staging/status.json
lock:
  description: Absolute path of the lock, which is written to whenever its lease is renewed.
  returned: with O(state=staged) when due
  type: str
  sample: /srv/backup/vms/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/lock
lease_until:
  description: When the lease ends, in UTC, if the run shows no sign of life until then. Empty in check mode.
  returned: with O(state=staged) when due
  type: str
  sample: "2026-11-23T03:15:00Z"
disks:
  description: The plan for each disk.
  returned: with O(state=staged) when due
  type: list
  elements: dict
  contains:
    name:
      description: Target name.
      returned: success
      type: str
      sample: vda
    level:
      description: The planned level, V(full) or V(incremental).
      returned: success
      type: str
      sample: incremental
    reason:
      description: Why.
      returned: success
      type: str
      sample: the changes since 20261122T021500Z-19c2, its last image
    incremental:
      description: The checkpoint that the increment starts from, empty for a full.
      returned: success
      type: str
      sample: virt-backup.4f1c09a2be77.20261122T021500Z-19c2
    base:
      description: Id of the restore point whose image is built on, empty for a full.
      returned: success
      type: str
      sample: 20261122T021500Z-19c2
    image:
      description: Absolute path of the image to write.
      returned: success
      type: str
      sample: /srv/backup/vms/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261123T021500Z-7f3a.staging/vda.qcow2
    backing_file:
      description: Backing path to write into the image, relative to it. Empty for a full.
      returned: success
      type: str
      sample: ../20261122T021500Z-19c2/vda.qcow2
    chain:
      description: Ids of the restore points that the new image needs, the full one first, its own last.
      returned: success
      type: list
      elements: str
      sample: [20261122T021500Z-19c2, 20261123T021500Z-7f3a]
left_out:
  description: The disks that take no part, with C(name) and C(reason).
  returned: with O(state=staged) when due
  type: list
  elements: dict
  sample: [{"name": "sda", "reason": "excluded by name"}]
leftovers:
  description: What dead runs left. Each one's job and checkpoint have to be ended and removed before its staging is.
  returned: with O(state=staged) when due
  type: list
  elements: dict
  contains:
    id:
      description: Id of the restore point that the dead run was making.
      returned: success
      type: str
      sample: 20261123T011500Z-02ab
    checkpoint:
      description: Name of its checkpoint.
      returned: success
      type: str
      sample: virt-backup.4f1c09a2be77.20261123T011500Z-02ab
    socket:
      description: Socket of its job, empty when it didn't say.
      returned: success
      type: str
      sample: /run/virt-backup/libvirt-7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11.sock
    run:
      description: Who ran it.
      returned: success
      type: str
      sample: hv1
    staging:
      description: Absolute path of its staging directory.
      returned: success
      type: str
      sample: /srv/backup/vms/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261123T011500Z-02ab.staging
distrusted:
  description: By restore point and disk, which images are no bases any more, and why, as O(mismatches) say.
  returned: with O(state=staged), O(id) and O(token)
  type: dict
  sample: {"20261122T021500Z-19c2": {"vda": "12 of 64 clean ranges that were compared differ from it"}}
orphans:
  description:
    - Checkpoints of the domain whose names say that they belong to this repository, which knows nothing of them.
    - They are left alone, because a copied or older repository makes every checkpoint look like that.
  returned: with O(state=staged) when due
  type: list
  elements: str
  sample: []
path:
  description: Absolute path of the published restore point.
  returned: with O(state=present)
  type: str
  sample: /srv/backup/vms/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261123T021500Z-7f3a
restore_point:
  description:
    - The manifest. Its schema is in C(docs/manifest.schema.json).
    - In check mode C(stored) is empty, because no file is read for its SHA-256.
  returned: with O(state=present)
  type: dict
  sample:
    id: 20261123T021500Z-7f3a
    checkpoint: virt-backup.4f1c09a2be77.20261123T021500Z-7f3a
superseded:
  description: Checkpoints of this repository that the domain has and that no increment starts from any more.
  returned: with O(state=present)
  type: list
  elements: str
  sample: [virt-backup.4f1c09a2be77.20261122T021500Z-19c2]
removed:
  description: The directories that were removed.
  returned: with O(state=absent)
  type: list
  elements: str
  sample: [/srv/backup/vms/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261123T021500Z-7f3a.staging]
released:
  description: Whether the lock of the run was given back.
  returned: with O(state=absent)
  type: bool
  sample: true
lock_broken:
  description: Whether there was a lock that O(break_lock) removed.
  returned: with O(state=absent)
  type: bool
  sample: false
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_params import use_case

_FILE = {
    "name": {"type": "str", "required": True},
    "content": {"type": "str", "no_log": True},
    "encoding": {"type": "str", "choices": ["text", "base64"], "default": "text"},
    "src": {"type": "path"},
}
_ENCRYPTION = {
    "secret_file": {"type": "str", "default": ""},
    "secret": {"type": "str", "default": "", "no_log": True},
    "iter_time": {"type": "int", "default": 2000},
}
_CONSISTENCY = {
    "frozen": {"type": "bool", "default": False},
    "freeze_seconds": {"type": "float", "default": 0.0},
    "paused": {"type": "bool", "default": False},
}
SPEC: dict[str, dict[str, t.Any]] = {
    "repository": {"type": "path", "required": True},
    "domain_uuid": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["staged", "present", "absent"], "default": "present"},
    "domain_name": {"type": "str"},
    "id": {"type": "str"},
    # A fencing token proves who holds the lock; who can read it can read the repository, so it is no secret.
    "token": {"type": "str", "no_log": False},
    "disks": {"type": "list", "elements": "dict", "default": []},
    "skipped": {"type": "list", "elements": "dict", "default": []},
    "checkpoints": {"type": "list", "elements": "dict", "default": []},
    "full": {"type": "bool", "default": False},
    "full_every_days": {"type": "int", "default": 0},
    "full_every_increments": {"type": "int", "default": 0},
    "encryption": {"type": "dict", "options": _ENCRYPTION},
    "mismatches": {"type": "list", "elements": "dict", "default": []},
    "max_age": {"type": "str", "default": "0"},
    "lease": {"type": "int", "default": 3600},
    "run": {"type": "str", "default": ""},
    "socket": {"type": "path"},
    "status_file": {"type": "path"},
    "images": {"type": "list", "elements": "dict", "default": []},
    "files": {"type": "list", "elements": "dict", "default": [], "options": _FILE},
    "versions": {"type": "dict", "default": {}},
    "consistency": {"type": "dict", "default": {}, "options": _CONSISTENCY},
    "staging": {"type": "bool", "default": False},
    "break_lock": {"type": "bool", "default": False},
}


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec=SPEC,
        required_if=[
            ("state", "staged", ("domain_name",)),
            ("state", "present", ("id", "token")),
        ],
        supports_check_mode=True,
    )
    run_module(module, lambda: use_case(module.params, check=module.check_mode))


if __name__ == "__main__":
    main()
