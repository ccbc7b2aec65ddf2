# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repository with one restore point, which every kill and every fault gets a fresh copy of."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import tempfile
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    UUID,
    Run,
    backup,
    make_repository,
    raw_checkpoint,
    run,
)


@contextlib.contextmanager
def in_memory() -> t.Iterator[pathlib.Path]:
    """Yield a folder where a sync costs nothing: thousands of them are done, and none of these tests cuts the power."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="repository-") as folder:
        yield pathlib.Path(folder)


class Scene:
    """A repository with one restore point, which each kill gets a fresh copy of."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self.repository = path / "repository"
        make_repository(self.repository)
        self.first = backup(str(self.repository))["id"]

    def keep(self) -> None:
        """Remember this state as the one to begin with."""
        shutil.copytree(self.repository, self._path / "kept", symlinks=True)

    def again(self) -> None:
        """Go back to the state that was kept."""
        shutil.rmtree(self.repository)
        shutil.copytree(self._path / "kept", self.repository, symlinks=True)

    def checkpoint(self) -> dict[str, t.Any]:
        """Return the first restore point's checkpoint as the domain has it."""
        return raw_checkpoint(f"virt-backup.{open_repository(str(self.repository)).id}.{self.first}", "vda")

    def next_run(self) -> tuple[str, list[str]]:
        """Do what the next run does when the lease has ended; return its restore point and whose leftovers it removed."""
        run("absent", repository=str(self.repository), break_lock=True)
        following = Run(str(self.repository), checkpoints=[self.checkpoint()])
        leftovers = [entry["id"] for entry in following.plan["leftovers"]]
        for identifier in leftovers:
            following.absent(id=identifier)
        return following.extract().present().result["id"], leftovers

    def check(self, *ids: str) -> None:
        """Insist on just these restore points, all good, and on nothing else at all."""
        found = read_catalog(open_repository(str(self.repository)), UUID)
        assert [point.id for point in found.points] == sorted(ids)
        assert [point.faults for point in found.points] == [()] * len(ids)
        names = {str(path.relative_to(self.repository / UUID)) for path in (self.repository / UUID).rglob("*")}
        files = {"SHA256SUMS", "manifest.json", "staging.json", "checkpoint.xml", "vda.qcow2", "vda.json"}
        assert names == {"lock.guard", *ids, *(f"{point}/{file}" for point in ids for file in files)}

    def published(self) -> list[str]:
        """Return the restore points that a reader finds."""
        return [point.id for point in read_catalog(open_repository(str(self.repository)), UUID).points]
