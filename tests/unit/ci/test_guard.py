# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guards are red when a tool is green but ran too little."""

from __future__ import annotations

import guard
import pytest

MINIMUM = {"plays": 2, "hosts": 2, "tasks": 5}


def junit(tests: int, *, failures: int = 0, errors: int = 0, skipped: int = 0) -> str:
    numbers = f'tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"'
    return f'<testsuites><testsuite name="pytest" {numbers}></testsuite></testsuites>'


def test_enough_tests_pass() -> None:
    assert guard.check_tests(guard.read_junit(junit(7)), 7) == "7 tests"


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (junit(6), "only 6 tests where at least 7 are known"),
        (junit(0), "only 0 tests"),
        (junit(9, failures=1), "1 tests failed"),
        (junit(9, errors=1), "1 tests failed"),
        (junit(9, skipped=1), "1 were skipped"),
    ],
)
def test_too_few_tests_are_red(report: str, reason: str) -> None:
    with pytest.raises(guard.Red, match=reason):
        guard.check_tests(guard.read_junit(report), 7)


def test_several_suites_add_up() -> None:
    text = f"<testsuites>{junit(3)}{junit(4, skipped=2)}</testsuites>"
    assert guard.read_junit(text) == guard.Counts(7, 0, 2)


def recap(*hosts: str, plays: int = 2, ok: int = 3) -> str:
    lines = [f"{host} : ok={ok} changed=1 unreachable=0 failed=0 skipped=0 rescued=0 ignored=0" for host in hosts]
    return "\n".join(["PLAY [Converge] ****"] * plays + ["TASK [x] ***", "PLAY RECAP ****", *lines])


def test_enough_of_a_playbook_ran() -> None:
    assert guard.check_recap(guard.read_recap(recap("hv1", "hv2")), MINIMUM) == "2 plays, 2 hosts, 6 tasks"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (recap("hv1", "hv2", plays=1), "only 1 plays"),
        (recap("hv1"), "only 1 hosts"),
        (recap("hv1", "hv2", ok=1), "only 2 tasks"),
        (recap("hv1", "hv2", ok=0), "only 0 hosts"),
        ("PLAY [Converge] ***\nskipping: no hosts matched\nPLAY [x] ***\n\nPLAY RECAP ***\n", "only 0 hosts"),
    ],
)
def test_a_playbook_that_did_too_little_is_red(output: str, reason: str) -> None:
    with pytest.raises(guard.Red, match=reason):
        guard.check_recap(guard.read_recap(output), MINIMUM)


MOLECULE = f"""\
INFO     [one > prepare] Executing
{recap("hv1", "hv2", plays=1)}
INFO     [one > prepare] Executed: Successful
INFO     [one > converge] Executing
{recap("hv1", "hv2", plays=1)}
INFO     [two > converge] Executing
{recap("hv1", "hv2")}
"""


def test_each_scenario_is_counted_by_itself() -> None:
    told = "one: 2 plays, 2 hosts, 12 tasks; two: 2 plays, 2 hosts, 6 tasks"
    assert guard.check_scenarios(MOLECULE, {"one": MINIMUM, "two": MINIMUM}) == told


@pytest.mark.parametrize("minimums", [{"three": MINIMUM}, {"two": {**MINIMUM, "tasks": 7}}])
def test_a_scenario_that_did_too_little_is_red(minimums: dict[str, dict[str, int]]) -> None:
    with pytest.raises(guard.Red, match="only"):
        guard.check_scenarios(MOLECULE, {"one": MINIMUM, **minimums})


def test_every_wanted_sanity_test_must_run() -> None:
    output = 'Running sanity test "pep8"\nRunning sanity test "import" on Python 3.11\nRunning sanity test "import" on Python 3.12\n'
    assert guard.check_sanity(output, ["pep8", "import"]) == "2 sanity tests"
    with pytest.raises(guard.Red, match="left out the sanity tests pylint"):
        guard.check_sanity(output, ["pep8", "pylint"])


def test_a_number_that_is_no_longer_told_is_red() -> None:
    assert guard.find_number("in 17 files processed of 20", r"in (\d+) files", "files") == 17
    with pytest.raises(guard.Red, match="does not tell the number of files"):
        guard.find_number("All fine", r"in (\d+) files", "files")


@pytest.mark.parametrize("line", ["WARNING: old", "ERROR: bad", "[WARNING]: old", "[ERROR]: bad", "CRITICAL all"])
def test_a_warning_breaks_the_silence(line: str) -> None:
    with pytest.raises(guard.Red, match="1 warnings or errors"):
        guard.check_silence(f"Importing\n{line}\ndone")


def test_a_text_about_warnings_is_none() -> None:
    guard.check_silence("No warnings\n    returned with a WARNING: inside\n")
