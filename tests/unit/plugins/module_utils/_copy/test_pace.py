# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How deep a copy reads: the rule as a table, and the pace on links of every length."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy.pace import (
    DEPTH,
    LONE_DEPTH,
    MOST_OF_AN_IMAGE,
    Budget,
    Pace,
    deeper,
)
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK

GBIT = 125_000_000.0


@pytest.mark.parametrize(
    ("depth", "most", "round_trip", "rate", "before", "then"),
    [
        (1, 6, 0.0001, 8e8, 0.0, 1),  # near: whatever the rate
        (4, 24, 0.0019, 1e6, 0.0, 4),
        (1, 6, 0.010, 4e8, 0.0, 2),  # far, nothing known yet
        (2, 6, 0.010, 8e8, 4e8, 4),  # it paid
        (2, 6, 0.010, 4.9e8, 4e8, 2),  # it did not: the link is full
        (4, 6, 0.100, 9e7, 5e7, 6),  # up to the most
        (1, 8, 0.100, 9e7, 0.0, 4),  # surely far: in larger steps
        (6, 6, 0.100, 9e7, 5e7, 6),
        (4, 3, 0.100, 9e7, 0.0, 4),  # a depth that is beyond the most stays
    ],
)
def test_the_rule(depth: int, most: int, round_trip: float, rate: float, before: float, then: int) -> None:
    assert deeper(depth, most, round_trip, rate, before) == then


class Link:
    """A link that delivers blocks: as many as are in flight each round trip, but never more than its bandwidth.

    ``filled`` is the data of each block, whose other clusters are holes.
    """

    def __init__(self, round_trip: float, bandwidth: float, workers: int, depth: int, filled: int = BLOCK) -> None:
        self.now = 0.0
        self._filled = filled
        self.pace = Pace(depth, workers, clock=lambda: self.now)
        self._round_trip, self._bandwidth, self._workers = round_trip, bandwidth, workers
        self.pace.answered(round_trip)

    def rate(self) -> float:
        return min(self.pace.depth * self._workers * self._filled / self._round_trip, self._bandwidth)

    def deliver(self, blocks: int) -> None:
        for _block in range(blocks):
            self.now += self._filled / self.rate()
            self.pace.arrived(self._filled)


@pytest.mark.parametrize(("workers", "depth"), [(4, DEPTH), (2, DEPTH), (1, LONE_DEPTH)])
@pytest.mark.parametrize("filled", [BLOCK, BLOCK * 7 // 16])
@pytest.mark.parametrize("round_trip", [0.0001, 0.001, 0.010, 0.100])
def test_a_gigabit_is_filled_at_every_distance(round_trip: float, filled: int, workers: int, depth: int) -> None:
    link = Link(round_trip, GBIT, workers, depth, filled)
    link.deliver(800)
    assert link.rate() >= 0.99 * GBIT
    assert link.pace.depth * workers <= MOST_OF_AN_IMAGE


@pytest.mark.parametrize(("workers", "depth"), [(4, DEPTH), (1, LONE_DEPTH)])
def test_near_servers_are_read_at_the_cheap_depth(workers: int, depth: int) -> None:
    link = Link(0.0003, 2e9, workers, depth)
    link.deliver(1000)
    assert link.pace.depth == depth


def test_depth_stops_growing_when_the_link_is_full() -> None:
    """10 ms at 1 Gbit/s need 1.2 blocks; 4 connections have 4 from the start, so the one growth that is tried is enough."""
    link = Link(0.010, GBIT, 4, DEPTH)
    link.deliver(1000)
    assert link.pace.depth == 2


def test_zeroes_say_nothing_about_the_link() -> None:
    pace = Pace()
    for _block in range(100):
        pace.arrived(0)
    assert pace.depth == DEPTH


def test_far_is_said_only_of_what_answered() -> None:
    pace = Pace()
    assert not pace.far
    pace.answered(0.05)
    assert pace.far
    pace.answered(0.01)
    assert not pace.far


def test_a_call_s_budget_is_shared_and_comes_back() -> None:
    budget = Budget(2)
    assert [budget.take() for _block in range(3)] == [True, True, False]
    budget.give_back(1)
    assert [budget.take() for _block in range(2)] == [True, False]
