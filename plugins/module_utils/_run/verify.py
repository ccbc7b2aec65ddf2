# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Verify published restore points: what is stored, what it builds on and, if asked, what comes out of it.

Nothing here takes the lock: what is published never changes. It may go away meanwhile, and is then gone, not damaged.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.duration import seconds_of
from ansible_collections.virt.backup.plugins.module_utils._decide.verification import is_fresh, lineage, needed
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._model.verification import (
    Depth,
    DiskContent,
    FileDamage,
    Verification,
)
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import read_encryption
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import utc_now, world
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import uuid_of
from ansible_collections.virt.backup.plugins.module_utils._run.verify_content import verify_content
from ansible_collections.virt.backup.plugins.module_utils._run.verify_files import verify_files
from ansible_collections.virt.backup.plugins.module_utils._run.verify_report import report
from ansible_collections.virt.backup.plugins.module_utils._store import lock
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog
from ansible_collections.virt.backup.plugins.module_utils._store.damage import replace_damage
from ansible_collections.virt.backup.plugins.module_utils._store.files import is_directory
from ansible_collections.virt.backup.plugins.module_utils._store.layout import checked_id, checked_path, checked_uuid
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository
from ansible_collections.virt.backup.plugins.module_utils._store.verified import read_verified, write_verified

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
    from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths

LATEST = "latest"


@dataclasses.dataclass(frozen=True)
class VerifyRequest:
    """What to verify. ``id`` is empty for all restore points of the domain; a ``max_age`` of 0 is never."""

    repository: str
    domain_uuid: str = ""
    domain_name: str = ""
    id: str = ""
    content: bool = False
    max_age: str = "0"
    encryption: EncryptionRequest | None = None


@dataclasses.dataclass(frozen=True)
class _Job:
    """One call: what was there when it began, and how deep to look at each restore point that is due."""

    paths: DomainPaths
    catalog: Catalog
    encryption: Encryption | None
    due: t.Mapping[str, Depth]


def verify(request: VerifyRequest, *, check: bool) -> Outcome:
    """Verify what is due, record it, and fail when anything that was asked about is damaged.

    :raises InputError: there is no such restore point.
    :raises StateError: something is damaged, or could not be verified; everything was recorded before.
    """
    encryption = read_encryption(request.encryption)
    if request.id not in ("", LATEST):
        checked_id("id", request.id)
    wanted_uuid = checked_uuid("domain_uuid", request.domain_uuid) if request.domain_uuid else ""
    max_age = seconds_of("max_age", request.max_age)
    repository = open_repository(checked_path("repository", request.repository))
    with world(f"repository {repository.path}"):
        uuid = wanted_uuid or uuid_of(repository, request.domain_name)
        catalog = read_catalog(repository, uuid)
        wanted = _wanted(catalog, request)
        due = _due(catalog, wanted, request, max_age)
        if check:
            return Outcome(bool(due), {"domain_uuid": uuid, "verified": sorted(due)})
        job = _Job(repository.domain(uuid), catalog, encryption, due)
        found = _verify_all(job)
        now = read_catalog(repository, uuid)
        return report(uuid, catalog, now, wanted, {**_known(catalog), **found}, sorted(due))


def _wanted(catalog: Catalog, request: VerifyRequest) -> list[str]:
    everything = sorted([point.id for point in catalog.points] + [entry.id for entry in catalog.unreadable])
    if not everything:
        domain = request.domain_uuid or request.domain_name
        name = "domain_uuid" if request.domain_uuid else "domain_name"
        raise InputError(name, domain, "has no restore point in this repository", "check both, or back it up first")
    if not request.id:
        return everything
    identifier = everything[-1] if request.id == LATEST else request.id
    if identifier not in everything:
        raise InputError("id", identifier, "is no restore point of this domain", "restore_point_info lists them")
    return [identifier]


def _due(catalog: Catalog, wanted: list[str], request: VerifyRequest, max_age: int) -> dict[str, Depth]:
    """Return how deep to look at what has not been looked at so lately; what an image builds on belongs to it."""
    now, due = utc_now(), {}
    for identifier in needed(catalog, wanted):
        point = _point(catalog, identifier)
        depth = Depth.CONTENT if request.content and identifier in wanted else Depth.FILES
        record = read_verified(point.path)
        secret = request.encryption is not None
        if point.faults or not is_fresh(record, depth, max_age, now, secret=secret):
            due[identifier] = depth
    unreadable = {entry.id for entry in catalog.unreadable}
    return {**due, **{identifier: Depth.FILES for identifier in wanted if identifier in unreadable}}


def _point(catalog: Catalog, identifier: str) -> Point:
    point = catalog.point(identifier)
    if point is None:
        raise AssertionError("Contract violation: only restore points that were found are verified")
    return point


def _known(catalog: Catalog) -> dict[str, Verification]:
    found = {point.id: read_verified(point.path) for point in catalog.points}
    return {identifier: record for identifier, record in found.items() if record}


def _verify_all(job: _Job) -> dict[str, Verification]:
    """Look at each restore point by itself, parents first, then at the chains that nothing was found wrong with."""
    records: dict[str, Verification] = {}
    for identifier in sorted(job.due):
        point = job.catalog.point(identifier)
        if point is not None:
            _verify_point(job, point, records)
    for identifier in sorted(job.due):
        if identifier in records and job.due[identifier] is Depth.CONTENT:
            _verify_chains(job, _point(job.catalog, identifier), records)
    return records


def _verify_point(job: _Job, point: Point, records: dict[str, Verification]) -> None:
    before = read_verified(point.path)
    try:
        found = verify_files(point, job.encryption)
    except FileNotFoundError:
        if is_directory(point.path):
            raise
        return
    named = {entry.disk for entry in found.damage}
    deeper = [entry for entry in before.damage if entry.depth is Depth.CONTENT] if before else []
    kept = [entry for entry in deeper if entry.disk not in named]
    damage = (*found.damage, *kept)
    record = Verification(utc_now(), Depth.FILES, damage, (), tuple(found.errors), tuple(found.notes))
    _record(job, point, record, records)


def _verify_chains(job: _Job, point: Point, records: dict[str, Verification]) -> None:
    """Compare each disk's content, and take back what an earlier comparison said of its image and this one doesn't."""
    content: list[DiskContent] = []
    errors: list[str] = []
    notes: list[str] = []
    for disk in point.manifest.disks:
        if not _readable(job, point, disk.name, records):
            content.append(DiskContent(disk.name, verified=False, reason="its chain is damaged"))
            continue
        found = verify_content(job.catalog, point, disk, job.encryption)
        content.append(found.content)
        errors += found.errors
        notes += found.notes
        if found.content.verified:
            _forget(job, point, disk.name, records)
        for identifier, damage in found.damage:
            _blame(job, _point(job.catalog, identifier), damage, records)
    before = records.get(point.id)
    if before is not None:
        depth = Depth.FILES if any(entry.reason == "its chain is damaged" for entry in content) else Depth.CONTENT
        record = dataclasses.replace(
            before,
            depth=depth,
            content=tuple(content),
            errors=(*before.errors, *errors),
            notes=(*before.notes, *notes),
        )
        _record(job, point, record, records)


def _readable(job: _Job, point: Point, disk: str, records: dict[str, Verification]) -> bool:
    """Whether all images of the chain are there, each of them good by itself."""
    for identifier in lineage(job.catalog, point.id, disk):
        below = job.catalog.point(identifier)
        record = records.get(identifier) or (read_verified(below.path) if below else None)
        if below is None or record is None or below.manifest.disk(disk) is None:
            return False
        if any(entry.disk == disk and entry.depth is Depth.FILES for entry in record.damage):
            return False
    return True


def _forget(job: _Job, point: Point, disk: str, records: dict[str, Verification]) -> None:
    record = records[point.id]
    damage = tuple(entry for entry in record.damage if entry.disk != disk or entry.depth is Depth.FILES)
    if damage != record.damage:
        _record(job, point, dataclasses.replace(record, damage=damage), records)


def _blame(job: _Job, point: Point, damage: FileDamage, records: dict[str, Verification]) -> None:
    record = records.get(point.id) or read_verified(point.path)
    if record is not None:
        others = tuple(entry for entry in record.damage if entry.disk != damage.disk)
        _record(job, point, dataclasses.replace(record, damage=(*others, damage)), records)


def _record(job: _Job, point: Point, record: Verification, records: dict[str, Verification]) -> None:
    """Store the record, and mark the disks that are no base any more; a restore point that is gone has no record.

    A mark is only taken back when the record beside it knows it. So the record comes before a mark and goes after it,
    and a kill at any moment leaves nothing that the next verification can't set right.
    """
    try:
        with lock.guard(job.paths):
            before = read_verified(point.path)
            known = before.damage if before else ()
            either = (*record.damage, *(entry for entry in known if entry not in record.damage))
            write_verified(point.path, dataclasses.replace(record, damage=either))
            replace_damage(point.path, [(entry.disk, entry.problem) for entry in known], record.disk_damage())
            if either != record.damage:
                write_verified(point.path, record)
    except FileNotFoundError:
        if is_directory(point.path):
            raise
        records.pop(point.id, None)
        return
    records[point.id] = record
