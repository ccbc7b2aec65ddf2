# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a selection takes, what it leaves out, and what it refuses."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.filter.choose_disks import choose_disks
from ansible_collections.virt.backup.plugins.filter.choose_domains import choose_domains

DOMAINS = [{"name": name, "uuid": f"uuid-{name}", "state": "running"} for name in ("web1", "web2", "Web3", "db")]


@pytest.mark.parametrize(
    ("include", "exclude", "chosen", "unmatched"),
    [
        (["*"], [], "web1 web2 Web3 db", []),
        ("web*", "", "web1 web2", []),
        ("web1, db", "", "web1 db", []),
        (["*"], "web*,db", "Web3", []),
        (["web[12]"], ["web2"], "web1", []),
        (["mail", "db"], [], "db", ["mail"]),
        (["mail*"], [], "", ["mail*"]),
        (["db"], ["db"], "", []),
    ],
)
def test_choose_domains(include: t.Any, exclude: t.Any, chosen: str, unmatched: list[str]) -> None:
    result = choose_domains(DOMAINS, "hv1", include, exclude)
    assert [unit["domain"] for unit in result["units"]] == chosen.split()
    assert result["unmatched"] == unmatched


def test_units_carry_the_name_of_their_hypervisor() -> None:
    unit = {"name": "db@hv1", "domain": "db", "uuid": "uuid-db", "hypervisor": "hv1"}
    assert choose_domains(DOMAINS, "hv1", ["db"])["units"] == [unit]


def disk(name: str, why_not: str = "", why_not_by_default: str = "") -> dict[str, t.Any]:
    return {
        "name": name,
        "backup": not why_not,
        "backup_reason": why_not,
        "by_default": not (why_not or why_not_by_default),
        "by_default_reason": why_not or why_not_by_default,
    }


DISKS = [disk("vda"), disk("vdb"), disk("sda", "the cdrom drive is empty"), disk("sdb", "", "the disk is read-only")]
EMPTY, READ_ONLY = {"sda": "the cdrom drive is empty"}, {"sdb": "the disk is read-only"}
EXCLUDED, NOT_INCLUDED = "excluded by backup_exclude_disks", "not in backup_include_disks"


@pytest.mark.parametrize(
    ("include", "exclude", "taken", "skipped"),
    [
        ([], [], "vda vdb", {**EMPTY, **READ_ONLY}),
        ("", "vdb", "vda", {"vdb": EXCLUDED, **EMPTY, **READ_ONLY}),
        (["vdb"], [], "vdb", {"vda": NOT_INCLUDED, "sda": NOT_INCLUDED, "sdb": NOT_INCLUDED}),
        ("vdb, sdb", "", "vdb sdb", {"vda": NOT_INCLUDED, "sda": NOT_INCLUDED}),
        ("vda,sda", "", "vda", {"vdb": NOT_INCLUDED, **EMPTY, "sdb": NOT_INCLUDED}),
        ("vda", "vda", "", {"vda": EXCLUDED, "vdb": NOT_INCLUDED, "sda": NOT_INCLUDED, "sdb": NOT_INCLUDED}),
    ],
)
def test_choose_disks(include: t.Any, exclude: t.Any, taken: str, skipped: dict[str, str]) -> None:
    result = choose_disks(DISKS, include, exclude)
    assert [entry["name"] for entry in result["take"]] == taken.split()
    assert {entry["name"]: entry["reason"] for entry in result["skipped"]} == skipped


@pytest.mark.parametrize(
    ("include", "exclude", "problem"),
    [
        ("", "", ""),
        ("vda,vdx", "", "backup_include_disks: the domain has no disk 'vdx'; its disks are vda, vdb, sda, sdb"),
        ("", ["vdx"], "backup_exclude_disks: the domain has no disk 'vdx'; its disks are vda, vdb, sda, sdb"),
        ("vda", "vda", "the domain has no disk to back up (vda: excluded by backup_exclude_disks; vdb: not in"),
        ("vda,sda", "", "backup_include_disks: disk 'sda' cannot be backed up: "),
    ],
)
def test_problems(include: t.Any, exclude: t.Any, problem: str) -> None:
    found = choose_disks(DISKS, include, exclude)["problem"]
    assert found.startswith(problem) if problem else found == ""


def test_a_domain_without_disks_is_a_problem() -> None:
    assert choose_disks([])["problem"] == "the domain has no disk to back up (it has none)"
