# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What was restored where: the record that tells whether it still is what it was."""

from __future__ import annotations

import dataclasses
import typing as t

RECORD_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class RestoredRecord:
    """Which disk of which restore point a file or device was made of.

    ``stamp`` changes when somebody writes to it: inode, length and time of a file, the kernel's counters of a device.
    ``written_to`` names a device. ``size`` in bytes; ``content`` is the digest of the content, empty without one.
    """

    repository: str
    domain_uuid: str
    restore_point: str
    disk: str
    format: str
    size: int
    content: str
    stamp: str
    written_to: str = ""
    record_format: int = RECORD_FORMAT

    def as_dict(self) -> dict[str, t.Any]:
        """Return plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, t.Any]) -> RestoredRecord:
        """Return the record from plain data; raises ``KeyError``, ``TypeError`` or ``ValueError`` when it is none."""
        if data["record_format"] != RECORD_FORMAT:
            raise ValueError(f"record_format is {data['record_format']!r}")
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in names})

    def same_disk(self, other: RestoredRecord) -> bool:
        """Whether both are of one disk of one restore point, in one form and at one place."""
        return dataclasses.replace(self, size=0, content="", stamp="") == dataclasses.replace(
            other, size=0, content="", stamp=""
        )

    def describe(self) -> str:
        """Return what it is, for a sentence."""
        return f"disk {self.disk} of restore point {self.restore_point}"
