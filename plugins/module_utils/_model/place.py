# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Where an image is written, and what its name says of that."""

from __future__ import annotations

import enum


class Place(enum.Enum):
    """A new file gets its name when it is complete; the others are overwritten in place."""

    FILE = "file"
    DEVICE = "device"
    SERVER = "server"

    @property
    def in_place(self) -> bool:
        """Whether a copy destroys what was there from its first write on."""
        return self is not Place.FILE
