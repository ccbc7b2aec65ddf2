# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way of a disk from the plan through the job to its image."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.virt.backup.plugins.filter.extract_images import extract_images
from ansible_collections.virt.backup.plugins.filter.job_disks import job_disks
from ansible_collections.virt.backup.plugins.filter.merge_disks import merge_disks

URI = "nbd+unix:///vda?socket=/run/virt-backup/x.sock"
STAGING = "/srv/backup/uuid/20261123T021500Z-7f3a.staging"


def planned(level: str, reason: str = "planned so") -> dict[str, t.Any]:
    incremental = level == "incremental"
    return {
        "name": "vda",
        "level": level,
        "reason": reason,
        "incremental": "ck1" if incremental else "",
        "base": "20261122T021500Z-11aa" if incremental else "",
        "image": f"{STAGING}/vda.qcow2",
        "backing_file": "../20261122T021500Z-11aa/vda.qcow2" if incremental else "",
    }


def running(level: str) -> dict[str, t.Any]:
    bitmap = "backup-vda" if level == "incremental" else ""
    return {"name": "vda", "level": level, "reason": "the job says so", "uri": URI, "exportbitmap": bitmap}


def test_job_forces_a_full_and_offers_an_increment() -> None:
    assert job_disks([planned("full"), planned("incremental")]) == [
        {"name": "vda", "backupmode": "full"},
        {"name": "vda", "backupmode": "auto", "incremental": "ck1"},
    ]


@pytest.mark.parametrize(
    ("plan", "job", "reason", "backing"),
    [
        ("full", "full", "planned so", False),
        ("incremental", "incremental", "the job says so", True),
        ("incremental", "full", "the job says so", False),
    ],
)
def test_merge(plan: str, job: str, reason: str, backing: bool) -> None:
    (merged,) = merge_disks([planned(plan)], [running(job)])
    assert (merged["level"], merged["reason"], merged["uri"]) == (job, reason, URI)
    assert [bool(merged[key]) for key in ("incremental", "base", "backing_file", "exportbitmap")] == [backing] * 4


def test_merge_refuses_a_job_without_the_disk() -> None:
    with pytest.raises(AnsibleFilterError, match="planned disk vda is not part of the running job"):
        merge_disks([planned("full")], [])


def test_images() -> None:
    image = {"uri": URI, "dest": f"{STAGING}/vda.qcow2", "format": "qcow2", "source_id": "ck2"}
    (full,) = extract_images(merge_disks([planned("incremental")], [running("full")]), "ck2")
    assert full == image
    (incremental,) = extract_images(merge_disks([planned("incremental")], [running("incremental")]), "ck2")
    lower = "../20261122T021500Z-11aa/vda.qcow2"
    assert incremental == {**image, "bitmap": "backup-vda", "backing_file": lower, "backing_format": "qcow2"}
