# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""How much memory a machine takes."""

from __future__ import annotations

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import number_of, parse

# libvirt's units of memory, in bytes (formatdomain, "Memory Allocation"); without one it is KiB.
_UNITS = {"b": 1, "bytes": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_UNITS |= {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)}
_UNITS |= {f"{letter}ib": 1 << 10 * power for power, letter in enumerate("kmgt", 1)}


def memory_of(xml: str) -> int:
    """Return the most memory in bytes that the definition lets the guest have."""
    node = parse(xml).find("memory")
    if node is None:
        return 0
    unit = node.get("unit", "KiB")
    if unit.lower() not in _UNITS:
        raise BackupError(f"The definition gives its memory in {unit!r}, which is no unit.")
    return number_of("The memory of the definition", (node.text or "").strip()) * _UNITS[unit.lower()]
