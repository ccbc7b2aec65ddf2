# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk of the long run: what it holds byte by byte, as far as we wrote it, and what is known of its image."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import typing as t

from lab.disks import KIB, MIB, Disk
from lab.domains import LabDomain
from lab.tools import call

SECTOR, CLUSTER = 512, 64 * KIB


class Change(t.NamedTuple):
    """One write, in bytes. ``discard`` takes whole clusters: of any other a disk may keep the ends."""

    verb: str
    offset: int
    length: int
    pattern: int

    def __str__(self) -> str:
        return f"{self.verb} {self.pattern:#04x} {self.offset}+{self.length}"

    @property
    def command(self) -> str:
        """What qemu-io calls it."""
        place = f"{self.offset} {self.length}"
        verbs = {
            "write": f"write -P {self.pattern:#x}",
            "zero": "write -z",
            "trim": "write -z -u",
            "discard": "discard",
        }
        return f"{verbs[self.verb]} {place}"


def any_change(size: int, dice: random.Random, *, in_a_job: bool = False) -> Change:
    """Draw a change: short or long, anywhere, the ends of the disk more often than chance would have it.

    In a backup job QEMU 7.2 ignores a discard, as it may: nobody would know what the disk holds afterwards.
    """
    verb = dice.choice(("write", "write", "write", "zero", "trim", "trim" if in_a_job else "discard"))
    grain = CLUSTER if verb == "discard" else SECTOR
    room = size // grain
    length = min(room, dice.choice((1, 1, 7, 128, 300, 1025)) if grain == SECTOR else dice.randrange(1, 6))
    offset = dice.choice((0, room - length, *(dice.randint(0, room - length) for _any in range(4))))
    return Change(verb, offset * grain, length * grain, dice.randrange(1, 256))


@dataclasses.dataclass
class SoakDisk:
    """A disk, attached or not. ``content`` is what it holds.

    ``spoilt``: its bitmaps are, since QEMU was killed under it. ``excused``: why its next image may be full, empty when
    it has to be an increment. ``increments`` stand on its last full image.
    """

    disk: Disk
    content: bytearray
    excused: str = "new"
    spoilt: bool = False
    increments: int = 0

    @classmethod
    def new(cls, image: pathlib.Path, target: str, size: int, format: str) -> SoakDisk:  # noqa: A002  QEMU's word
        """Create an empty image."""
        call("qemu-img", "create", "-q", "-f", format, image, str(size))
        return cls(Disk(target, size=size, format=format, image=image), bytearray(size))

    @property
    def image(self) -> pathlib.Path:
        assert self.disk.image is not None
        return self.disk.image

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def has_bitmaps(self) -> bool:
        return self.disk.format == "qcow2"

    def at(self, target: str) -> SoakDisk:
        """Give it another target."""
        self.disk = dataclasses.replace(self.disk, target=target)
        return self

    def differs(self, copy: pathlib.Path) -> str:
        """Return where a raw copy of it differs first from what was written, empty when it does not."""
        found = copy.read_bytes()
        if found == self.content:
            return ""
        place = next((at for at, pair in enumerate(zip(found, self.content)) if pair[0] != pair[1]), len(found))
        return f"{len(found)} bytes for {self.size}; at {place}: {found[place : place + 1]!r}"

    def change(self, domain: LabDomain, change: Change) -> None:
        """Write to it while the domain has it."""
        domain.qemu_io(self.disk.target, change.command, "flush")
        self._remember(change)

    def change_on_the_shelf(self, change: Change) -> None:
        """Write to it while no domain has it."""
        call("qemu-io", "-f", self.disk.format, "-c", change.command, self.image)
        self._remember(change)

    def _remember(self, change: Change) -> None:
        value = bytes((change.pattern if change.verb == "write" else 0,))
        self.content[change.offset : change.offset + change.length] = value * change.length

    def resize(self, size: int) -> None:
        """Remember that it was resized."""
        self.content[size:] = bytes(max(0, size - self.size))
        self.excused = "resized"


def any_size(dice: random.Random, most: int = 4 * MIB) -> int:
    """Draw a size in whole sectors, of no whole clusters as a rule."""
    return dice.randrange(MIB, most, SECTOR)
