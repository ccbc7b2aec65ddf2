# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The room that a pull job has for what the guest overwrites while it runs."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Room:
    """One file system or block device that scratch goes to. Sizes in bytes.

    ``parameter`` names the option that chose ``place``, a directory or a device, and ``disks`` are those whose scratch
    goes there. ``worst_case`` is what they take when the guest overwrites all of them, ``free`` what there is now.
    """

    parameter: str
    place: str
    disks: tuple[str, ...]
    free: int
    worst_case: int
    is_device: bool = False

    @property
    def may_run_full(self) -> bool:
        """Whether the job by itself can fill it."""
        return self.free < self.worst_case


@dataclasses.dataclass(frozen=True)
class Mark:
    """The job is ended when less than ``low_water`` bytes are free in ``directory``."""

    directory: str
    low_water: int
