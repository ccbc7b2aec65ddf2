# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What is wrong with the backups of a domain, and what sets it right."""

from __future__ import annotations

import dataclasses
import enum


class RepairKind(enum.Enum):
    """What is done. The order of the members is the order in which repairs are made."""

    END_JOB = "end_job"
    STOP_SERVER = "stop_server"
    REMOVE_SOCKET = "remove_socket"
    REMOVE_SCRATCH = "remove_scratch"
    REMOVE_CHECKPOINT = "remove_checkpoint"
    REMOVE_STAGING = "remove_staging"
    FINISH_REMOVAL = "finish_removal"
    REDEFINE_CHECKPOINT = "redefine_checkpoint"
    REMOVE_BITMAPS = "remove_bitmaps"


@dataclasses.dataclass(frozen=True)
class Repair:
    """One repair. ``subject`` is what it is done to: a socket, a path, a checkpoint, the id of a restore point.

    ``disks`` are those whose bitmaps are concerned, ``xml`` is the definition that libvirt gets back.
    """

    kind: RepairKind
    subject: str
    reason: str
    disks: tuple[str, ...] = ()
    xml: str = ""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """All that was found: what can be repaired, in order, and in words what only a person can.

    ``in_progress`` says whose run is alive; then nothing is repaired, since what looks left behind may be in use.
    """

    repairs: tuple[Repair, ...] = ()
    problems: tuple[str, ...] = ()
    in_progress: str = ""
