# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Sizes as people write and read them: ``10G``, ``1.5 GiB``. A unit is 1024 times the one before it, however spelt."""

from __future__ import annotations

import re

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int | None:
    """Return the bytes that a text such as ``1048576``, ``512M`` or ``1.5 GiB`` means, ``None`` when it is no size."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    number, unit = match.group(1), (match.group(2) or "").upper()
    # A whole number stays exact, however large.
    scale = 1 << (10 * _POWERS[unit])
    return int(number) * scale if number.isdigit() else round(float(number) * scale)


def in_units(length: int) -> str:
    """Return a length in the largest unit that leaves at least 1 of it: ``4.0 MiB``, ``12 bytes``."""
    value, rank = float(length), 0
    while value >= 1024 and rank < len(UNITS) - 1:
        value, rank = value / 1024, rank + 1
    return f"{value:.1f} {UNITS[rank]}" if rank else f"{length} {UNITS[0]}"
