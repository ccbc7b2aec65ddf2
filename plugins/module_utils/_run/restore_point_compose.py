# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a run says it made, checked against its plan and its files, as the manifest that tells it."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import (
    Consistency,
    DiskIdentity,
    Manifest,
    ManifestDisk,
    SkippedDisk,
)
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_content import content_of
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import FileRequest, utc_now
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_input import text, unique
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_verify import (
    check_base,
    check_digests,
    check_image,
    check_strays,
    read_record,
)
from ansible_collections.virt.backup.plugins.module_utils._store.layout import checked_disk_name

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog
    from ansible_collections.virt.backup.plugins.module_utils._model.staging import PlannedDisk, Staging
    from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_input import Raw
    from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository


@dataclasses.dataclass(frozen=True)
class DiskClaim:
    """What the run says a disk's image came to be."""

    name: str
    level: Level
    reason: str
    incremental: str


@dataclasses.dataclass(frozen=True)
class PresentRequest:
    """What is to be published. ``digests`` are those that the extraction returned, per image file name."""

    repository: str
    domain_uuid: str
    id: str
    token: str
    disks: tuple[DiskClaim, ...]
    digests: tuple[tuple[str, str], ...] = ()
    skipped: tuple[SkippedDisk, ...] = ()
    files: tuple[FileRequest, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    consistency: Consistency = dataclasses.field(default_factory=Consistency)


def disk_claims(items: Sequence[Raw]) -> tuple[DiskClaim, ...]:
    """Return what came to be of the disks, from the merged results of ``restore_point`` and ``virt_backup``."""
    claims = []
    for item in items:
        name = checked_disk_name("disks", text(item, "name", "disks"))
        value = text(item, "level", "disks")
        if value not in [level.value for level in Level]:
            raise InputError("disks", value, f"is no level (disk {name})", "use full or incremental")
        level, incremental = Level(value), text(item, "incremental", "disks", "")
        if (level is Level.INCREMENTAL) != bool(incremental):
            problem = f"contradicts the checkpoint {incremental!r} under incremental (disk {name})"
            raise InputError("disks", value, problem, "an increment names its checkpoint, a full image none")
        claims.append(DiskClaim(name, level, text(item, "reason", "disks", ""), incremental))
    unique([claim.name for claim in claims], "disks")
    return tuple(claims)


def image_digests(items: Sequence[Raw]) -> tuple[tuple[str, str], ...]:
    """Return file name and digest of each image, from ``nbd_extract.images``."""
    names = [os.path.basename(text(item, "dest", "images")) for item in items]
    unique(names, "images")
    return tuple((name, text(item, "digest", "images", "")) for name, item in zip(names, items))


def compose(
    repository: Repository, request: PresentRequest, catalog: Catalog, staging: Staging, directory: str
) -> Manifest:
    """Verify everything in ``directory`` and return the manifest that says so."""
    plans = _as_it_came_to_be(request, staging)
    disks = tuple(_manifest_disk(request, catalog, staging, plan, directory) for plan in plans)
    skipped = _skipped(request, staging)
    known = [name for disk in disks for name in disk.file_names]
    for file in request.files:
        if file.name in known:
            raise InputError(
                "files", file.name, "is the name of an image's record or digests", "choose another file name"
            )
    files = tuple(file.stored(directory) for file in request.files)
    check_strays(directory, [*known, *(file.name for file in files)])
    return Manifest(
        repository=repository.id,
        domain_uuid=staging.domain_uuid,
        domain_name=staging.domain_name,
        id=staging.id,
        checkpoint=staging.checkpoint,
        created=staging.created,
        published=utc_now(),
        run=staging.run,
        disks=disks,
        skipped=skipped,
        files=files,
        versions=request.versions,
        consistency=request.consistency,
    )


def _as_it_came_to_be(request: PresentRequest, staging: Staging) -> list[PlannedDisk]:
    """Return the plan with the levels that the job had. An increment may have become a full one, never the reverse."""
    found = []
    for claim in request.disks:
        plan = staging.disk(claim.name)
        if plan is None:
            raise InputError("disks", claim.name, "is not what this run was staged with", "begin a run that has it")
        reason = claim.reason or plan.reason
        if claim.level is Level.FULL:
            plan = dataclasses.replace(plan, level=Level.FULL, base="", incremental="")
        elif claim.incremental != plan.incremental:
            wanted = plan.incremental or "none: it is planned as full"
            problem = f"is not the checkpoint planned for disk {claim.name} ({wanted})"
            raise InputError("disks", claim.incremental, problem, "an increment starts where its base ends")
        found.append(dataclasses.replace(plan, reason=reason))
    missing = [plan.name for plan in staging.disks if plan.name not in [disk.name for disk in found]]
    missing = [name for name in missing if name not in [disk.name for disk in request.skipped]]
    if missing:
        raise InputError("disks", missing[0], "was staged but is missing here", "list it under disks or skipped")
    if not found:
        raise InputError("disks", [], "is empty", "list at least one disk with its image")
    return found


def _skipped(request: PresentRequest, staging: Staging) -> tuple[SkippedDisk, ...]:
    """Return the disks that took no part: those of the plan, and those that dropped out since, with what we know."""
    taking_part = [claim.name for claim in request.disks]
    told = {disk.name: disk for disk in request.skipped}
    for disk in staging.skipped:
        told.setdefault(disk.name, disk)
    found = []
    for name, disk in told.items():
        plan = staging.disk(name)
        if name in taking_part:
            raise InputError("skipped", name, "is among the disks as well", "list each disk in one of the two")
        known = disk.identity or (plan.identity if plan else None)
        found.append(dataclasses.replace(disk, identity=known))
    return tuple(found)


def _manifest_disk(
    request: PresentRequest, catalog: Catalog, staging: Staging, plan: PlannedDisk, directory: str
) -> ManifestDisk:
    record = read_record(directory, plan)
    size = check_image(directory, staging, plan, record)
    bottom = check_base(catalog, plan) or staging.id
    told = dict(request.digests)
    if told and plan.image not in told:
        raise InputError("images", sorted(told), f"does not have {plan.image}", "pass on what nbd_extract returned")
    if told.get(plan.image) not in (None, "", record.digest):
        raise StateError(f"images: {plan.image} has the digest {record.digest!r}, not {told[plan.image]!r} as given.")
    disk = ManifestDisk(
        name=plan.name,
        level=plan.level,
        reason=plan.reason,
        identity=_identity(plan, record.size),
        chain=bottom,
        image=plan.image,
        record=plan.record,
        parent=plan.base,
        incremental=plan.incremental,
        bitmap=plan.bitmap,
        stored_size=size,
        bytes_copied=record.bytes_copied,
        digest=record.digest,
        digests=check_digests(directory, plan, record),
        encryption=record.encryption,
    )
    content, reason = content_of(catalog, disk, directory)
    return dataclasses.replace(disk, content=content, content_reason=reason)


def _identity(plan: PlannedDisk, size: int) -> DiskIdentity:
    """Return the disk's identity with the size that was really read.

    QEMU rounds a size up to 512 bytes. A disk that was resized between the plan and the job can't be an increment of
    its smaller self here; as a full image it simply has its new size.
    """
    planned = plan.identity.virtual_size
    if size == (planned + 511) // 512 * 512:
        return plan.identity
    if plan.level is Level.INCREMENTAL:
        raise StateError(f"disks: {plan.name} was resized from {planned} to {size} bytes during the run; run again.")
    return dataclasses.replace(plan.identity, virtual_size=size)
