# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which clusters are compared, and what is found. A letter stands for a cluster's content, a dot for zeroes."""

from __future__ import annotations

import random
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy.against_chain import (
    CANDIDATES,
    Comparison,
    Findings,
)
from ansible_collections.virt.backup.plugins.module_utils._copy.clean_sample import CleanSample
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER, Run


class Side:
    """An export or a chain; notes what it was asked to read."""

    def __init__(self, picture: str, length: int = 0) -> None:
        self.content = b"".join(bytes([0 if letter == "." else ord(letter)]) * CLUSTER for letter in picture)
        self.content = self.content[: length or None]
        self.read: list[int] = []
        self._waiting: dict[int, tuple[memoryview, bytes]] = {}

    def run(self, cluster: int) -> Run:
        return Run(cluster * CLUSTER, min((cluster + 1) * CLUSTER, len(self.content)))

    def start_read(self, into: memoryview, offset: int) -> list[int]:
        self.read.append(offset // CLUSTER)
        self._waiting[len(self.read)] = (into, self.content[offset : offset + len(into)])
        return [len(self.read)]

    def finish_read(self, cookies: list[int]) -> None:
        for cookie in cookies:
            into, content = self._waiting.pop(cookie)
            into[:] = content

    def holds(self, run: Run) -> bool:
        return any(self.content[run.start : run.end])

    def start(self, into: bytearray, run: Run) -> list[int]:
        return self.start_read(memoryview(into), run.start)

    finish = finish_read


def compare(disk: Side, chain: Side, clusters: t.Sequence[int], wanted: int) -> tuple[int, list[int], int]:
    """Return how many were compared, which differ, and how much was announced, in clusters."""
    announced: list[int] = []
    comparison = Comparison(disk, chain, wanted, announced.append)
    comparison.take(disk.run(cluster) for cluster in clusters)
    found = comparison.end()
    return found.compared, [run.start // CLUSTER for run in found.differing], sum(announced) // CLUSTER


@pytest.mark.parametrize(
    ("disk", "chain", "differing"),
    [
        pytest.param("AB.C", "AB.C", [], id="equal"),
        pytest.param("ABXC", "AB.C", [2], id="data-where-the-chain-has-none"),
        pytest.param("A..C", "AB.C", [1], id="zeroes-where-the-chain-has-data"),
        pytest.param("AXXX", "AB.C", [1, 2, 3], id="other-data"),
    ],
)
def test_what_differs_is_found_whatever_the_order(disk: str, chain: str, differing: list[int]) -> None:
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)):
        assert compare(Side(disk), Side(chain), order, 9) == (4, differing, 3)


def test_one_byte_is_enough() -> None:
    disk, chain = Side("AAAA"), Side("AAAA")
    content = bytearray(disk.content)
    content[3 * CLUSTER - 1] ^= 1
    disk.content = bytes(content)
    assert compare(disk, chain, range(4), 4)[1] == [2]


def test_it_goes_on_until_there_is_enough_of_what_the_chain_holds() -> None:
    disk, chain = Side("." * 90 + "ABCD"), Side("." * 90 + "ABCD")
    order = [*range(45), 90, *range(45, 90), 91, 92, 93]
    assert compare(disk, chain, order, 2) == (4, [], 2)
    assert disk.read == [0, 1, 90, 91]
    assert chain.read == [90, 91]


@pytest.mark.parametrize("wrong", [range(3), range(60, 63), range(2, 62, 20)], ids=["data", "holes", "both"])
def test_no_more_is_missed_than_the_bound_says(wrong: t.Sequence[int]) -> None:
    """Three of 64 clusters are wrong, half of them being held by the chain; 8 samples are drawn. The seeds are fixed."""
    picture = "A" * 32 + "." * 32
    chain, disk = Side(picture), Side("".join("X" if at in wrong else letter for at, letter in enumerate(picture)))
    rounds, missed = 500, 0
    for seed in range(rounds):
        sample = CleanSample(CANDIDATES * 8, random.Random(seed))
        sample.offer(0, len(disk.content))
        comparison = Comparison(disk, chain, 8, lambda _length: None)
        comparison.take(sample.drawn())
        missed += not comparison.end().differing
    bound = (1 - len(wrong) / 64) ** 8
    assert missed / rounds < bound
    assert missed > 0


def test_blocks_are_used_again_and_hold_nothing_of_before() -> None:
    letters = "".join(chr(65 + number % 26) for number in range(60))
    disk, chain = Side(letters + "." * 60), Side(letters + "." * 60)
    order = [cluster for pair in zip(range(60), range(60, 120)) for cluster in pair]
    assert compare(disk, chain, order, 60) == (119, [], 60)


def test_the_end_of_the_disk_is_no_whole_cluster() -> None:
    length = 2 * CLUSTER + 512
    assert compare(Side("ABC", length), Side("ABC", length), range(3), 3)[:2] == (3, [])
    assert compare(Side("ABX", length), Side("AB.", length), range(3), 3)[:2] == (3, [2])


def test_what_the_chain_holds_elsewhere_is_taken_if_it_is_clean_and_was_not_seen() -> None:
    disk, chain = Side("." * 8 + "ABCX"), Side("." * 8 + "ABCD")
    comparison = Comparison(disk, chain, 3, lambda _length: None)
    comparison.take([disk.run(0), disk.run(8)])
    assert comparison.few
    comparison.take_held([disk.run(cluster) for cluster in (8, 9, 10, 11)], lambda run: run.start != 9 * CLUSTER)
    assert comparison.end() == Findings(4, (disk.run(11),))
    assert disk.read == [0, 8, 10, 11]
    assert not comparison.few
