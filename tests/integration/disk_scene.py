# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk behind a real NBD server, and restore points of it, without a hypervisor: milliseconds for a backup."""

from __future__ import annotations

import contextlib
import shutil
import typing as t
from pathlib import Path

from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    Run,
    raw_checkpoint,
    raw_disk,
)

SIZE = 1 << 20


class Scene:
    """A disk behind a real server, and a repository of restore points of it that were copied by nbd_extract."""

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self.folder = folder
        self.root = root or folder / "root"
        self.root.mkdir(exist_ok=True)
        self.repository = self.root / "repository"
        self.truth: dict[str, Path] = {}
        self.beside = True
        self._disk = nbd.create(folder / "disk.qcow2", SIZE)
        nbd.qemu_io(self._disk, "write -P 1 0 128k")
        nbd.add_bitmap(self._disk, "b")

    @contextlib.contextmanager
    def server(self, change: str) -> t.Iterator[nbd.Server]:
        """Change the disk and serve it."""
        nbd.qemu_io(self._disk, change)
        with nbd.qemu_nbd(self._disk, "-r", "-B", "b") as server:
            yield server

    def checkpoints(self, *ids: str) -> list[dict[str, t.Any]]:
        """Return the checkpoints as the domain has them."""
        name = open_repository(str(self.repository)).id
        return [raw_checkpoint(f"virt-backup.{name}.{identifier}", "vda") for identifier in ids]

    def stage(self, repository: Path, *ids: str, **options: t.Any) -> Run:
        """Begin a run."""
        return Run(str(repository), raw_disk(virtual_size=SIZE), checkpoints=self.checkpoints(*ids), **options)

    def copy(self, staged: Run, server: nbd.Server, **options: t.Any) -> list[dict[str, t.Any]]:
        """Copy as the role does; unless told otherwise there is a file ``beside`` that another program did not sync."""
        (disk,) = staged.plan["disks"]
        base = {"bitmap": "b", "backing_file": disk["backing_file"]} if disk["backing_file"] else {}
        image = ImageRequest(server.uri(), disk["image"], source_id=staged.plan["checkpoint"], **base)
        request = ExtractRequest(images=(image,), **{"connections": 1, **options})
        result = extract(request, check=False).result["images"]
        if self.beside:
            (Path(disk["image"]).parent / "nvram").write_bytes(b"variables" * 10)
        return t.cast("list[dict[str, t.Any]]", result)

    def publish(self, staged: Run, images: list[dict[str, t.Any]]) -> str:
        """Publish, and return the id."""
        files = [{"name": "checkpoint.xml", "content": "<domaincheckpoint/>"}]
        files += [{"name": "nvram"}] if self.beside else []
        return str(staged.present(images=images, files=files).result["id"])

    def backup(self, server: nbd.Server, *ids: str) -> str:
        """Make a restore point, and keep what the disk holds."""
        staged = self.stage(self.repository, *ids)
        identifier = self.publish(staged, self.copy(staged, server))
        self.keep_truth(identifier)
        return identifier

    def keep_truth(self, identifier: str) -> None:
        """Remember the disk as it is now as that of a restore point."""
        self.truth[identifier] = self.folder / f"{identifier}.qcow2"
        shutil.copyfile(self._disk, self.truth[identifier])
