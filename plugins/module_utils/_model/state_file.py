# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a domain keeps in files of its own beside its disks: its NVRAM, the state of its TPM."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Nvram:
    """Where the UEFI variables are. ``kind`` is libvirt's type of the source: ``file``, ``block``, ``network``."""

    path: str
    kind: str = "file"


@dataclasses.dataclass(frozen=True)
class Tpm:
    """The TPM device. ``backend`` is ``emulator``, ``passthrough`` or ``external``, ``version`` ``1.2`` or ``2.0``.

    ``source`` is where the definition puts the emulator's state, empty for libvirt's own place; ``source_type`` says
    whether that is a ``dir`` or a ``file``. ``secret`` is the UUID of libvirt's secret that encrypts it, or empty.
    """

    backend: str = "emulator"
    version: str = "2.0"
    source_type: str = ""
    source: str = ""
    secret: str = ""


@dataclasses.dataclass(frozen=True)
class StateFile:
    """One such file, with its ``name`` in a restore point; or, with a ``reason``, what a restore point cannot hold.

    ``part`` is ``nvram`` or ``tpm``. Without a file both ``name`` and ``path`` are empty; ``required`` says that a
    running domain must have it, so that something is wrong and no backup should begin.
    """

    part: str
    name: str = ""
    path: str = ""
    reason: str = ""
    required: bool = False
