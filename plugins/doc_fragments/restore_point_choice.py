# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The options that choose a restore point to read from, documented once."""

from __future__ import annotations


class ModuleDocFragment:
    """The restore point."""

    DOCUMENTATION = r"""
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
      - Id of the restore point, or V(latest).
      - Without O(id) and O(before), it is the latest, too. A latest restore point that can't be read is an error, and
        not passed over for an older one.
    type: str
  before:
    description:
      - A time in ISO 8601, in UTC unless it says otherwise. The restore point is the newest whose run began before it.
    type: str
  encryption:
    description:
      - The secret of encrypted images.
      - Exactly one of O(encryption.secret_file) and O(encryption.secret) gives the secret. It reaches QEMU's programs
        in memory that only they share, and is in no argument list, environment, result or record.
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
"""
