# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drills are shared out once, and summed up so that none is forgotten."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.filter.drill_summary import LOST, drill_summary
from ansible_collections.virt.backup.plugins.filter.drill_units import drill_units

Data = dict[str, t.Any]
UUIDS = ("7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11", "0c9e3f60-1111-4b58-9d0c-0c2b5a2f7d11")


def found(hypervisor: str, repository: str, *domains: tuple[str, str], unmatched: t.Sequence[str] = ()) -> Data:
    units = [
        {"name": f"{name}@{hypervisor}", "domain": name, "uuid": uuid, "hypervisor": hypervisor}
        for name, uuid in domains
    ]
    chosen = {"units": units, "unmatched": list(unmatched)}
    return {"virt_backup_chosen": chosen, "virt_backup_repository_id": repository, "virt_backup_problem": ""}


WEB, DB = ("web", UUIDS[0]), ("db", UUIDS[1])


def test_a_repository_that_two_hypervisors_have_is_shared_out() -> None:
    hostvars = {"hv1": found("hv1", "a", WEB, DB), "hv2": found("hv2", "a", WEB, DB), "hv3": {}}
    units = drill_units(hostvars, ["hv2", "hv1", "hv3"])
    assert sorted(unit["domain"] for unit in units) == ["db", "web"]
    assert units == drill_units(hostvars, ["hv1", "hv3", "hv2"])


def test_two_repositories_are_two_and_domains_of_one_name_are_told_apart() -> None:
    hostvars = {"hv1": found("hv1", "a", WEB, ("web", UUIDS[1])), "hv2": found("hv2", "b", WEB)}
    names = [unit["name"] for unit in drill_units(hostvars, ["hv1", "hv2"])]
    assert sorted(names) == ["web-0c9e3f60@hv1", "web-7b1f6a1e@hv1", "web@hv2"]


PASSED = {"due": True, "passed": True, "checks": [{}], "seconds": 13.44, "restore_point": "r1", "reason": "lived"}
FAILED = {**PASSED, "passed": False, "reason": "a: it returned 1."}
RECENT = {"due": False, "passed": True, "reason": "a drill of r1 passed", "restore_point": "r1"}
PLANNED = {"due": True, "passed": False, "reason": "none passed", "restore_point": "r1"}


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"verify_result": PASSED}, "u: came back in 13.4 seconds, 1 check passed (r1)"),
        ({"verify_result": RECENT}, "u: nothing to do, a drill of r1 passed"),
        ({"verify_result": PLANNED}, "u: a drill is due, none passed (r1)"),
        ({"verify_result": FAILED, "virt_backup_drill_problem": "x"}, "u: FAILED, a: it returned 1 (r1)"),
        ({"verify_result": PLANNED, "virt_backup_drill_problem": "it broke"}, "u: FAILED, it broke"),
        ({"virt_backup_drill_problem": "no restore point"}, "u: FAILED, no restore point"),
        ({}, f"u: FAILED, {LOST}"),
    ],
)
def test_a_unit(variables: Data, line: str) -> None:
    summary = drill_summary({"u": variables}, [], ["u"])
    assert summary["lines"] == [line]
    assert [entry["name"] for entry in summary["failed"]] == (["u"] if "FAILED" in line else [])
    assert summary["passed"] == (["u"] if variables.get("verify_result", {}).get("passed") else [])


def test_hypervisors_and_names_that_were_not_found() -> None:
    hostvars = {
        "hv1": found("hv1", "a", WEB, unmatched=["x", "y"]),
        "hv2": {**found("hv2", "b", unmatched=["x"]), "virt_backup_problem": "no repository"},
    }
    summary = drill_summary(hostvars, ["hv2", "hv1"], [])
    assert summary["lines"] == ["hv2: FAILED, no repository", "x: FAILED, no domain of that name was found"]
    assert drill_summary({"hv1": {}}, ["hv1"], [])["lines"] == [f"hv1: FAILED, {LOST}"]
