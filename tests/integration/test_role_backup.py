# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ``backup`` from the first full to the third, mixed restore point, by ansible-playbook."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from integration import virt_kit as kit
from integration.playbook import Ended, play_one
from integration.protection import FULL, INCREMENTAL
from lab.disks import KIB, MIB, Disk, cdrom, empty_cdrom
from lab.domains import Domains, LabDomain
from lab.tools import same_content

TAKEN = ("vda", "vdb")
SKIPPED = {
    "vdc": "transient",
    "sda": "read-only",
    "sdb": "empty",
}


class Story:
    """A domain of mixed disks, its repositories, and the copies that say what was on its disks."""

    def __init__(self, domain: LabDomain, folder: pathlib.Path) -> None:
        self.domain, self.folder = domain, folder

    def run(self, *options: str, repository: str = "repository", **variables: t.Any) -> Ended:
        """Run the role."""
        place = str(self.folder / repository)
        return play_one(self.folder, *options, backup_domain=self.domain.name, backup_repository=place, **variables)

    def backup(self, *disks: str, **options: t.Any) -> Ended:
        """Run the role, and compare what it made of these disks with what is on them."""
        truth = {name: self.domain.frozen_copy(name) for name in disks}
        ended = self.run(**options)
        assert list(ended.levels) == list(disks)
        for disk in ended.result["disks"]:
            image = pathlib.Path(ended.result["path"]) / disk["image"]
            assert same_content(image, truth[disk["name"]]) == "", disk["name"]
        return ended

    def state(self) -> t.Any:
        """Return all that a run could change: the files with their times, the checkpoints and the job."""
        files = [(str(path), path.lstat().st_mtime_ns) for path in sorted(self.folder.glob("repository/**/*"))]
        return files, self.domain.checkpoints(), self.domain.has_job()


def choices(ended: Ended) -> list[tuple[str, ...]]:
    """Return what was decided for each disk."""
    base = "base" if "base" in ended.result["disks"][0] else "parent"
    return [(disk["name"], disk["level"], disk["incremental"], disk[base]) for disk in ended.result["disks"]]


@pytest.mark.timeout(900)
def test_full_then_mixed_then_again(domains: Domains, workdir: pathlib.Path) -> None:
    domain = domains(
        Disk("vda", size=8 * MIB),
        Disk("vdb", size=8 * MIB, format="raw"),
        Disk("vdc", size=8 * MIB, transient=True),
        cdrom("sda"),
        empty_cdrom("sdb"),
    )
    domain.make_checkpoint("foreign", "vda")
    for name in ("repository", "other"):
        kit.run("backup_repository", path=str(workdir / name))
    story = Story(domain, workdir)

    domain.write("vda", 0, 2 * MIB)
    domain.write("vdb", MIB, MIB)
    first = story.backup(*TAKEN)
    assert first.levels == {"vda": FULL, "vdb": FULL}
    assert first.reason("vda") == "no restore point in this repository has an image of this disk yet"
    assert "raw" in first.reason("vdb")
    for name, word in SKIPPED.items():
        assert word in first.reason(name)

    domain.attach(Disk("vdd", size=8 * MIB))
    domain.write("vdd", 0, MIB)
    domain.write("vda", MIB, 128 * KIB, pattern=0x22)
    domain.discard("vda", 0, 64 * KIB)
    before = story.state()
    plan = story.run("--check", "--diff")
    assert story.state() == before
    assert plan.result["planned"]
    assert "vda: incremental, 192.0 KiB to copy, " in plan.output
    assert "vdd: full, no restore point in this repository has an image of this disk yet" in plan.output
    assert "sdb: skipped, " in plan.output

    second = story.backup(*TAKEN, "vdd")
    assert choices(second) == choices(plan)
    assert second.levels == {"vda": INCREMENTAL, "vdb": FULL, "vdd": FULL}
    assert second.reason("vda") == f"{192 * KIB} bytes changed since checkpoint '{checkpoint(first)}'"
    assert domain.checkpoints() == ["foreign", checkpoint(second)]

    before = story.state()
    young = story.run(backup_max_age="1h")
    assert (young.changed, young.result["protected"], young.result["changed"]) == (0, True, False)
    assert young.result["restore_point"] == second.result["restore_point"]
    assert story.state() == before

    other = story.backup("vda", repository="other", backup_include_disks=["vda"])
    assert other.levels == {"vda": FULL}
    domain.write("vdd", MIB, 64 * KIB, pattern=0x33)
    third = story.backup("vda", "vdd", backup_exclude_disks="vdb, sda")
    assert third.levels == {"vda": INCREMENTAL, "vdd": INCREMENTAL}
    assert third.reason("vdb") == "excluded by backup_exclude_disks"
    assert domain.checkpoints() == ["foreign", checkpoint(other), checkpoint(third)]


def checkpoint(ended: Ended) -> str:
    """Return the name of a restore point's checkpoint."""
    path = pathlib.Path(ended.result["path"])
    found = kit.run("restore_point_info", repository=str(path.parents[1]), domain_uuid=path.parent.name)
    return next(str(point["checkpoint"]) for point in found["restore_points"] if point["path"] == str(path))
