# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The level of one disk: each rule by itself, and which of two rules has the word."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide import level
from ansible_collections.virt.backup.plugins.module_utils._decide.level import (
    LevelDecision,
    LevelFacts,
    decide_level,
    why_unusable,
)
from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint, CheckpointDisk
from ansible_collections.virt.backup.plugins.module_utils._model.level import BackupMode, Level


def checkpoint(*disks: CheckpointDisk, measured: bool = True) -> Checkpoint:
    return Checkpoint("ck1", disks=disks, measured=measured)


GOOD = checkpoint(CheckpointDisk("vda", True, 65536), CheckpointDisk("vdb", True, 0))
LOST = checkpoint(CheckpointDisk("vda", True, None))
ABSENT = checkpoint(CheckpointDisk("vdb", True, 0))
EXCLUDED = checkpoint(CheckpointDisk("vda", False))
UNMEASURED = checkpoint(CheckpointDisk("vda", True, None), measured=False)

USABLE = LevelFacts("vda", BackupMode.AUTO, "ck1", GOOD)

FORCED = "a full backup was asked for"
UNNAMED = "no checkpoint was named to start from"
RAW = "the disk's format is raw"
UNKNOWN = "the domain has no checkpoint 'ck1'"
LATER = "checkpoint 'ck1' does not cover disk 'vda': it was added later, or left out of the checkpoint"
BROKEN = "the bitmap of checkpoint 'ck1' is missing or broken on disk 'vda'"
REFUSED = "libvirt refused the bitmap: no bitmap"

# One row for each rule: what is different from a disk that can be incremental, and the reason for its full.
RULES = [
    ({"mode": BackupMode.FULL}, FORCED),
    ({"checkpoint_name": "", "checkpoint": None}, UNNAMED),
    ({"untrackable": RAW}, RAW),
    ({"checkpoint": None}, UNKNOWN),
    ({"checkpoint": ABSENT}, LATER),
    ({"checkpoint": EXCLUDED}, LATER),
    ({"checkpoint": LOST}, BROKEN),
    ({"refused": "no bitmap"}, REFUSED),
]


@pytest.mark.parametrize(("difference", "reason"), RULES)
def test_each_rule(difference: dict[str, object], reason: str) -> None:
    assert decide_level(dataclasses.replace(USABLE, **difference)) == LevelDecision(Level.FULL, reason)


# Rules meet: the row says which reason the user hears.
ORDER = [
    ({"mode": BackupMode.FULL, "checkpoint_name": "", "checkpoint": None, "untrackable": RAW, "refused": "x"}, FORCED),
    ({"checkpoint_name": "", "checkpoint": None, "untrackable": RAW, "refused": "x"}, UNNAMED),
    ({"checkpoint": None, "untrackable": RAW, "refused": "x"}, RAW),
    ({"checkpoint": ABSENT, "untrackable": RAW}, RAW),
    ({"checkpoint": None, "refused": "x"}, UNKNOWN),
    ({"checkpoint": LOST, "refused": "x"}, BROKEN),
]


@pytest.mark.parametrize(("difference", "reason"), ORDER)
def test_order_of_the_rules(difference: dict[str, object], reason: str) -> None:
    assert decide_level(dataclasses.replace(USABLE, **difference)).reason == reason


def test_every_rule_has_its_row() -> None:
    assert len(level._RULES) == len({reason for _difference, reason in RULES}) - 1  # "unusable" has two sentences


@pytest.mark.parametrize("mode", [BackupMode.AUTO, BackupMode.INCREMENTAL])
@pytest.mark.parametrize(
    ("base", "disk", "decision"),
    [
        (GOOD, "vda", LevelDecision(Level.INCREMENTAL, "65536 bytes changed since checkpoint 'ck1'", "ck1", 65536)),
        (GOOD, "vdb", LevelDecision(Level.INCREMENTAL, "0 bytes changed since checkpoint 'ck1'", "ck1", 0)),
        (UNMEASURED, "vda", LevelDecision(Level.INCREMENTAL, "what changed since checkpoint 'ck1'", "ck1", None)),
    ],
)
def test_incremental_when_no_rule_objects(
    mode: BackupMode, base: Checkpoint, disk: str, decision: LevelDecision
) -> None:
    assert decide_level(LevelFacts(disk, mode, "ck1", base)) == decision


@pytest.mark.parametrize(
    ("base", "reason"),
    [(GOOD, ""), (UNMEASURED, ""), (LOST, BROKEN), (ABSENT, LATER), (EXCLUDED, LATER), (checkpoint(), LATER)],
)
def test_why_unusable(base: Checkpoint, reason: str) -> None:
    assert why_unusable("vda", base) == reason
