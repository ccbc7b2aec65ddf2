#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_disks
short_description: Bring disks of a restore point back to files, block devices or NBD exports
version_added: 0.1.0
author:
  - virt.backup contributors (@virt-backup)
description:
  - Reads the chains of a restore point in one pass, all disks at the same time, and writes one plain disk for each.
  - Before anything is touched, the chains are checked. Each manifest is read and compared with its digest, each image
    must have the length, the size and the backing image that its manifest says. Anything wrong is an error that names
    the file.
  - While a disk is read, the digest of its content is made and compared with the one in the manifest.
  - A file is written beside its O(disks[].dest) and synced. Only when all disks of the call are complete are they
    renamed, so when one of them fails no file is replaced. An old file is kept until all new ones have their names, so
    there has to be room for both.
  - Beside each file a hidden record is kept, C(.web.qcow2.restored.json) for C(web.qcow2), which tells what was
    restored there.
  - Does not look at domains. A file or device that a running domain or another program of QEMU has open is refused, by
    QEMU's own locks.
  - Writes nothing below the repository, takes no lock there, and is in the way of no backup, verification or removal.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.repository
  - virt.backup.restore_point_choice
attributes:
  check_mode:
    support: full
    details:
      - Checks the chains and the places, and tells what would be read. Writes nothing.
  diff_mode:
    support: full
    details:
      - Shows the records of the disks before and after.
  idempotent:
    support: full
    details:
      - A O(disks[].dest) is unchanged if its record says that it was made of the same disk of the same restore point,
        and nobody wrote to it since. That holds with O(overwrite), too.
      - For an NBD export nothing tells that, so it is written each time.
  platform:
    platforms: posix
requirements:
  - C(qemu-img)
  - C(qemu-nbd) (only for images that are compressed or encrypted)
  - libnbd with its Python bindings, 1.14 or newer (C(python3-libnbd))
  - libvirt-python and lxml (C(python3-libvirt), C(python3-lxml)) (only for volumes)
options:
  disks:
    description:
      - The disks to restore. Without it, all disks of the restore point are restored to O(dest_dir).
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Target name of the disk, such as V(vda).
        type: str
        required: true
      dest:
        description:
          - The absolute path of the file to make, a block device, or the NBD URI of an export that can be written; with
            O(disks[].type=volume) V(pool/volume).
          - Without it, the file lies in O(dest_dir) and is named like the disk, such as C(vda.qcow2).
          - A block device or an export is overwritten in place, and needs O(disks[].format=raw) and O(overwrite). When
            the call fails, its content is undefined, and the error says so. A device that is mounted or otherwise in
            use is refused, and so is one that is smaller than the disk.
        type: str
        default: ""
      type:
        description:
          - What O(disks[].dest) is. Without it, a path where a block device is means that device, any other a file.
          - V(volume) is a volume of one of libvirt's storage pools, which must be active. In a pool of files (C(dir),
            C(fs), C(netfs)) it is made, and libvirt looks at the pool again, so that it knows the volume. In a pool of
            devices, such as C(logical), it must be there, and is overwritten like any block device.
          - V(block) refuses to make a file where a device was meant.
        type: str
        choices: [file, block, volume]
      format:
        description:
          - The format of the file. Both are sparse, and neither is compressed, encrypted or has a backing image.
        type: str
        choices: [qcow2, raw]
        default: qcow2
      cluster_size:
        description:
          - The size in bytes of the clusters of a qcow2 file, V(65536), V(131072), V(262144), V(524288) or V(1048576).
        type: int
        default: 65536
      record:
        description:
          - The absolute path of the record of a block device, which has no place beside it. Without it, a second run
            can't find that the disk is already there.
          - The device counts as changed since, if the kernel wrote to it, or was started anew.
        type: str
        default: ""
  uri:
    description:
      - The libvirt connection URI, of this host. Only used for disks of O(disks[].type=volume).
    type: str
    default: qemu:///system
  dest_dir:
    description:
      - The directory for the disks that have no O(disks[].dest). It must exist.
    type: str
    default: ""
  overwrite:
    description:
      - Whether to replace what is at a O(disks[].dest). Without it, anything there that is not just what is asked for
        is an error.
      - What is in use is never replaced.
    type: bool
    default: false
  verify:
    description:
      - Whether to read all images first and compare them with their stored digests. It finds a damage before anything
        is written in place, and takes about as long as the restore itself.
    type: bool
    default: false
  checksum:
    description:
      - Whether to compare the content with its digest while it is read. V(none) saves the CPU time for it.
    type: str
    choices: [sha256, none]
    default: sha256
  connections:
    description:
      - How many threads read one disk.
    type: int
    default: 4
  rate_limit:
    description:
      - The most bytes per second that the whole call reads. V(0) is no limit.
    type: int
    default: 0
  timeout:
    description:
      - The longest time in seconds during which a server may send nothing while it owes an answer.
    type: int
    default: 60
  direct:
    description:
      - Whether files and devices are written past the page cache (C(O_DIRECT)).
    type: bool
    default: false
  status_file:
    description:
      - The absolute path of a JSON file that tells how far the disks are. Replaced at most once a second, and at the
        end. It is like that of M(virt.backup.nbd_extract).
    type: str
    default: ""
  owner:
    description:
      - The user, by name or number, who owns the files. A file that is replaced hands on its own.
    type: str
    default: ""
  group:
    description:
      - The group, by name or number, of the files. A file that is replaced hands on its own.
    type: str
    default: ""
  mode:
    description:
      - The mode of the files, as an octal string. Without it, a file that is replaced hands on its own, and a new one
        gets V(0600).
    type: raw
seealso:
  - module: virt.backup.restore_point_info
  - module: virt.backup.restore_point_export
  - module: virt.backup.restore_point_verify
"""

EXAMPLES = r"""
- name: Bring back both disks of last night, with the domain off
  virt.backup.restore_disks:
    repository: /srv/backup
    domain_name: web
    disks:
      - name: vda
        dest: /var/lib/libvirt/images/web.qcow2
      - name: vdb
        dest: /dev/vg/web-data
        format: raw
        record: /var/lib/virt-backup/web-data.json
    overwrite: true

- name: Bring a disk back to a volume of a storage pool
  virt.backup.restore_disks:
    repository: /srv/backup
    domain_name: web
    disks:
      - name: vda
        dest: default/web.qcow2
        type: volume

- name: Look at all disks as they were before an accident
  virt.backup.restore_disks:
    repository: /srv/backup
    domain_name: web
    before: "2026-11-23T12:00:00Z"
    dest_dir: /srv/look

- name: Bring back an encrypted disk, and read all that is stored of it first
  virt.backup.restore_disks:
    repository: /srv/backup
    domain_name: web
    id: 20261123T021500Z-7f3a
    disks:
      - name: vda
        dest: /var/lib/libvirt/images/web.raw
        format: raw
    verify: true
    encryption:
      secret_file: /etc/virt-backup/secret
"""

RETURN = r"""
restore_point:
  description: The restore point that was read.
  returned: success
  type: dict
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
      sample: /srv/backup/7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11/20261123T021500Z-7f3a
    created:
      description: When its run began, in UTC.
      returned: success
      type: str
      sample: "2026-11-23T02:15:00Z"
    domain_uuid:
      description: UUID of the domain.
      returned: success
      type: str
      sample: 7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11
    domain_name:
      description: Name of the domain at that time.
      returned: success
      type: str
      sample: web
disks:
  description:
    - What was restored or was there already, in the order of O(disks), or of the manifest.
    - In check mode RV(disks[].bytes_copied) is what would be read at most, V(0) for an encrypted disk.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Target name of the disk.
      returned: success
      type: str
      sample: vda
    dest:
      description: Where it is; of a volume, its path.
      returned: success
      type: str
      sample: /var/lib/libvirt/images/web.qcow2
    format:
      description: The format there.
      returned: success
      type: str
      sample: qcow2
    changed:
      description: Whether it was written, or the owner, group or mode of its file changed.
      returned: success
      type: bool
      sample: true
    atomic:
      description:
        - Whether the file got its name only when it was complete.
        - It is V(false) for a block device or an NBD export, which is written in place.
      returned: success
      type: bool
      sample: true
    chain:
      description: Ids of the restore points whose images were read, the one with the full image first.
      returned: success
      type: list
      elements: str
      sample: ["20261122T021500Z-19c2", "20261123T021500Z-7f3a"]
    size:
      description: The size of the disk in bytes.
      returned: success
      type: int
      sample: 10737418240
    bytes_copied:
      description: How many bytes of the disk hold data.
      returned: success
      type: int
      sample: 2097152
    bytes_zeroed:
      description: How many bytes of the disk are zero, and were left out or zeroed.
      returned: success
      type: int
      sample: 10735321088
    bytes_stored:
      description: How many bytes the file takes on its file system, V(0) for what is written in place.
      returned: success
      type: int
      sample: 2359296
    extents:
      description: How many separate ranges with data the disk has.
      returned: success
      type: int
      sample: 12
    seconds:
      description: The time from the first look at the chain to the end of the last sync.
      returned: success
      type: float
      sample: 1.204
    content_verified:
      description: Whether the content was compared with the digest in the manifest.
      returned: success
      type: bool
      sample: true
    content_reason:
      description: Why not, when there is nothing to compare it with.
      returned: success
      type: str
      sample: ""
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import libvirt_spec, point_spec
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
from ansible_collections.virt.backup.plugins.module_utils._run.restore_disks import restore
from ansible_collections.virt.backup.plugins.module_utils._run.restore_report import DiskRequest, RestoreRequest
from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import PointRequest


def argument_spec() -> dict[str, t.Any]:
    """Return the parameters, as documented above."""
    disk = {
        "name": {"type": "str", "required": True},
        "dest": {"type": "str", "default": ""},
        "type": {"type": "str", "choices": ["file", "block", "volume"]},
        "format": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
        "cluster_size": {"type": "int", "default": 65536},
        "record": {"type": "str", "default": ""},
    }
    return {
        **point_spec(),
        "disks": {"type": "list", "elements": "dict", "options": disk},
        **libvirt_spec(),
        "dest_dir": {"type": "str", "default": ""},
        "overwrite": {"type": "bool", "default": False},
        "verify": {"type": "bool", "default": False},
        "checksum": {"type": "str", "choices": ["sha256", "none"], "default": "sha256"},
        "connections": {"type": "int", "default": 4},
        "rate_limit": {"type": "int", "default": 0},
        "timeout": {"type": "int", "default": 60},
        "direct": {"type": "bool", "default": False},
        "status_file": {"type": "str", "default": ""},
        "owner": {"type": "str", "default": ""},
        "group": {"type": "str", "default": ""},
        "mode": {"type": "raw"},
    }


def main() -> t.NoReturn:
    """Run the module."""
    respawn_if_missing("nbd", "python3-libnbd")
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("domain_uuid", "domain_name"), ("id", "before")],
        required_one_of=[("domain_uuid", "domain_name")],
        supports_check_mode=True,
    )
    params = dict(module.params)
    names = ("repository", "domain_uuid", "domain_name", "id", "before")
    point = PointRequest(**{name: params.pop(name) or "" for name in names})
    listed = params.pop("disks")
    disks = None if listed is None else tuple(DiskRequest(**{**disk, "type": disk["type"] or ""}) for disk in listed)
    given = params.pop("encryption")
    encryption = EncryptionRequest(**given) if given else None
    request = RestoreRequest(point=point, disks=disks, encryption=encryption, **params)
    run_module(module, lambda: restore(request, check=module.check_mode))


if __name__ == "__main__":
    main()
