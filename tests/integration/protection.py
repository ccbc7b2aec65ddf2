# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Protect a domain through the modules, in the order of the role ``backup``, and compare with what was really there.

One backup takes about two seconds on a paused domain. Its steps are methods, so that a test can stop between any two of
them, as a run that dies does. What was on a disk is known from a copy taken beside libvirt in the frozen moment
(:meth:`LabDomain.frozen_copy`), and what came back is read with ``qemu-img`` alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import select
import typing as t

from ansible.module_utils.testing import patch_module_args
from integration import virt_kit as kit
from integration.virt_kit import Result
from lab.domains import LabDomain
from lab.tools import content_hash, file_hash, same_content

from ansible_collections.virt.backup.plugins.filter.choose_disks import choose_disks
from ansible_collections.virt.backup.plugins.filter.extract_images import extract_images
from ansible_collections.virt.backup.plugins.filter.job_disks import job_disks
from ansible_collections.virt.backup.plugins.filter.merge_disks import merge_disks

FULL, INCREMENTAL = "full", "incremental"

with patch_module_args():
    """Load once what every module would otherwise load again in its forked child: a tenth of a second each time."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A published restore point, and the hashes of what its disks held in its moment."""

    path: pathlib.Path
    manifest: Result
    truth: t.Mapping[str, str]

    @property
    def id(self) -> str:
        return str(self.manifest["id"])

    @property
    def checkpoint(self) -> str:
        return str(self.manifest["checkpoint"])

    def disk(self, name: str) -> Result:
        """Return a disk's entry in the manifest."""
        entry: Result = next(disk for disk in self.manifest["disks"] if disk["name"] == name)
        return entry

    @property
    def levels(self) -> dict[str, str]:
        return {disk["name"]: disk["level"] for disk in self.manifest["disks"]}

    def reason(self, name: str) -> str:
        """Return why a disk has its level, or why it was left out."""
        entries = [*self.manifest["disks"], *self.manifest["skipped"]]
        return str({entry["name"]: entry["reason"] for entry in entries}[name])

    def tip(self, name: str) -> pathlib.Path:
        """Return the image of a disk, the top of its chain."""
        return self.path / str(self.disk(name)["image"])

    def check(self) -> None:
        """Compare every disk with its truth, as a plain ``qemu-img convert`` restores it."""
        assert {name: content_hash(self.tip(name)) for name in self.levels} == self.truth, self.id


@dataclasses.dataclass
class Run:
    """A run on its way: what its steps returned so far."""

    info: Result
    plan: Result
    truth: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    job: Result = dataclasses.field(default_factory=dict)
    disks: list[Result] = dataclasses.field(default_factory=list)
    images: list[Result] = dataclasses.field(default_factory=list)

    @property
    def checkpoint(self) -> str:
        return str(self.plan["checkpoint"])

    @property
    def levels(self) -> dict[str, str]:
        """Return the planned levels."""
        return {disk["name"]: disk["level"] for disk in self.plan["disks"]}


class Protection:
    """One domain in one repository, and the restore points made here, oldest first."""

    def __init__(self, domain: LabDomain, repository: pathlib.Path) -> None:
        self.domain, self.repository = domain, repository
        made: Result = kit.run("backup_repository", path=str(repository))["repository"]
        self.id = str(made["id"])
        self.points: list[Point] = []
        self.excluded: tuple[str, ...] = ()
        """The disks that no run takes."""
        self.beginning: Result = {}
        """What virt_backup is told besides when it begins a job."""
        self._place: Result = {"repository": str(repository), "domain_uuid": domain.uuid}
        self.socket = f"/run/virt-backup/libvirt-{domain.uuid}-{self.id}.sock"
        self.job: Result = {"domain": domain.name, "server": {"transport": "unix", "socket": self.socket}}

    @property
    def protected(self) -> list[str]:
        """Return the names of the disks that a run takes."""
        return [name for name in self.domain.disks if name not in self.excluded]

    # the steps

    def stage(self, *, exclude: t.Sequence[str] = (), check: bool = False, **policy: t.Any) -> Run:
        """Look at both sides, tell libvirt what it forgot, decide, and clean up after the dead."""
        self._remember()
        info = kit.run("virt_backup_info", domain=self.domain.name)
        plan = kit.run("restore_point", check=check, **self.staging_options(info, exclude=exclude, **policy))
        if not check:
            for leftover in plan["leftovers"]:
                self._clean(leftover, plan["token"])
        return Run(info, plan)

    def staging_options(self, info: Result, *, exclude: t.Sequence[str] = (), **policy: t.Any) -> Result:
        """Return the parameters with which a run is staged for what ``virt_backup_info`` saw."""
        chosen = choose_disks(info["disks"], exclude=[*self.excluded, *exclude])
        return {
            **self._place,
            "domain_name": self.domain.name,
            "state": "staged",
            "disks": chosen["take"],
            "skipped": chosen["skipped"],
            "checkpoints": info["checkpoints"],
            "run": "the tests",
            "socket": self.socket,
            **policy,
        }

    def _remember(self) -> None:
        """Give libvirt the checkpoints back that it lost; the plan says what that could not save."""
        known = self.domain.checkpoints()
        for base in self.look()["bases"]:
            if base["checkpoint"] not in known and base["checkpoint_xml"]:
                options = {"name": base["checkpoint"], "redefine_xml": base["checkpoint_xml"]}
                kit.attempt("virt_checkpoint", domain=self.domain.name, **options)

    def _clean(self, leftover: Result, token: str) -> None:
        if leftover["socket"]:
            server = {"transport": "unix", "socket": leftover["socket"]}
            kit.run("virt_backup", domain=self.domain.name, state="stopped", server=server)
        kit.run("virt_checkpoint", domain=self.domain.name, name=leftover["checkpoint"], state="absent")
        kit.run("restore_point", **self._place, id=leftover["id"], token=token, state="absent", staging=True)

    def start(self, run: Run) -> None:
        """Copy the truth while nothing changes it, and begin."""
        names = [disk["name"] for disk in run.plan["disks"]]
        run.truth = {name: self.domain.frozen_copy(name, run.plan["id"]) for name in names}
        self.begin(run)

    def begin(self, run: Run) -> None:
        """Begin the job with its checkpoint."""
        checkpoint = {"name": run.checkpoint}
        wanted = {"disks": job_disks(run.plan["disks"]), "checkpoint": checkpoint, **self.beginning}
        run.job = kit.run("virt_backup", **self.job, **wanted)
        run.disks = merge_disks(run.plan["disks"], run.job["disks"])

    def copy(self, run: Run, *, meanwhile: t.Callable[[], None] | None = None, **options: t.Any) -> None:
        """Copy all disks, with ``meanwhile`` called again and again until that is done."""
        self.copied(run, attempt_while("nbd_extract", meanwhile, **self.extraction(run, **options)))

    def copied(self, run: Run, result: Result) -> None:
        """Take what nbd_extract returned for the run."""
        assert not result["failed"], result["msg"]
        run.images = result["images"]

    def extraction(self, run: Run, **options: t.Any) -> Result:
        """Return the parameters with which nbd_extract copies the disks of a run."""
        images = extract_images(run.disks, run.checkpoint)
        return {"images": images, "status_file": run.plan["status_file"], **options}

    def stop(self) -> None:
        """End the job."""
        kit.run("virt_backup", **self.job, state="stopped")

    def publish(self, run: Run) -> Point:
        """Publish, remove the checkpoints that are no base any more, and compare the chain with the truth."""
        published = kit.run("restore_point", **self.publishing(run))
        for name in published["superseded"]:
            kit.run("virt_checkpoint", domain=self.domain.name, name=name, state="absent")
        truth = {name: file_hash(path) for name, path in run.truth.items()}
        point = Point(pathlib.Path(published["path"]), published["restore_point"], truth)
        self.points.append(point)
        for name, path in run.truth.items():
            assert same_content(point.tip(name), path) == "", f"{point.id} {name}"
            path.unlink()
        return point

    def publishing(self, run: Run) -> Result:
        """Return the parameters with which a run is published."""
        found = kit.run("virt_checkpoint_info", domain=self.domain.name, name=run.checkpoint)["checkpoints"]
        files = [{"name": "domain.xml", "content": run.info["xml"]}]
        files += [{"name": "checkpoint.xml", "content": checkpoint["xml"]} for checkpoint in found]
        files += [{"name": file["name"], "src": file["path"]} for file in run.info["state_files"] if file["name"]]
        options = {"id": run.plan["id"], "token": run.plan["token"], "disks": run.disks, "images": run.images}
        return {**self._place, **options, "files": files, "versions": run.info["versions"]}

    def tell(self, run: Run, mismatches: list[Result]) -> None:
        """Record what nbd_extract found wrong with the bases of a run."""
        options = {"id": run.plan["id"], "token": run.plan["token"], "domain_name": self.domain.name}
        kit.run("restore_point", **self._place, **options, state="staged", mismatches=mismatches)

    def removal(self, run: Run) -> Result:
        """Return the parameters with which the staging of a run is removed."""
        options = {"id": run.plan["id"], "token": run.plan["token"], "state": "absent", "staging": True}
        return {**self._place, **options}

    def undo(self, run: Run) -> None:
        """Leave nothing of a run that failed; another's job, which made it fail, is refused and stays."""
        kit.attempt("virt_backup", **self.job, state="stopped")
        kit.run("virt_checkpoint", domain=self.domain.name, name=run.checkpoint, state="absent")
        kit.run("restore_point", **self.removal(run))

    # all of them

    def backup(
        self, *, meanwhile: t.Callable[[], None] | None = None, extract: Result | None = None, **options: t.Any
    ) -> Point:
        """Make a restore point and check it. ``extract`` is for nbd_extract, ``options`` for :meth:`stage`."""
        run = self.stage(**options)
        self.start(run)
        self.copy(run, meanwhile=meanwhile, **(extract or {}))
        self.stop()
        point = self.publish(run)
        point.check()
        return point

    def check_all(self) -> None:
        """Compare every restore point made so far again: nothing newer may have changed an older one."""
        assert [point["id"] for point in self.look()["restore_points"]] == [point.id for point in self.points]
        for point in self.points:
            point.check()

    def look(self) -> Result:
        """Return what restore_point_info says."""
        return kit.run("restore_point_info", **self._place)

    def break_lock(self) -> None:
        """Take the lock from a run that is known to be dead."""
        kit.run("restore_point", **self._place, state="absent", break_lock=True)


def attempt_while(module: str, meanwhile: t.Callable[[], None] | None = None, **options: t.Any) -> Result:
    """Run a module, calling ``meanwhile`` until it has ended; return its result, failed or not."""
    if meanwhile is None:
        return kit.attempt(module, **options)
    pid, reading = kit.start_child(lambda: print(json.dumps(kit.attempt(module, **options))))
    with open(reading, encoding="utf-8") as pipe:
        while not select.select([pipe], [], [], 0)[0]:
            meanwhile()
        result: Result = json.load(pipe)
    os.waitpid(pid, 0)
    return result
