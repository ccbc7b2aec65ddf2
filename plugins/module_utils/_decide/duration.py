# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A duration that a user gave. Pure."""

from __future__ import annotations

from ansible_collections.virt.backup.plugins.module_utils._model.duration import parse_duration
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError


def seconds_of(parameter: str, value: object) -> int:
    """Return the seconds.

    :raises InputError: it is no duration.
    """
    seconds = parse_duration(str(value))
    if seconds is None:
        remedy = "give seconds, or a number with s, m, h, d or w, as in 30d"
        raise InputError(parameter, value, "is no duration", remedy)
    return seconds
