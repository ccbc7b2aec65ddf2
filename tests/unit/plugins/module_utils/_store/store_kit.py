# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore points without libvirt: manifests in memory, images and records on disk, and runs of the use cases."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import os
import subprocess
import tempfile
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.base_plan import (
    BitmapState,
    DomainCheckpoint,
    DomainDisk,
)
from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import (
    DiskIdentity,
    Manifest,
    ManifestDisk,
    StoredFile,
)
from ansible_collections.virt.backup.plugins.module_utils._run.repository import RepositoryRequest, ensure_repository
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_params import use_case
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository, open_repository
from ansible_collections.virt.backup.plugins.modules import restore_point

if t.TYPE_CHECKING:
    import pathlib

    from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome

UUID = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"
OTHER_UUID = "0e9d1c1f-52ab-4f4b-8e53-0a4c6d1b9f00"
REPOSITORY = "4f1c09a2be77"
SIZE = 1 << 20
NOW = datetime.datetime(2026, 11, 23, 2, 15, tzinfo=datetime.timezone.utc)


def point_id(day: int) -> str:
    """Return the id of the restore point of that day of November."""
    return f"202611{day:02d}T021500Z-00{day:02x}"


def checkpoint_of(day: int) -> str:
    """Return the name of the checkpoint of that day's restore point."""
    return f"virt-backup.{REPOSITORY}.{point_id(day)}"


def identity(name: str = "vda", **changes: t.Any) -> DiskIdentity:
    """Return what identifies a disk that is like all others but for ``changes``."""
    fields: dict[str, t.Any] = {"source": f"/img/{name}", "serial": "", "virtual_size": SIZE, "format": "qcow2"}
    return DiskIdentity(**{**fields, **changes})


def domain_disk(name: str = "vda", bitmap_problem: str = "", **changes: t.Any) -> DomainDisk:
    """Return a disk that is to be backed up."""
    return DomainDisk(name, identity(name, **changes), bitmap_problem)


def image(
    name: str,
    day: int,
    parent: int = 0,
    chain: int = 0,
    bitmap: bool = True,
    encryption: str = "none",
    **changes: t.Any,
) -> ManifestDisk:
    """Return the entry of a disk's image of that day; with a parent it is an increment of that day's."""
    return ManifestDisk(
        name=name,
        level=Level.INCREMENTAL if parent else Level.FULL,
        reason="because",
        identity=identity(name, **changes),
        chain=point_id(chain or parent or day),
        image=f"{name}.qcow2",
        record=f"{name}.json",
        parent=point_id(parent) if parent else "",
        incremental=checkpoint_of(parent) if parent else "",
        bitmap=bitmap,
        stored_size=10,
        encryption=encryption,
    )


def point(
    day: int,
    *disks: ManifestDisk,
    faults: dict[str, str] | None = None,
    distrusted: dict[str, str] | None = None,
    xml: bool = False,
) -> Point:
    """Return a published restore point of that day."""
    moment = datetime.datetime(2026, 11, day, 2, 15, tzinfo=datetime.timezone.utc)
    files = (StoredFile("checkpoint.xml", 1, "sha256:0"),) if xml else ()
    manifest = Manifest(
        REPOSITORY, UUID, "web", point_id(day), checkpoint_of(day), moment, moment, disks=disks, files=files
    )
    return Point(
        manifest, f"/repo/{UUID}/{point_id(day)}", tuple((faults or {}).items()), tuple((distrusted or {}).items())
    )


def catalog(*points: Point) -> Catalog:
    """Return a catalog of published restore points."""
    return Catalog(points)


def checkpoint(day: int, *names: str, lost: t.Sequence[str] = ()) -> DomainCheckpoint:
    """Return that day's checkpoint as the domain has it, with usable bitmaps but for the ``lost`` ones."""
    states = [BitmapState(name) for name in names] + [BitmapState(name, "the bitmap is gone") for name in lost]
    return DomainCheckpoint(checkpoint_of(day), tuple(states))


def make_repository(path: pathlib.Path) -> Repository:
    """Make a repository in a directory that does not exist yet."""
    ensure_repository(RepositoryRequest(str(path)), check=False)
    return open_repository(str(path))


def raw_disk(name: str = "vda", **changes: t.Any) -> dict[str, t.Any]:
    """Return a disk as ``virt_backup_info`` lists it."""
    disk = {
        "name": name,
        "bus": "virtio",
        "source": f"/img/{name}",
        "format": "qcow2",
        "serial": "",
        "virtual_size": SIZE,
        "backup": True,
        "checkpoint": True,
    }
    return {**disk, **changes}


def raw_checkpoint(name: str, *disks: str) -> dict[str, t.Any]:
    """Return a checkpoint as ``virt_backup_info`` lists it, all bitmaps usable."""
    return {"name": name, "disks": [{"name": disk, "usable": True, "reason": "", "dirty_bytes": 0} for disk in disks]}


def run(state: str, check: bool = False, **parameters: t.Any) -> Outcome:
    """Call what the module ``restore_point`` calls, with its defaults."""
    defaults = {name: option.get("default") for name, option in restore_point.SPEC.items()}
    return use_case({**defaults, "domain_uuid": UUID, **parameters, "state": state}, check=check)


@functools.cache
def _empty_image(backing_file: str, size: int) -> bytes:
    """Return an empty qcow2 image, as qemu-img makes it."""
    backing = ["-b", backing_file, "-F", "qcow2"] if backing_file else []
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", *backing, file.name, str(size)], check=True)
        return file.read()


def write_image(disk: dict[str, t.Any], checkpoint_name: str, **changes: t.Any) -> None:
    """Write what ``nbd_extract`` would: an (empty) image on its backing file, and the record beside it."""
    path, listed = disk["image"], changes.pop("listed", None)
    size = changes.pop("size", SIZE)
    with open(path, "wb") as stream:
        stream.write(_empty_image(disk["backing_file"], size))
    record = {
        "record_format": 1,
        "source_id": checkpoint_name,
        "export": disk["name"],
        "level": disk["level"],
        "format": "qcow2",
        "bitmap": "",
        "backing_file": disk["backing_file"],
        "backing_format": "qcow2" if disk["backing_file"] else "",
        "compression": "none",
        "size": size,
        "bytes_copied": 65536,
        "bytes_zeroed": 0,
        "bytes_stored": 65536,
        "file_bytes": os.path.getsize(path),
        "extents": 1,
        "seconds": 0.5,
        "digest": f"sha256:{disk['name']}",
        **changes,
    }
    if listed is not None:
        with open(path.removesuffix(".qcow2") + ".digests", "wb") as stream:
            stream.write(listed)
        record["digest"] = f"sha256:{hashlib.sha256(listed).hexdigest()}"
    with open(path.removesuffix(".qcow2") + ".json", "w", encoding="utf-8") as stream:
        json.dump(record, stream)


class Run:
    """One backup run of a domain through the use cases."""

    def __init__(self, repository: str, *disks: dict[str, t.Any], **parameters: t.Any) -> None:
        self.repository = repository
        outcome = run(
            "staged",
            repository=repository,
            domain_name="web",
            disks=list(disks or [raw_disk()]),
            **{"run": "a test", **parameters},
        )
        self.plan = outcome.result

    def extract(self) -> Run:
        """Write all images."""
        for disk in self.plan["disks"]:
            write_image(disk, self.plan["checkpoint"])
        return self

    def present(self, check: bool = False, **changes: t.Any) -> Outcome:
        """Publish."""
        parameters = {
            "repository": self.repository,
            "id": self.plan["id"],
            "token": self.plan["token"],
            "disks": self.plan["disks"],
            "images": [{"dest": d["image"], "digest": f"sha256:{d['name']}"} for d in self.plan["disks"]],
            "files": [{"name": "checkpoint.xml", "content": "<domaincheckpoint/>"}],
            "versions": {"libvirt": "9.0.0"},
            **changes,
        }
        return run("present", check, **parameters)

    def absent(self, check: bool = False, **changes: t.Any) -> Outcome:
        """Give up."""
        own = {"repository": self.repository, "id": self.plan["id"], "token": self.plan["token"], "staging": True}
        return run("absent", check, **{**own, **changes})


def backup(repository: str, *disks: dict[str, t.Any], **parameters: t.Any) -> dict[str, t.Any]:
    """Make a whole restore point and return the result of its publication."""
    return Run(repository, *disks, **parameters).extract().present().result


def tree(path: pathlib.Path) -> dict[str, t.Any]:
    """Return everything below a directory but the guard: names, kinds and contents."""
    found: dict[str, t.Any] = {}
    for item in sorted(path.rglob("*")):
        name = str(item.relative_to(path))
        if item.is_symlink():
            found[name] = os.readlink(item)
        elif item.is_dir():
            found[name] = None
        elif item.name != "lock.guard":
            found[name] = item.read_bytes()
    return found
