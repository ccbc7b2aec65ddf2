# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The words of a benchmark: what runs, what it spent, what it is compared with and what it shall reach. Pure."""

from __future__ import annotations

import dataclasses
import enum
import typing as t
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB
LINK_BYTES_PER_SECOND = 125_000_000
"""1 Gbit/s."""

Command = tuple[str, ...]
Check = t.Callable[[], None]


class BenchError(Exception):
    """Something that whoever started the benchmark can mend, in one sentence."""


@dataclasses.dataclass(frozen=True)
class Spent:
    """What one run cost: seconds, CPU seconds of client, target and servers, and MiB of its largest process.

    ``others`` is the share of the machine, 0 to 1, that processes which have no part in the run took meanwhile.
    """

    wall: float
    cpu: float
    memory: float
    others: float = 0.0


@dataclasses.dataclass(frozen=True)
class Program:
    """What is measured: commands run one after another. ``outputs`` are removed before and after, outside the time.

    ``servers`` are the processes whose CPU is spent on behalf of the commands.
    """

    commands: tuple[Command, ...]
    outputs: tuple[Path, ...]
    servers: tuple[int, ...]


class Metric(enum.Enum):
    """What a target is about; the value is its name in the table."""

    WALL = "wall"
    CPU = "CPU"
    MEMORY = "MiB"
    CPU_SECONDS = "CPU s"
    LINK_SHARE = "of the link"


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound: a ratio to the peer, or an absolute figure. ``least`` turns "at most" into "at least"."""

    metric: Metric
    bound: float
    least: bool = False

    def met(self, value: float) -> bool:
        """Whether a value reaches it."""
        return value >= self.bound if self.least else value <= self.bound

    def __str__(self) -> str:
        return f"{self.metric.value} {'≥' if self.least else '≤'} {self.bound:g}"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: a program of ours, the program it is compared with (or none), and what it shall reach.

    ``link_bytes`` is what has to cross a link of :data:`LINK_BYTES_PER_SECOND`.
    """

    case: str
    ours: str
    theirs: str = ""
    targets: tuple[Target, ...] = ()
    link_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Scene:
    """What runs in turns while its servers are up.

    ``checks`` prove what the program of that name has written. What is ``steady`` differs little from run to run,
    because it waits rather than works or is not about time, and runs once.
    """

    programs: dict[str, Program]
    rows: tuple[Row, ...]
    checks: dict[str, Check]
    steady: bool = False


@dataclasses.dataclass(frozen=True)
class Place:
    """Where scenes put their files: ``folder`` in memory, ``disk`` on a real one."""

    folder: Path
    disk: Path


@dataclasses.dataclass(frozen=True)
class Plan:
    """A scene that can be set up, and the bytes that it needs at most at once."""

    open: t.Callable[[Place], t.ContextManager[Scene]]
    needs: int
    on_disk: bool = False


def at_most(wall: float = 0.0, cpu: float = 0.0) -> tuple[Target, ...]:
    """Return the targets of a comparison: ratios to the peer, those that are not 0."""
    pairs = ((Metric.WALL, wall), (Metric.CPU, cpu))
    return tuple(Target(metric, bound) for metric, bound in pairs if bound)
