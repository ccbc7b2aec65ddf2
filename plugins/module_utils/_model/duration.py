# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Lengths of time as people write them."""

from __future__ import annotations

import re

_DURATION = re.compile(r"([0-9]{1,9})\s*([smhdw]?)", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(text: str) -> int | None:
    """Return the seconds that a text such as ``90``, ``12h`` or ``30d`` means, ``None`` when it means none."""
    match = _DURATION.fullmatch(text.strip())
    return None if match is None else int(match[1]) * _SECONDS[match[2].lower()]
