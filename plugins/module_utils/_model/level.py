# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Levels, as decided, and modes, as asked for."""

from __future__ import annotations

import enum


class Level(str, enum.Enum):
    """What one disk's image will hold: everything, or what changed since a checkpoint."""

    FULL = "full"
    INCREMENTAL = "incremental"


class BackupMode(str, enum.Enum):
    """What the user asked for; ``AUTO`` leaves the level to the state of the disk's bitmap."""

    AUTO = "auto"
    FULL = "full"
    INCREMENTAL = "incremental"
