# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every clean cluster is as likely as any other to be drawn, however the clean ranges come."""

from __future__ import annotations

import collections
import random
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy.clean_sample import CleanSample
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER, WINDOW, Run

RANGES = (
    Run(0, CLUSTER),
    Run(5 * CLUSTER, 30 * CLUSTER),
    Run(31 * CLUSTER, 32 * CLUSTER),
    Run(40 * CLUSTER, 53 * CLUSTER),
)
CLUSTERS = [at // CLUSTER for start, end in RANGES for at in range(start, end, CLUSTER)]


def draw(most: int, seed: int, ranges: t.Iterable[Run] = RANGES) -> list[Run]:
    sample = CleanSample(most, random.Random(seed))
    for start, end in ranges:
        sample.offer(start, end)
    return sample.drawn()


@pytest.mark.parametrize("most", [1, 7, len(CLUSTERS) - 1])
def test_as_many_different_clusters_as_asked_for_and_all_of_them_clean(most: int) -> None:
    for seed in range(200):
        drawn = draw(most, seed)
        assert len(set(drawn)) == most
        assert {run.start // CLUSTER for run in drawn} <= set(CLUSTERS)
        assert {run.end - run.start for run in drawn} == {CLUSTER}


@pytest.mark.parametrize("most", [len(CLUSTERS), 1000])
def test_all_of_them_where_there_are_no_more(most: int) -> None:
    assert sorted(run.start // CLUSTER for run in draw(most, 1)) == CLUSTERS


def test_nothing_of_nothing() -> None:
    assert draw(5, 1, []) == []


def test_the_end_of_the_disk_is_no_whole_cluster() -> None:
    assert sorted(draw(9, 1, [Run(0, CLUSTER + 512)])) == [Run(0, CLUSTER), Run(CLUSTER, CLUSTER + 512)]


@pytest.mark.parametrize(("most", "first"), [(1, 1), (8, 8), (8, 1), (39, 39)])
def test_each_cluster_is_as_likely(most: int, first: int) -> None:
    """Also among the ``first`` of the sample alone, which is what is compared when they suffice."""
    rounds = 8000
    count = collections.Counter(run.start // CLUSTER for seed in range(rounds) for run in draw(most, seed)[:first])
    expected = rounds * first / len(CLUSTERS)
    chi_square = sum((count[cluster] - expected) ** 2 / expected for cluster in CLUSTERS)
    # 39 degrees of freedom: above 80 once in ten thousand times. The seeds are fixed, so it is right or wrong for good.
    assert chi_square < 80


def test_the_cut_of_the_ranges_does_not_matter() -> None:
    whole = draw(16, 3, [Run(0, 4 * WINDOW)])
    cut = draw(16, 3, [Run(start, start + WINDOW) for start in range(0, 4 * WINDOW, WINDOW)])
    assert whole == cut


def test_a_petabyte_costs_no_more_chance_than_it_must() -> None:
    class Counted(random.Random):
        asked = 0

        def getrandbits(self, k: int) -> int:
            self.asked += 1
            return super().getrandbits(k)

    chance = Counted(1)
    sample = CleanSample(64, chance)
    sample.offer(0, 1 << 50)
    assert len(sample.drawn()) == 64
    assert chance.asked < 10_000
