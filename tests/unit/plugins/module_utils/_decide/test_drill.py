# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a drill passed, and when one is due again."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.drill import passed_since, why_failed
from ansible_collections.virt.backup.plugins.module_utils._model.drill import Answer, Check, DrillRecord

CHECKS = [
    (Check("a", ("/x",)), Answer(0), ""),
    (Check("a", ("/x",)), Answer(1, "out", "no\n such  file"), "it returned 1 instead of 0: no such file"),
    (Check("a", ("/x",)), Answer(2, "only out"), "it returned 2 instead of 0: only out"),
    (Check("a", ("/x",), rc=3), Answer(3), ""),
    (Check("a", ("/x",), rc=3), Answer(0), "it returned 0 instead of 3"),
    (Check("a", ("/x",), stdout="^two$"), Answer(0, "one\ntwo\n"), ""),
    (Check("a", ("/x",), stdout="^two$"), Answer(0, "twofold"), "its output does not match '^two$': twofold"),
    (Check("a", ("/x",), stdout="x"), Answer(0, " "), "its output does not match 'x': it is empty"),
    (Check("a", ("/x",), stdout="x"), Answer(0, "y" * 300), f"its output does not match 'x': {'y' * 200}..."),
    (Check("a", ("/x",)), Answer(0, problem="it was ended by signal 9"), "it was ended by signal 9"),
]


@pytest.mark.parametrize(("check", "answer", "why"), CHECKS)
def test_an_answer(check: Check, answer: Answer, why: str) -> None:
    assert why_failed(check, answer) == why


NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.timezone.utc)


def drill(hours: float, *, passed: bool = True) -> DrillRecord:
    return DrillRecord(NOW - datetime.timedelta(hours=hours), passed)


@pytest.mark.parametrize(
    ("drills", "max_age", "last"),
    [
        ({}, 7200, ""),
        ({"a": drill(1)}, 7200, "a"),
        ({"a": drill(1)}, 3600, ""),
        ({"a": drill(1)}, 0, ""),
        ({"a": drill(1, passed=False)}, 7200, ""),
        ({"a": drill(1.5), "b": drill(1), "c": drill(0.5, passed=False)}, 7200, "b"),
        ({"a": drill(-1)}, 7200, ""),
        ({"a": drill(0)}, 1, "a"),
    ],
)
def test_which_drill_is_young_enough(drills: dict[str, DrillRecord], max_age: int, last: str) -> None:
    found = passed_since(drills.items(), max_age, NOW)
    assert found == ((last, drills[last]) if last else None)
