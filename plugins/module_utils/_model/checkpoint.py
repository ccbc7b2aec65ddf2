# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A checkpoint as libvirt knows it: its disks, and whether each one's bitmap can still serve as a base."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class CheckpointDisk:
    """One disk in a checkpoint.

    ``bitmap`` is false for ``checkpoint='no'``. ``dirty_bytes`` is what libvirt reports with
    ``VIR_DOMAIN_CHECKPOINT_XML_SIZE``, rounded to the bitmap's granularity; ``None`` where libvirt left it out, which
    it does, without a word, for a disk whose bitmap is missing or broken.
    """

    name: str
    bitmap: bool = True
    dirty_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a domain. ``creation_time`` is in seconds since the epoch; ``parent`` is empty for a root.

    ``measured`` says whether the sizes were asked for: without that, ``dirty_bytes`` being ``None`` says nothing.
    """

    name: str
    parent: str = ""
    creation_time: int = 0
    description: str = ""
    disks: tuple[CheckpointDisk, ...] = ()
    measured: bool = False

    def disk(self, name: str) -> CheckpointDisk | None:
        """Return the entry of the disk with that target name, or ``None`` when the checkpoint does not list it."""
        return next((disk for disk in self.disks if disk.name == name), None)
