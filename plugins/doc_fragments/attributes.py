# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Attributes and the options of the libvirt connection, documented once."""

from __future__ import annotations


class ModuleDocFragment:
    """What every module of the collection says about itself."""

    DOCUMENTATION = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/virt.backup.virt_backup) in C(module_defaults) to set options for all modules of the
      collection.
    support: full
    membership:
      - virt.backup.virt_backup
  check_mode:
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
    support: full
  diff_mode:
    description: Returns details on what has changed, or in C(check_mode) would change, when run with C(--diff).
    support: full
  idempotent:
    description: When run twice in a row outside C(check_mode) with the same arguments, the second run indicates no
      change.
    support: full
  platform:
    description: Target operating systems that the module runs on.
    support: full
    platforms: posix
"""

    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
    support: full
    details: The module never changes anything.
  diff_mode:
    description: Returns details on what has changed, or in C(check_mode) would change, when run with C(--diff).
    support: none
    details: The module never changes anything, so there is no difference to show.
  idempotent:
    description: When run twice in a row outside C(check_mode) with the same arguments, the second run indicates no
      change.
    support: full
  action_group:
    description: Use C(group/virt.backup.virt_backup) in C(module_defaults) to set options for all modules of the
      collection.
    support: full
    membership:
      - virt.backup.virt_backup
  platform:
    description: Target operating systems that the module runs on.
    support: full
    platforms: posix
"""
