# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a backup is due."""

from __future__ import annotations

import datetime
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.freshness import freshness
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    NOW,
    catalog,
    domain_disk,
    image,
    point,
    point_id,
)

DAY = 86400
TODAY = point(23, image("vda", 23))
BOTH = point(23, image("vda", 23), image("vdb", 23))

TABLE: dict[str, tuple[t.Any, ...]] = {
    # restore points, disks, max_age, hours from NOW (which is the 23rd's own time) -> due, words
    "always": ((TODAY,), ["vda"], 0, 0, True, "no maximum age"),
    "nothing yet": ((), ["vda"], DAY, 0, True, "no restore point"),
    "fresh": ((TODAY,), ["vda"], DAY, 1, False, "3600 seconds old"),
    "just in time": ((TODAY,), ["vda"], DAY, 24, False, "within 86400 seconds"),
    "too old": ((TODAY,), ["vda"], DAY, 25, True, "90000 seconds old, more than 86400"),
    "from the future": ((TODAY,), ["vda"], DAY, -1, True, "from the future"),
    "a disk is new": ((TODAY,), ["vda", "vdb"], DAY, 1, True, "vdb: it has no image"),
    "a disk is left out": ((BOTH,), ["vda"], DAY, 1, False, "holds every disk"),
    "only the newest counts": ((BOTH, point(24, image("vda", 24))), ["vda", "vdb"], DAY, 25, True, "vdb"),
    "the newest is broken": (
        (point(23, image("vda", 23), faults={"vda": "vda.qcow2 is missing"}),),
        ["vda"],
        DAY,
        1,
        True,
        "vda.qcow2 is missing",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_table(case: str) -> None:
    points, names, max_age, hours, due, words = TABLE[case]
    now = NOW + datetime.timedelta(hours=hours)
    found = freshness([domain_disk(name) for name in names], catalog(*points), max_age, now)
    assert found.due is due
    assert words in found.reason


def test_a_resized_or_replaced_disk_is_not_protected() -> None:
    for change in ({"virtual_size": 5}, {"source": "/other"}, {"serial": "1"}):
        found = freshness([domain_disk("vda", **change)], catalog(TODAY), DAY, NOW)
        assert found.due
        assert point_id(23) in found.reason
