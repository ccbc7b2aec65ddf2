# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Storage pools of libvirt, and the places of volumes in them."""

from __future__ import annotations

import dataclasses

OF_FILES = ("dir", "fs", "netfs")
"""Kinds of pools whose volumes are the files of a directory: one that is written there is a volume after a refresh."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """A pool; ``kind`` is the type attribute of its XML, ``path`` the directory that its volumes are in."""

    name: str
    kind: str
    path: str

    @property
    def holds_files(self) -> bool:
        """Whether a file in its directory is a volume."""
        return self.kind in OF_FILES


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume that is there or is to come, and its path on this host."""

    pool: str
    name: str
    path: str
