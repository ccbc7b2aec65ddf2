#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_point_export
short_description: Serve the disks of a restore point over NBD, for reading
version_added: 0.1.0
author:
  - virt.backup contributors (@virt-backup)
description:
  - Serves disks as they were in the moment of a restore point, over NBD on a UNIX socket, so that C(guestfish),
    C(nbdfuse), C(nbdcopy) or C(qemu-nbd) open them, or a virtual machine runs on an overlay of them.
  - One process of C(qemu-storage-daemon) serves all disks of the restore point, each under its name. It goes on when
    the module has ended, until this module ends it with O(state=absent), or the host stops. Each disk can be read over
    several connections at once.
  - Nothing below the repository is written, not even a header, and nothing is locked. A restore point that is removed
    while it is served stays readable until the server ends.
  - Before it is served, the chain is checked. Each manifest is read and compared with its digest, each image must have
    the length, the size and the backing image that its manifest says.
extends_documentation_fragment:
  - virt.backup.attributes
  - virt.backup.repository
  - virt.backup.restore_point_choice
attributes:
  check_mode:
    support: full
    details:
      - Checks the chains and what is at the socket. Starts and ends nothing.
  diff_mode:
    support: full
    details:
      - Shows what was served before and after.
  idempotent:
    support: full
    details:
      - A server that serves just the same disks of the same restore point is left as it is. One that serves anything
        else is an error, as somebody may be reading it.
  platform:
    platforms: posix
requirements:
  - C(qemu-storage-daemon) (Debian C(qemu-system-common))
  - C(qemu-img)
  - libnbd with its Python bindings, 1.14 or newer (C(python3-libnbd))
options:
  state:
    description:
      - V(present) makes the disks served. A socket that a dead server left is replaced.
      - V(absent) ends the server in bounded time, whatever it serves, and removes its socket. It needs O(socket), or
        the domain and O(socket_dir).
    type: str
    choices: [present, absent]
    default: present
  disks:
    description:
      - Target names of the disks to serve. Without it, all disks of the restore point are.
    type: list
    elements: str
  socket:
    description:
      - The absolute path of the socket. Its directory must exist.
      - Without it, the socket is C(export-<domain uuid>.sock) in O(socket_dir).
      - Beside it are C(<socket>.json), which tells what is served, and C(<socket>.pid).
    type: str
    default: ""
  socket_dir:
    description:
      - The directory of the socket when O(socket) is not given.
    type: str
    default: /run/virt-backup
  owner:
    description:
      - The user, by name or number, who owns the socket.
    type: str
    default: ""
  group:
    description:
      - The group, by name or number, of the socket.
    type: str
    default: ""
  mode:
    description:
      - The mode of the socket, as an octal string. Whoever may write to it may read the disks. The default is V(0600).
    type: raw
seealso:
  - module: virt.backup.restore_point_info
  - module: virt.backup.restore_disks
"""

EXAMPLES = r"""
- name: Serve the disks of last night
  virt.backup.restore_point_export:
    repository: /srv/backup
    domain_name: web
  register: served

- name: Look at a file of the first disk
  ansible.builtin.command:
    argv: [guestfish, --ro, --format=raw, -a, "{{ served.disks[0].uri }}", -i, cat, /etc/fstab]
  changed_when: false

- name: Serve them no longer
  virt.backup.restore_point_export:
    repository: /srv/backup
    domain_name: web
    state: absent

- name: Serve one disk of an encrypted restore point to a group of users
  virt.backup.restore_point_export:
    repository: /srv/backup
    domain_name: web
    before: "2026-11-23T12:00:00Z"
    disks: [vdb]
    socket: /run/virt-backup/look.sock
    group: operators
    mode: "0660"
    encryption:
      secret_file: /etc/virt-backup/secret
"""

RETURN = r"""
restore_point:
  description: The restore point that is served, as in RV(virt.backup.restore_disks#module:restore_point).
  returned: success, with O(state=present)
  type: dict
  sample: {"id": "20261123T021500Z-7f3a", "domain_name": "web"}
server:
  description: The server.
  returned: success
  type: dict
  contains:
    pid:
      description: Its process id, V(0) when there is none.
      returned: success
      type: int
      sample: 4711
    socket:
      description: The absolute path of its socket.
      returned: success
      type: str
      sample: /run/virt-backup/export-7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11.sock
disks:
  description: What is served, in the order of O(disks), or of the manifest.
  returned: success, with O(state=present)
  type: list
  elements: dict
  contains:
    name:
      description: Target name of the disk, which is the name of its export.
      returned: success
      type: str
      sample: vda
    uri:
      description: The NBD URI of the export.
      returned: success
      type: str
      sample: nbd+unix:///vda?socket=/run/virt-backup/export-7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11.sock
    virtual_size:
      description: The size of the disk in bytes.
      returned: success
      type: int
      sample: 10737418240
    format:
      description: What is read there, always V(raw), which is what an overlay has to name as its backing format.
      returned: success
      type: str
      sample: raw
    chain:
      description: Ids of the restore points whose images are read, the one with the full image first.
      returned: success
      type: list
      elements: str
      sample: ["20261122T021500Z-19c2", "20261123T021500Z-7f3a"]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._argspec import point_spec
from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._respawn import respawn_if_missing
from ansible_collections.virt.backup.plugins.module_utils._run.export import ExportRequest, export
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import PointRequest


def argument_spec() -> dict[str, t.Any]:
    """Return the parameters, as documented above."""
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        **point_spec(),
        "disks": {"type": "list", "elements": "str"},
        "socket": {"type": "str", "default": ""},
        "socket_dir": {"type": "str", "default": "/run/virt-backup"},
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
    disks = None if listed is None else tuple(listed)
    given = params.pop("encryption")
    encryption = EncryptionRequest(**given) if given else None
    present = params.pop("state") == "present"
    request = ExportRequest(point, present, disks, encryption=encryption, **params)
    run_module(module, lambda: export(request, check=module.check_mode))


if __name__ == "__main__":
    main()
