# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which checkpoints are missed: those that some disk's next increment would start from."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.filter.lost_checkpoints import lost_checkpoints


def point(number: int, disks: str, checkpoint: bool = True) -> dict[str, t.Any]:
    return {
        "id": f"p{number}",
        "path": f"/srv/backup/uuid/p{number}",
        "checkpoint": f"ck{number}" if checkpoint else "",
        "disks": [{"name": name} for name in disks.split()],
    }


@pytest.mark.parametrize(
    ("points", "known", "lost"),
    [
        ([], "", ""),
        ([point(1, "vda")], "ck1", ""),
        ([point(1, "vda")], "foreign", "ck1"),
        ([point(1, "vda vdb"), point(2, "vda vdb")], "", "ck2"),
        ([point(1, "vda vdb"), point(2, "vda")], "", "ck1 ck2"),
        ([point(1, "vda vdb"), point(2, "vda")], "ck2", "ck1"),
        ([point(1, "vda", checkpoint=False)], "", ""),
    ],
)
def test_lost_checkpoints(points: list[dict[str, t.Any]], known: str, lost: str) -> None:
    found = lost_checkpoints(points, [{"name": name} for name in known.split()])
    assert [entry["name"] for entry in found] == lost.split()
    assert all(entry["path"] == f"/srv/backup/uuid/p{entry['name'][2:]}" for entry in found)
