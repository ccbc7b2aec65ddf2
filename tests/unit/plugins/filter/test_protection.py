# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last word of a run over many domains: nothing that ended without a result may look protected."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.filter.protection import LOST, NOT_REACHED, protection
from ansible_collections.virt.backup.plugins.filter.result_lines import result_lines

DISK = {"name": "vda", "level": "full", "reason": "it is new"}
ON_HV1 = {"virt_backup_hypervisor": "hv1"}
BEGUN = {**ON_HV1, "virt_backup_begun": True}
GOOD = {
    **BEGUN,
    "backup_result": {
        "domain": "web",
        "protected": True,
        "reason": "restore point p1",
        "disks": [DISK],
        "skipped": [{"name": "sda", "reason": "the cdrom drive is empty"}],
        "warnings": ["a checkpoint stayed"],
    },
}
BAD = {**BEGUN, "backup_result": {"domain": "db", "protected": False, "reason": "it is off"}}


def hypervisor(*unmatched: str, problem: str = "") -> dict[str, t.Any]:
    return {"virt_backup_problem": problem, "virt_backup_chosen": {"units": [], "unmatched": list(unmatched)}}


def reasons(hosts: dict[str, dict[str, t.Any]]) -> dict[str, str]:
    """Return who is not protected and why; every name with an @ is a unit."""
    units = [name for name in hosts if "@" in name]
    summary = protection(hosts, [name for name in hosts if name not in units], units)
    return {entry["name"]: entry["reason"] for entry in summary["unprotected"]}


def test_results() -> None:
    hosts = {"hv1": hypervisor(), "web@hv1": GOOD, "db@hv1": BAD}
    summary = protection(hosts, ["hv1"], ["web@hv1", "db@hv1"])
    assert [entry["name"] for entry in summary["protected"]] == ["web@hv1"]
    assert [entry["name"] for entry in summary["unprotected"]] == ["db@hv1"]
    assert result_lines([*summary["protected"], *summary["unprotected"]]) == [
        "web@hv1: protected, restore point p1",
        "    vda: full, it is new",
        "    sda: skipped, the cdrom drive is empty",
        "    warning: a checkpoint stayed",
        "db@hv1: NOT PROTECTED, it is off",
    ]


def test_check_mode_protects_nobody() -> None:
    result = {"domain": "web", "protected": False, "planned": True, "reason": "a restore point would be made"}
    hosts = {"hv1": hypervisor(), "web@hv1": {**BEGUN, "backup_result": result}}
    summary = protection(hosts, ["hv1"], ["web@hv1"])
    assert (summary["protected"], summary["unprotected"]) == ([], [])
    assert result_lines(summary["results"]) == ["web@hv1: would be protected, a restore point would be made"]


def test_a_unit_that_did_not_end_is_not_protected() -> None:
    assert reasons({"hv1": hypervisor(), "a@hv1": BEGUN}) == {"a@hv1": LOST}


def test_a_limit_to_hypervisors_is_not_green() -> None:
    other = {"virt_backup_hypervisor": "hv2"}
    hosts = {"hv1": hypervisor(), "hv2": hypervisor(), "a@hv1": GOOD, "b@hv2": other, "c@hv2": other}
    assert reasons(hosts) == {"b@hv2": NOT_REACHED, "c@hv2": NOT_REACHED}


def test_a_limit_to_domains_leaves_the_others_out() -> None:
    summary = protection({"hv1": hypervisor(), "a@hv1": GOOD, "b@hv1": ON_HV1}, ["hv1"], ["a@hv1", "b@hv1"])
    assert (summary["unprotected"], summary["left_out"]) == ([], ["b@hv1"])


def test_hypervisors_with_a_problem() -> None:
    hosts = {"hv1": hypervisor(), "hv2": hypervisor(problem="unreachable"), "hv3": {}, "web@hv1": GOOD}
    assert reasons(hosts) == {"hv2": "unreachable", "hv3": LOST}


def test_a_name_is_missed_only_when_all_hypervisors_answered_and_none_has_it() -> None:
    found_on_one = {"hv1": hypervisor("mail", "db"), "hv2": hypervisor("mail")}
    assert reasons(found_on_one) == {"mail": "no domain of that name was found"}
    assert "mail" not in reasons({**found_on_one, "hv3": {"virt_backup_problem": "unreachable"}})
