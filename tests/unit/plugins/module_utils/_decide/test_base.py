# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where each disk's next image starts. Days stand for restore points: ``image("vda", 2, parent=1)``."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.base import RULES, decide_bases
from ansible_collections.virt.backup.plugins.module_utils._model.base_plan import BaseReason, Policy
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    NOW,
    SIZE,
    catalog,
    checkpoint,
    checkpoint_of,
    domain_disk,
    image,
    point,
    point_id,
)

FULL_1 = point(1, image("vda", 1))
CHAIN_3 = (FULL_1, point(2, image("vda", 2, 1)), point(3, image("vda", 3, 2, 1)))

# what is there, the disk now, the domain's checkpoints, policy -> reason, base (day), a word of the sentence
TABLE: dict[str, tuple[t.Any, ...]] = {
    "first backup": ((), {}, (), {}, BaseReason.NO_EARLIER_IMAGE, 0, "no restore point"),
    "increment": ((FULL_1,), {}, (checkpoint(1, "vda"),), {}, BaseReason.INCREMENTAL, 1, point_id(1)),
    "increment of an increment": (CHAIN_3, {}, (checkpoint(3, "vda"),), {}, BaseReason.INCREMENTAL, 3, point_id(3)),
    "another disk's image only": (
        (point(1, image("vdb", 1)),),
        {},
        (checkpoint(1, "vda", "vdb"),),
        {},
        BaseReason.NO_EARLIER_IMAGE,
        0,
        "no restore point",
    ),
    "left out of the newest: its own last image": (
        (point(1, image("vda", 1), image("vdb", 1)), point(2, image("vdb", 2, 1))),
        {},
        (checkpoint(1, "vda", "vdb"), checkpoint(2, "vda", "vdb")),
        {},
        BaseReason.INCREMENTAL,
        1,
        point_id(1),
    ),
    "left out, and its own checkpoint is gone: the newer is no base": (
        (point(1, image("vda", 1)), point(2, image("vdb", 2))),
        {},
        (checkpoint(2, "vda", "vdb"),),
        {},
        BaseReason.CHECKPOINT_MISSING,
        0,
        checkpoint_of(1),
    ),
    "newest image lost its bitmap: the older is no base": (
        CHAIN_3[:2],
        {},
        (checkpoint(1, "vda"), checkpoint(2, lost=["vda"])),
        {},
        BaseReason.BITMAP_UNUSABLE,
        0,
        "the bitmap is gone",
    ),
    "asked for": ((FULL_1,), {}, (checkpoint(1, "vda"),), {"full": True}, BaseReason.FULL_REQUESTED, 0, "asked"),
    "raw disk": (
        (FULL_1,),
        {"bitmap_problem": "raw images carry none"},
        (),
        {},
        BaseReason.NO_BITMAP_POSSIBLE,
        0,
        "raw images carry none",
    ),
    "was raw when its last image was taken": (
        (point(1, image("vda", 1, bitmap=False)),),
        {},
        (checkpoint(1, "vda"),),
        {},
        BaseReason.NO_BITMAP_THEN,
        0,
        point_id(1),
    ),
    "replaced": (
        (FULL_1,),
        {"source": "/img/new"},
        (checkpoint(1, "vda"),),
        {},
        BaseReason.SOURCE_CHANGED,
        0,
        "from '/img/vda' to '/img/new'",
    ),
    "another file at the same path": (
        (point(1, image("vda", 1, inode=7)),),
        {"inode": 8},
        (checkpoint(1, "vda"),),
        {},
        BaseReason.FILE_REPLACED,
        0,
        "another file at '/img/vda'",
    ),
    "the same file": (
        (point(1, image("vda", 1, inode=7)),),
        {"inode": 7},
        (checkpoint(1, "vda"),),
        {},
        BaseReason.INCREMENTAL,
        1,
        "",
    ),
    "a file whose inode was not recorded": (
        (FULL_1,),
        {"inode": 8},
        (checkpoint(1, "vda"),),
        {},
        BaseReason.INCREMENTAL,
        1,
        "",
    ),
    "other serial": ((FULL_1,), {"serial": "S2"}, (checkpoint(1, "vda"),), {}, BaseReason.SERIAL_CHANGED, 0, "'S2'"),
    "other format": (
        (FULL_1,),
        {"format": "qed"},
        (checkpoint(1, "vda"),),
        {},
        BaseReason.FORMAT_CHANGED,
        0,
        "from qcow2 to qed",
    ),
    "encryption turned on": (
        (FULL_1,),
        {},
        (checkpoint(1, "vda"),),
        {"encryption": "luks"},
        BaseReason.ENCRYPTION_CHANGED,
        0,
        "from none to luks",
    ),
    "encryption turned off": (
        (point(1, image("vda", 1, encryption="luks")),),
        {},
        (checkpoint(1, "vda"),),
        {},
        BaseReason.ENCRYPTION_CHANGED,
        0,
        "from luks to none",
    ),
    "encrypted then and now": (
        (point(1, image("vda", 1, encryption="luks")),),
        {},
        (checkpoint(1, "vda"),),
        {"encryption": "luks"},
        BaseReason.INCREMENTAL,
        1,
        point_id(1),
    ),
    "grown": (
        (FULL_1,),
        {"virtual_size": 2 * SIZE},
        (checkpoint(1, "vda"),),
        {},
        BaseReason.RESIZED,
        0,
        f"from {SIZE} to {2 * SIZE} bytes",
    ),
    "shrunk": ((FULL_1,), {"virtual_size": 512}, (checkpoint(1, "vda"),), {}, BaseReason.RESIZED, 0, "to 512 bytes"),
    "image missing": (
        (point(1, image("vda", 1), faults={"vda": "/repo/vda.qcow2 is missing"}),),
        {},
        (checkpoint(1, "vda"),),
        {},
        BaseReason.CHAIN_BROKEN,
        0,
        "/repo/vda.qcow2 is missing",
    ),
    "full below is damaged": (
        (point(1, image("vda", 1), faults={"vda": "it is damaged: digest"}), point(2, image("vda", 2, 1))),
        {},
        (checkpoint(2, "vda"),),
        {},
        BaseReason.CHAIN_BROKEN,
        0,
        "digest",
    ),
    "parent is missing": (
        (point(2, image("vda", 2, 1)),),
        {},
        (checkpoint(2, "vda"),),
        {},
        BaseReason.CHAIN_BROKEN,
        0,
        f"the image of vda in {point_id(1)}, on which {point_id(2)} builds, is missing",
    ),
    "another disk of the same restore point is damaged": (
        (point(1, image("vda", 1), image("vdb", 1), faults={"vdb": "damaged"}),),
        {},
        (checkpoint(1, "vda", "vdb"),),
        {},
        BaseReason.INCREMENTAL,
        1,
        point_id(1),
    ),
    "a run found its newest image no base": (
        (*CHAIN_3[:2], point(3, image("vda", 3, 2, 1), distrusted={"vda": "12 of 64 differ"})),
        {},
        (checkpoint(3, "vda"),),
        {},
        BaseReason.BASE_DISTRUSTED,
        0,
        f"an earlier run found its last image ({point_id(3)}) no base: 12 of 64 differ",
    ),
    "a run found another disk's no base": (
        (point(1, image("vda", 1), image("vdb", 1), distrusted={"vdb": "12 of 64 differ"}),),
        {},
        (checkpoint(1, "vda", "vdb"),),
        {},
        BaseReason.INCREMENTAL,
        1,
        point_id(1),
    ),
    "full since a run found the one before no base": (
        (point(1, image("vda", 1), distrusted={"vda": "12 of 64 differ"}), point(2, image("vda", 2))),
        {},
        (checkpoint(2, "vda"),),
        {},
        BaseReason.INCREMENTAL,
        2,
        point_id(2),
    ),
    "full due by age": (
        CHAIN_3,
        {},
        (checkpoint(3, "vda"),),
        {"full_every_days": 22},
        BaseReason.FULL_DUE_DAYS,
        0,
        "every 22 days",
    ),
    "full not due by age": (
        CHAIN_3,
        {},
        (checkpoint(3, "vda"),),
        {"full_every_days": 23},
        BaseReason.INCREMENTAL,
        3,
        point_id(3),
    ),
    "full due by increments": (
        CHAIN_3,
        {},
        (checkpoint(3, "vda"),),
        {"full_every_increments": 2},
        BaseReason.FULL_DUE_INCREMENTS,
        0,
        "after 2 increments",
    ),
    "full not due by increments": (
        CHAIN_3,
        {},
        (checkpoint(3, "vda"),),
        {"full_every_increments": 3},
        BaseReason.INCREMENTAL,
        3,
        point_id(3),
    ),
    "checkpoint gone": ((FULL_1,), {}, (), {}, BaseReason.CHECKPOINT_MISSING, 0, checkpoint_of(1)),
    "checkpoint gone, but kept in the repository": (
        (point(1, image("vda", 1), xml=True),),
        {},
        (),
        {},
        BaseReason.CHECKPOINT_MISSING,
        0,
        "redefined from the repository",
    ),
    "not in the checkpoint": (
        (FULL_1,),
        {},
        (checkpoint(1, "vdb"),),
        {},
        BaseReason.DISK_NOT_IN_CHECKPOINT,
        0,
        "doesn't track",
    ),
    "bitmap broken": (
        (FULL_1,),
        {},
        (checkpoint(1, lost=["vda"]),),
        {},
        BaseReason.BITMAP_UNUSABLE,
        0,
        "the bitmap is gone",
    ),
    "a foreign checkpoint is no base": (
        (FULL_1,),
        {},
        (checkpoint(7, "vda"),),
        {},
        BaseReason.CHECKPOINT_MISSING,
        0,
        checkpoint_of(1),
    ),
    "asked for wins over everything": (
        (),
        {"bitmap_problem": "raw"},
        (),
        {"full": True},
        BaseReason.FULL_REQUESTED,
        0,
        "",
    ),
    "changed source wins over due": (
        (FULL_1,),
        {"source": "/x"},
        (),
        {"full_every_days": 1},
        BaseReason.SOURCE_CHANGED,
        0,
        "/x",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_table(case: str) -> None:
    points, changes, checkpoints, policy, reason, base, words = TABLE[case]
    disk = domain_disk("vda", **changes)
    (plan,) = decide_bases([disk], catalog(*points), checkpoints, Policy(**policy), NOW)
    assert plan.verdict.reason is reason
    assert words in plan.verdict.sentence
    assert plan.base == (point_id(base) if base else "")
    assert plan.incremental == (checkpoint_of(base) if base else "")
    assert plan.level is (Level.INCREMENTAL if base else Level.FULL)


def test_every_rule_and_reason_has_a_row() -> None:
    assert {row[4] for row in TABLE.values()} == set(BaseReason)
    assert len(RULES) == len(BaseReason) - 1


def test_swapped_targets_name_each_other() -> None:
    points = catalog(point(1, image("vda", 1), image("vdb", 1)))
    disks = [domain_disk("vda", source="/img/vdb"), domain_disk("vdb", source="/img/vda")]
    first, second = decide_bases(disks, points, [checkpoint(1, "vda", "vdb")], Policy(), NOW)
    assert first.verdict.sentence == "the disk's source changed from '/img/vda' (which is vdb now) to '/img/vdb'"
    assert second.verdict.sentence == "the disk's source changed from '/img/vdb' (which is vda now) to '/img/vda'"


def test_each_disk_for_itself() -> None:
    points = catalog(point(1, image("vda", 1)), point(2, image("vdb", 2)), point(3, image("vdc", 3)))
    disks = [domain_disk("vda"), domain_disk("vdb"), domain_disk("vdc", virtual_size=512), domain_disk("vdaa")]
    checkpoints = [checkpoint(1, "vda", "vdb"), checkpoint(2, "vda", "vdb"), checkpoint(3, "vdc")]
    plans = decide_bases(disks, points, checkpoints, Policy(), NOW)
    assert [plan.base for plan in plans] == [point_id(1), point_id(2), "", ""]
    assert [plan.disk.name for plan in plans] == ["vda", "vdb", "vdc", "vdaa"]
