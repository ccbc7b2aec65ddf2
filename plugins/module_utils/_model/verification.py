# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a verification of a restore point found; the state of its own files, not of those it builds on."""

from __future__ import annotations

import dataclasses
import datetime
import enum


class Depth(str, enum.Enum):
    """How far a verification went: all stored bytes and the structure of images, or the content of the chains, too."""

    FILES = "files"
    CONTENT = "content"

    def covers(self, other: Depth) -> bool:
        """Whether this one finds whatever the other finds."""
        return self is Depth.CONTENT or other is Depth.FILES


@dataclasses.dataclass(frozen=True)
class FileDamage:
    """A damaged file, a sentence of what is wrong with it, and the depth that it took to find that.

    ``disk`` is empty for a file without which all disks can still be restored.
    """

    file: str
    problem: str
    disk: str = ""
    depth: Depth = Depth.FILES


@dataclasses.dataclass(frozen=True)
class DiskContent:
    """Whether the content of a disk's chain is the one in the manifest; ``reason`` says why it was not compared."""

    disk: str
    verified: bool
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Verification:
    """One verification of one restore point. ``errors`` are what kept it from finding out.

    ``notes`` say what could not be looked at without a secret, which is no fault of the restore point.
    """

    when: datetime.datetime
    depth: Depth
    damage: tuple[FileDamage, ...] = ()
    content: tuple[DiskContent, ...] = ()
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether everything that was looked at is what was stored."""
        return not self.damage and not self.errors

    def disk_damage(self) -> dict[str, str]:
        """Return what is wrong per disk, in the words of the first damage of each."""
        return {entry.disk: entry.problem for entry in reversed(self.damage) if entry.disk}
