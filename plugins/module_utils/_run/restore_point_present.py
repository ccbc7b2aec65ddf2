# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Publish a run: verify what is in the staging, write the manifest, the one rename, give the lock back."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.chain import PresentDisk, superseded
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import (
    Consistency,
    DiskIdentity,
    Manifest,
    ManifestDisk,
    SkippedDisk,
)
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import FileRequest, world
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_input import text, unique
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_staged import utc_now
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_verify import (
    check_base,
    check_image,
    check_strays,
    read_record,
    remnants,
)
from ansible_collections.virt.backup.plugins.module_utils._store import lock
from ansible_collections.virt.backup.plugins.module_utils._store import manifest as manifest_file
from ansible_collections.virt.backup.plugins.module_utils._store.by_name import ensure_link
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog, refuse_newer
from ansible_collections.virt.backup.plugins.module_utils._store.files import dump_json
from ansible_collections.virt.backup.plugins.module_utils._store.layout import (
    MANIFEST,
    STAGING_FILE,
    checked_disk_name,
    checked_id,
    checked_path,
    checked_uuid,
)
from ansible_collections.virt.backup.plugins.module_utils._store.publish import add_files, commit, settle
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository
from ansible_collections.virt.backup.plugins.module_utils._store.staging_file import read_staging

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point
    from ansible_collections.virt.backup.plugins.module_utils._model.staging import PlannedDisk, Staging
    from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_input import Raw
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths
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


def publish(request: PresentRequest, *, check: bool) -> Outcome:
    """Make the staged restore point a published one, or confirm that it is, with the same content."""
    repository = open_repository(checked_path("repository", request.repository))
    request = dataclasses.replace(request, domain_uuid=checked_uuid("domain_uuid", request.domain_uuid))
    checked_id("id", request.id)
    paths = repository.domain(request.domain_uuid)
    catalog = read_catalog(repository, request.domain_uuid)
    refuse_newer(catalog)
    with world(f"restore point {request.id}"):
        point = catalog.point(request.id)
        if point is not None:
            return _confirm(repository, paths, request, catalog, point, check=check)
        found = catalog.staging(request.id)
        if found is None or found.staging is None:
            problem = found.problem if found else "has no staging directory in this repository"
            raise InputError("id", request.id, problem, "begin with state staged")
        _check_token(paths, request)
        manifest = compose(repository, request, catalog, found.staging, found.path)
        if not check:
            _write(paths, request, manifest, found.path)
        return _report(paths, catalog, found.staging, manifest, _link(repository, manifest, check=check))


def _check_token(paths: DomainPaths, request: PresentRequest) -> None:
    with lock.guard(paths):
        record = lock.check_token(paths, request.token)
    if record.id != request.id:
        raise InputError(
            "id", request.id, f"is not what the token's lock is for ({record.id})", "give both as returned"
        )


def compose(
    repository: Repository, request: PresentRequest, catalog: Catalog, staging: Staging, directory: str
) -> Manifest:
    """Verify everything in ``directory`` and return the manifest that says so."""
    plans = _as_it_came_to_be(request, staging)
    disks = tuple(_manifest_disk(request, catalog, staging, plan, directory) for plan in plans)
    skipped = _skipped(request, staging)
    known = [name for disk in disks for name in (disk.image, disk.record)]
    for file in request.files:
        if file.name in known:
            raise InputError("files", file.name, "is the name of an image's record", "choose another file name")
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
    return ManifestDisk(
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
    )


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


def _write(paths: DomainPaths, request: PresentRequest, manifest: Manifest, directory: str) -> None:
    """Everything durable first, the manifest last, then the rename. An error before it leaves the staging as it was."""
    content = dump_json(manifest_file.to_json(manifest))
    files = [(file.name, file.chunks(directory)) for file in request.files if file.content is not None or file.src]
    handed = [file.name for file in request.files if file.content is None and not file.src]
    images = [name for disk in manifest.disks for name in (disk.image, disk.record)]
    for name in remnants(directory):
        os.unlink(os.path.join(directory, name))
    settle(directory, [*images, *handed, STAGING_FILE])
    written = add_files(directory, [*files, (MANIFEST, [content])])
    try:
        commit(paths, request.id, request.token, utc_now())
    except BaseException:
        for path in written:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        raise
    lock.release(paths, request.token)


def _link(repository: Repository, manifest: Manifest, *, check: bool) -> tuple[str, ...]:
    if check:
        return ()
    try:
        ensure_link(repository.path, manifest.domain_name, manifest.domain_uuid)
    except OSError as error:
        return (f"the link to the domain under by-name could not be made: {error.strerror}",)
    return ()


def _confirm(
    repository: Repository, paths: DomainPaths, request: PresentRequest, catalog: Catalog, point: Point, *, check: bool
) -> Outcome:
    """It is published: with the same content nothing is left to do but to give back a lock that a killed run kept."""
    staging = read_staging(point.path)
    if staging.token != request.token:
        raise StateError(f"token: restore point {request.id} was published by another run; nothing was changed.")
    wanted = manifest_file.to_json(compose(repository, request, catalog, staging, point.path))
    found = manifest_file.to_json(point.manifest)
    different = [key for key in wanted if key != "published" and wanted[key] != found[key]]
    if different:
        raise StateError(
            f"restore point {request.id} is published with another content ({', '.join(different)} differ)."
        )
    if not check:
        lock.release(paths, request.token)
    outcome = _report(paths, catalog, staging, point.manifest, ())
    return dataclasses.replace(outcome, changed=False, before=None, after=None)


def _report(
    paths: DomainPaths,
    catalog: Catalog,
    staging: Staging,
    manifest: Manifest,
    warnings: tuple[str, ...],
) -> Outcome:
    manifests = [point.manifest for point in catalog.points if point.id < manifest.id] + [manifest]
    disks = [PresentDisk(disk.name, disk.identity) for disk in manifest.disks]
    disks += [PresentDisk(disk.name, disk.identity) for disk in manifest.skipped]
    shown = manifest_file.to_json(manifest)
    result = {
        "id": manifest.id,
        "path": paths.point(manifest.id),
        "restore_point": shown,
        "superseded": superseded(manifests, disks, staging.known_checkpoints),
    }
    return Outcome(True, result, {"restore_point": None}, {"restore_point": shown}, warnings)
