# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan looks like to people."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.filter.plan_lines import in_units, plan_lines


def test_plan_lines() -> None:
    disks = [
        {"name": "vda", "level": "incremental", "reason": "it changed since ck1", "incremental": "ck1"},
        {"name": "vdb", "level": "full", "reason": "it is new", "incremental": ""},
        {"name": "vdc", "level": "incremental", "reason": "it changed since ck2", "incremental": "ck2"},
    ]
    checkpoints = [
        {"name": "ck1", "disks": [{"name": "vda", "dirty_bytes": 3 << 20}, {"name": "vdc", "dirty_bytes": 1}]},
        {"name": "ck2", "disks": [{"name": "vdc", "dirty_bytes": None}]},
    ]
    assert plan_lines(disks, "web", checkpoints, [{"name": "sda", "reason": "the cdrom drive is empty"}]) == [
        "web vda: incremental, 3.0 MiB to copy, it changed since ck1",
        "web vdb: full, it is new",
        "web vdc: incremental, it changed since ck2",
        "web sda: skipped, the cdrom drive is empty",
    ]


@pytest.mark.parametrize(
    ("length", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1536 << 20, "1.5 GiB"), (1 << 60, "1048576.0 TiB")],
)
def test_in_units(length: int, words: str) -> None:
    assert in_units(length) == words
