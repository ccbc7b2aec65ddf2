# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much room scratch must find, and how much of it must stay."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.scratch import (
    FLOOR,
    LOW_WATER,
    check_room,
    check_sizes,
    mark_of,
    worst_case,
)
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.scratch import Mark, Room

GIB = 1 << 30
WORST = 100 * GIB


def room(free: int, *disks: str, device: bool = False) -> Room:
    return Room("scratch_dir", "/scratch", disks or ("vda",), free, WORST, device)


@pytest.mark.parametrize("clusters", [0, 1, 1000, 16384 * 1000])
def test_the_worst_case_has_room_for_qcow2s_tables(clusters: int) -> None:
    """As the specification counts: L2 entries of 8 bytes, refcounts of 2, in clusters; L1 and the refcount table; a header."""
    tables = -(-clusters * 8 // 65536) + -(-clusters * 2 // 65536)
    others = -(-tables * 8 // 65536) + 1 + 1
    assert worst_case(clusters * 65536) >= (clusters + tables + others) * 65536


FREE = [
    ("10%", 10 * GIB, True),
    ("10%", 10 * GIB - 1, False),
    ("0%", FLOOR, True),
    ("0%", FLOOR - 1, False),
    ("100%", WORST, True),
    ("100%", WORST - 1, False),
    ("12.5%", 25 * GIB // 2, True),
    (" 20G ", 20 * GIB, True),
    ("20G", 20 * GIB - 1, False),
    ("0", FLOOR, True),
]


@pytest.mark.parametrize(("min_free", "free", "enough"), FREE)
def test_what_has_to_be_free(min_free: str, free: int, enough: bool) -> None:
    if enough:
        check_room(room(free), min_free, "")
        return
    with pytest.raises(InputError, match=r"scratch_dir: '/scratch' has .* are asked for .*; at worst, .*100.0 GiB"):
        check_room(room(free), min_free, "")


def test_each_disk_needs_a_beginning() -> None:
    check_room(room(2 * FLOOR, "vda", "vdb"), "0%", "")
    with pytest.raises(InputError, match="at worst, when all of disks vda, vdb, vdc are overwritten"):
        check_room(room(2 * FLOOR, "vda", "vdb", "vdc"), "0%", "")


def test_a_mark_that_is_reached_at_once_is_refused() -> None:
    check_room(room(3 * GIB), "0%", "2G")
    with pytest.raises(InputError, match="scratch_low_water: '3G' is more than what '/scratch' leaves"):
        check_room(room(3 * GIB), "0%", "3G")


MARKS = [
    ("", 100 * GIB, LOW_WATER),
    ("", 4 * GIB, GIB // 2),
    ("2G", 100 * GIB, 2 * GIB),
    ("0", 100 * GIB, None),
]


@pytest.mark.parametrize(("low_water", "free", "mark"), MARKS)
def test_where_the_job_is_ended(low_water: str, free: int, mark: int | None) -> None:
    assert mark_of(room(free), low_water) == (None if mark is None else Mark("/scratch", mark))


def test_a_device_is_not_watched() -> None:
    assert mark_of(room(GIB, device=True), "") is None
    check_room(room(GIB, device=True), "0%", "2G")


@pytest.mark.parametrize("text", ["%", "-1%", "101%", "nan%", "many%", "", "10X", "-5G", "1e3", "10 %%", "ten"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(InputError, match="scratch_min_free: "):
        check_sizes(text, "")


@pytest.mark.parametrize("text", ["10%", "-1", "much"])
def test_what_is_no_mark(text: str) -> None:
    with pytest.raises(InputError, match=r"scratch_low_water: .* give a size such as 2G"):
        check_sizes("10%", text)
