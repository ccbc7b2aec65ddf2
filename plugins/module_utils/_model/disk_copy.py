# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The live copy of a running domain's disks to another place, and what libvirt tells of it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class CopyTarget:
    """Where a disk goes: ``kind`` is ``file``, ``block`` or ``volume``, ``format`` that of the content there."""

    name: str
    dest: str
    format: str = "qcow2"
    kind: str = "file"


@dataclasses.dataclass(frozen=True)
class DiskCopyRequest:
    """The parameters of ``virt_disk_copy``.

    ``bandwidth`` is in bytes per second for each disk, 0 for no limit; ``timeout`` in seconds.
    """

    uri: str
    domain: str
    disks: tuple[CopyTarget, ...]
    overwrite: bool = False
    bandwidth: int = 0
    timeout: float = 300.0
    status_file: str = ""


@dataclasses.dataclass(frozen=True)
class Mirror:
    """A copy job of a disk: where it writes, and whether the copy is complete and follows every write of the guest."""

    dest: str
    ready: bool
    job: str = "copy"
