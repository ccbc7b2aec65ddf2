# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The options that lead to a repository, documented once."""

from __future__ import annotations


class ModuleDocFragment:
    """The repository."""

    DOCUMENTATION = r"""
options:
  repository:
    description:
      - Absolute path of the repository on the host that the module runs on, the repository host.
      - It must have been made with M(virt.backup.backup_repository). A directory without
        C(repository.json), such as the mount point of a file system that is not mounted, is refused.
    type: path
    required: true
"""
