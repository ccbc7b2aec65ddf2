# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an end with old content has to zero, and how data is sent on its way to the disk."""

from __future__ import annotations

import os
import typing as t

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.virt.backup.plugins.module_utils._copy.data_file import DataFile
from ansible_collections.virt.backup.plugins.module_utils._copy.gaps import Gaps

if t.TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_each_gap_is_told_once() -> None:
    gaps = Gaps()
    gaps.wrote(6, 8)
    gaps.wrote(2, 4)
    assert gaps.below(5) == [(0, 2), (4, 5)]
    assert gaps.below(3) == []
    assert gaps.below(10) == [(5, 6), (8, 10)]
    assert gaps.below(10) == []


def test_a_write_across_what_is_settled_is_no_gap() -> None:
    """A block is written as a whole, and the last task before it may be settled first."""
    gaps = Gaps()
    gaps.wrote(2, 9)
    assert gaps.below(4) == [(0, 2)]
    assert gaps.below(12) == [(9, 12)]


@given(pattern=st.lists(st.booleans(), max_size=60), marks=st.lists(st.integers(0, 60), max_size=8), data=st.data())
def test_written_and_told_are_the_whole_and_share_nothing(
    pattern: list[bool], marks: list[int], data: st.DataObject
) -> None:
    gaps, zeroed = Gaps(), [0] * len(pattern)
    bounds = [*sorted(min(mark, len(pattern)) for mark in marks), len(pattern)]
    start = 0
    for bound in bounds:
        order = data.draw(st.permutations([at for at in range(start, bound) if pattern[at]]))
        for at in order:
            gaps.wrote(at, at + 1)
        for first, last in gaps.below(bound):
            for at in range(first, last):
                zeroed[at] += 1
        start = max(start, bound)
    assert zeroed == [int(not written) for written in pattern]


def test_write_back_is_started_for_just_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    data = DataFile(fd)
    monkeypatch.setattr(data, "_start", lambda *words: asked.append(words))
    data.write(b"x" * 5000, 4096)
    assert asked == [(fd, 4096, 5000, 2)]
    assert os.pread(fd, 10000, 0) == bytes(4096) + b"x" * 5000
    os.close(fd)


def test_a_system_without_early_write_back_writes_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    data = DataFile(fd)
    monkeypatch.setattr(data, "_start", None)
    data.write(b"x" * 10, 0)
    assert os.pread(fd, 20, 0) == b"x" * 10
    os.close(fd)
