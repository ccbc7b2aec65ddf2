#!/usr/bin/python
# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_repository
short_description: Make a directory a repository of restore points
version_added: 0.1.0
author:
  - virt.backup contributors (@virt-backup)
description:
  - Writes C(repository.json), once, into a directory that is missing or empty. What has that file already is
    left as it is.
  - Everything that is written into the repository later takes owner and group from this directory, and its mode
    from this directory's mode, without the execute bits for files. V(0700) makes files V(0600).
  - A repository is never removed by this module.
extends_documentation_fragment:
  - virt.backup.attributes
options:
  path:
    description:
      - Absolute path of the repository. Its parent directory must exist.
    type: path
    required: true
  state:
    description:
      - The repository is there.
    type: str
    choices: [present]
    default: present
  require_mount:
    description:
      - Whether to refuse unless O(path) is on a mounted file system of its own, that is, neither it nor a
        directory above it except C(/) is a mount point.
      - Guards against making a repository under a mount point whose file system is not mounted.
    type: bool
    default: false
  owner:
    description:
      - Name or number of the user who owns the repository. Without it, an existing directory keeps its owner.
    type: str
  group:
    description:
      - Name or number of the group of the repository. Without it, an existing directory keeps its group.
    type: str
  mode:
    description:
      - Mode of the repository's directory, as an octal string. Without it, a new repository gets V(0700)
        and an existing one keeps its mode.
    type: str
seealso:
  - module: virt.backup.restore_point
  - module: virt.backup.restore_point_info
"""

EXAMPLES = r"""
- name: Keep restore points on a mounted file system
  virt.backup.backup_repository:
    path: /srv/backup/vms
    require_mount: true

- name: Let a group read them
  virt.backup.backup_repository:
    path: /srv/backup/vms
    group: backup
    mode: "0750"
"""

RETURN = r"""
repository:
  description: The repository. Null in check mode when it would be made.
  returned: success
  type: dict
  contains:
    path:
      description: Its path.
      returned: success
      type: str
      sample: /srv/backup/vms
    id:
      description: Its random id, which is part of the name of each of its checkpoints.
      returned: success
      type: str
      sample: 4f1c09a2be77
    format:
      description: The version of the format.
      returned: success
      type: int
      sample: 1
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.virt.backup.plugins.module_utils._module import run_module
from ansible_collections.virt.backup.plugins.module_utils._run.repository import RepositoryRequest, ensure_repository


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present"], "default": "present"},
            "require_mount": {"type": "bool", "default": False},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "str"},
        },
        supports_check_mode=True,
    )
    names = ("path", "require_mount", "owner", "group", "mode")
    request = RepositoryRequest(**{name: module.params[name] for name in names})
    run_module(module, lambda: ensure_repository(request, check=module.check_mode))


if __name__ == "__main__":
    main()
