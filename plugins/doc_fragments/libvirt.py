# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The options that lead to a domain, documented once; they mirror ``module_utils/_argspec.py``."""

from __future__ import annotations


class ModuleDocFragment:
    """Connection to libvirt and the domain."""

    DOCUMENTATION = r"""
requirements:
  - libvirt-python (Debian C(python3-libvirt), RHEL C(python3-libvirt))
  - lxml (Debian C(python3-lxml), RHEL C(python3-lxml))
options:
  uri:
    description:
      - The libvirt connection URI.
    type: str
    default: qemu:///system
"""

    DOMAIN = r"""
options:
  domain:
    description:
      - Name or UUID of the domain.
    type: str
    required: true
    aliases: [guest]
"""
