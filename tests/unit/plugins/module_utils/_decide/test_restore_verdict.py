# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What follows from what a host lacks."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.restore_verdict import judge
from ansible_collections.virt.backup.plugins.module_utils._model.definition import Lack, Need, Verdict

FAIL = dict.fromkeys(("missing_disks", "missing_networks", "missing_devices"), "fail")
REMOVE = dict.fromkeys(FAIL, "remove")


def lack(group: str, part: str = "x:0", *, later: bool = False) -> Lack:
    return Lack(Need(part, "file", "v", "the thing", group), "is gone", later)


@pytest.mark.parametrize("group", FAIL)
def test_a_part_fails_or_goes_as_its_group_says(group: str) -> None:
    failed = judge([lack(group)], FAIL, start=False)
    assert failed.remove == ()
    assert failed.problems[0].startswith("the thing: is gone; ")
    assert f"set {group} to remove" in failed.problems[0]
    removed = judge([lack(group)], REMOVE, start=False)
    assert removed == Verdict((), ("x:0",), (), ("the thing: is gone: it was removed from the domain.",))


def test_what_cannot_go_fails_whatever_is_set() -> None:
    for found in (lack("host", ""), lack("restored", "disk:vda"), lack("missing_devices", "")):
        assert len(judge([found], REMOVE, start=False).problems) == 1


def test_a_medium_is_taken_out() -> None:
    verdict = judge([lack("eject", "disk:sda")], FAIL, start=True)
    assert (verdict.problems, verdict.eject) == ((), ("disk:sda",))


def test_what_hinders_the_start_matters_only_for_one() -> None:
    found = lack("missing_networks", later=True)
    assert judge([found], REMOVE, start=False) == Verdict(warnings=("the thing: is gone.",))
    assert judge([found], REMOVE, start=True) == Verdict(problems=("the thing: is gone",))


def test_a_need_that_nobody_can_meet_has_its_words_alone() -> None:
    never = Lack(Need("disk:vdb", "never", "", "it is the original's", "missing_disks"), "")
    assert judge([never], FAIL, start=False).problems[0].startswith("it is the original's; name its new place")
