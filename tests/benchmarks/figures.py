# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures out of runs: medians of the ratios of each round, and whether they reach their targets. Pure."""

from __future__ import annotations

import dataclasses
import statistics
import typing as t

from benchmarks.model import LINK_BYTES_PER_SECOND, Metric, Row, Spent, Target

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Rounds = t.Mapping[str, t.Sequence[Spent]]
"""By program, what it spent in each round."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one row found. Ratios are 0 where there is nothing to compare with."""

    row: Row
    ours: Spent
    theirs: Spent | None
    wall: float
    cpu: float
    values: tuple[tuple[Target, float], ...]

    @property
    def verdict(self) -> str:
        """``met`` if every target is; nothing without targets."""
        if not self.values:
            return ""
        return "met" if all(target.met(value) for target, value in self.values) else "missed"


def median(runs: Sequence[Spent]) -> Spent:
    """Return the medians of each figure on its own; memory is the most that any run took."""
    return Spent(
        statistics.median(run.wall for run in runs),
        statistics.median(run.cpu for run in runs),
        max(run.memory for run in runs),
        statistics.median(run.others for run in runs),
    )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of each round, which a machine that slows down for a while does not move."""
    if len(ours) != len(theirs) or not ours:
        raise AssertionError("Contract violation: rounds must be whole")
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def figures(row: Row, rounds: Rounds) -> Figures:
    """Return what the rounds say about a row."""
    ours, theirs = rounds[row.ours], rounds.get(row.theirs, ())
    wall = ratio([run.wall for run in ours], [run.wall for run in theirs]) if theirs else 0.0
    cpu = ratio([run.cpu for run in ours], [run.cpu for run in theirs]) if theirs else 0.0
    middle = median(ours)
    values: Mapping[Metric, float] = {
        Metric.WALL: wall,
        Metric.CPU: cpu,
        Metric.MEMORY: middle.memory,
        Metric.CPU_SECONDS: middle.cpu,
        Metric.LINK_SHARE: row.link_bytes / LINK_BYTES_PER_SECOND / middle.wall,
    }
    found = tuple((target, values[target.metric]) for target in row.targets)
    return Figures(row, middle, median(theirs) if theirs else None, wall, cpu, found)
