# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a user asks of ``virt_checkpoint``."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class CheckpointGoal:
    """All options of ``virt_checkpoint``; ``disks`` is ``None`` for "every disk that can carry one"."""

    uri: str
    domain: str
    name: str
    state: str = "present"
    description: str = ""
    disks: tuple[tuple[str, bool], ...] | None = None
    redefine_xml: str = ""
    validate: bool = False
    children: bool = False
    metadata_only: bool = False
    quiesce: str = "never"
