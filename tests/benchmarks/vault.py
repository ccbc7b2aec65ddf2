# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repository with a chain of restore points of one disk, made by the collection's own use cases; no libvirt."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.plugins.module_utils._run.repository import RepositoryRequest, ensure_repository
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_params import use_case
from benchmarks import sources
from benchmarks.servers import qemu_nbd

UUID = "1f1e3c52-0a4f-4b0e-9d57-3d8c2f0b7a11"
DISK = "vda"
_PARAMETERS = {
    "domain_uuid": UUID,
    "domain_name": "",
    "skipped": [],
    "images": [],
    "files": [],
    "versions": {},
    "consistency": {"frozen": False, "freeze_seconds": 0.0, "paused": False},
    "checkpoints": [],
    "disks": [],
    "full": False,
    "full_every_days": 0,
    "full_every_increments": 0,
    "encryption": None,
    "max_age": 0,
    "lease": 3600,
    "run": "",
    "socket": "",
    "status_file": "",
    "id": "",
    "token": "",
    "mismatches": [],
}


class Vault:
    """``path`` is the repository, ``images`` those of the chain, the full one first."""

    def __init__(self, path: Path, disk: Path, size: int) -> None:
        self.path = path
        self.images: list[Path] = []
        self._disk = disk
        self._size = size
        self._checkpoints: list[str] = []
        ensure_repository(RepositoryRequest(str(path)), check=False)

    def back_up(self) -> None:
        """Make a restore point of the disk as it is now; what is written from now on is the next increment."""
        plan = self._restore_point(
            state="staged", domain_name="bench", disks=[self._seen()], checkpoints=self._usable()
        )
        disk = plan["disks"][0]
        below = {"bitmap": disk["incremental"], "backing_file": disk["backing_file"], "backing_format": "qcow2"}
        with qemu_nbd(self._disk, *(("-B", disk["incremental"]) if disk["incremental"] else ())) as server:
            chosen = below if disk["incremental"] else {}
            image = ImageRequest(server.uri(), disk["image"], source_id=plan["checkpoint"], **chosen)
            copied = extract(ExtractRequest(images=(image,)), check=False).result
        sources.add_bitmap(self._disk, plan["checkpoint"])
        self._checkpoints.append(plan["checkpoint"])
        files = [{"name": "checkpoint.xml", "content": "<domaincheckpoint/>"}]
        told = {"disks": plan["disks"], "images": copied["images"], "files": files}
        self._restore_point(state="present", id=plan["id"], token=plan["token"], **told)
        self.images.append(self.path / UUID / plan["id"] / f"{DISK}.qcow2")

    def _restore_point(self, **parameters: t.Any) -> dict[str, t.Any]:
        return use_case({**_PARAMETERS, "repository": str(self.path), **parameters}, check=False).result

    def _seen(self) -> dict[str, t.Any]:
        """Return the disk as virt_backup_info lists it."""
        seen = {"name": DISK, "source": str(self._disk), "format": "qcow2", "serial": "", "virtual_size": self._size}
        return {**seen, "backup": True, "checkpoint": True, "checkpoint_reason": ""}

    def _usable(self) -> list[dict[str, t.Any]]:
        disks = [{"name": DISK, "usable": True, "reason": ""}]
        return [{"name": name, "disks": disks} for name in self._checkpoints]
