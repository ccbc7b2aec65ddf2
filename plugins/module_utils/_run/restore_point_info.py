# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a repository holds: restore points with chains and problems, the lock, runs in progress, strange things."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.chain import chain_of, newest_with, problems_of
from ansible_collections.virt.backup.plugins.module_utils._decide.choose_point import LATEST, choose_point
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import utc_now, world
from ansible_collections.virt.backup.plugins.module_utils._store import drilled as drilled_file
from ansible_collections.virt.backup.plugins.module_utils._store import lock
from ansible_collections.virt.backup.plugins.module_utils._store import manifest as manifest_file
from ansible_collections.virt.backup.plugins.module_utils._store import verified as verified_file
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog
from ansible_collections.virt.backup.plugins.module_utils._store.fields import parse_moment, show_moment
from ansible_collections.virt.backup.plugins.module_utils._store.files import chunks_of, regular_size
from ansible_collections.virt.backup.plugins.module_utils._store.layout import checked_id, checked_path, checked_uuid
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import domain_uuids, open_repository

if t.TYPE_CHECKING:
    import datetime

    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths
    from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository

_CHECKPOINT_FILE = "checkpoint.xml"


@dataclasses.dataclass(frozen=True)
class InfoRequest:
    """Which domain to look at, by UUID or by the name its newest restore point has; neither lists the domains.

    ``id`` or ``before`` ask which restore point would be taken, as wherever one is chosen.
    """

    repository: str
    domain_uuid: str = ""
    domain_name: str = ""
    id: str = ""
    before: str = ""


def look(request: InfoRequest) -> Outcome:
    """Return all there is to know. Changes nothing, also where something needs repair."""
    before = checked_before(request.before)
    if request.id not in ("", LATEST):
        checked_id("id", request.id)
    wanted = checked_uuid("domain_uuid", request.domain_uuid) if request.domain_uuid else ""
    repository = open_repository(checked_path("repository", request.repository))
    result: dict[str, t.Any] = {
        "repository": {"path": repository.path, "id": repository.id, "format": repository.format}
    }
    with world(f"repository {repository.path}"):
        if not request.domain_uuid and not request.domain_name:
            result["domains"] = [_brief(repository, uuid) for uuid in domain_uuids(repository)]
            return Outcome(False, result)
        uuid = wanted or uuid_of(repository, request.domain_name)
        catalog = read_catalog(repository, uuid)
        result.update(domain_uuid=uuid, **_domain(repository.domain(uuid), catalog))
        if request.id or before:
            result["chosen"] = _point(catalog, choose_point(catalog, request.id, before))
    return Outcome(False, result)


def checked_before(text: str) -> datetime.datetime | None:
    """Return the moment that the parameter ``before`` names, ``None`` when it is empty."""
    before = parse_moment(text) if text else None
    if text and before is None:
        remedy = "write it like 2026-11-23T02:15:00Z; without an offset it is UTC"
        raise InputError("before", text, "is no time in ISO 8601", remedy)
    return before


def _brief(repository: Repository, uuid: str) -> dict[str, t.Any]:
    catalog = read_catalog(repository, uuid)
    latest = catalog.points[-1] if catalog.points else None
    return {
        "uuid": uuid,
        "name": latest.manifest.domain_name if latest else "",
        "restore_points": len(catalog.points),
        "latest": latest.id if latest else "",
    }


def uuid_of(repository: Repository, name: str) -> str:
    """Return the UUID of the only domain whose newest restore point has that name, or raise :class:`InputError`."""
    found = [
        entry["uuid"]
        for entry in (_brief(repository, uuid) for uuid in domain_uuids(repository))
        if entry["name"] == name
    ]
    if not found:
        raise InputError(
            "domain_name", name, "has no restore point in this repository", "check the name, or give domain_uuid"
        )
    if len(found) > 1:
        raise InputError(
            "domain_name", name, f"is the name of several domains ({', '.join(found)})", "give domain_uuid"
        )
    return str(found[0])


def _domain(paths: DomainPaths, catalog: Catalog) -> dict[str, t.Any]:
    points = [_point(catalog, point) for point in catalog.points]
    held, lock_problem = _lock(paths)
    problems = [entry.problem for entry in catalog.unreadable] + [
        entry.problem for entry in catalog.stagings if entry.problem
    ]
    problems += [f"{path} is left of an interrupted removal; the next run removes it." for path in catalog.unfinished]
    problems += [f"{path} is nothing that belongs here; it is left alone." for path in catalog.strangers]
    return {
        "restore_points": points,
        "latest": points[-1] if points else None,
        "bases": _bases(catalog),
        "lock": held,
        "stagings": _stagings(catalog, held),
        "problems": problems + ([lock_problem] if lock_problem else []),
    }


def _point(catalog: Catalog, point: Point) -> dict[str, t.Any]:
    problems = problems_of(catalog, point) + _file_problems(point)
    record = verified_file.read_verified(point.path)
    drill = drilled_file.read_drilled(point.path)
    return {
        **manifest_file.to_json(point.manifest),
        "path": point.path,
        "chain": {disk.name: list(chain_of(catalog, point.id, disk.name).ids) for disk in point.manifest.disks},
        "complete": not problems,
        "distrusted": dict(point.distrusted),
        "verified": verified_file.to_json(record) if record else None,
        "drilled": drilled_file.to_json(drill) if drill else None,
        "problems": problems,
    }


def _file_problems(point: Point) -> list[str]:
    """Compare the small files' lengths with the manifest; like the images, they are not read for that."""
    found = []
    for file in point.manifest.files:
        path = os.path.join(point.path, file.name)
        size = regular_size(path)
        if size is None:
            found.append(f"{path} is missing")
        elif size != file.size:
            found.append(f"{path} has {size} bytes where the manifest says {file.size}")
    return found


def _bases(catalog: Catalog) -> list[dict[str, str]]:
    """Return for each disk its newest image's checkpoint, with the XML that redefines it where libvirt forgot it."""
    names = sorted({disk.name for point in catalog.points for disk in point.manifest.disks})
    found = []
    for name in names:
        newest = newest_with(catalog.points, name)
        if newest is None or not newest[1].bitmap:
            continue
        point = newest[0]
        found.append(
            {
                "disk": name,
                "id": point.id,
                "checkpoint": point.manifest.checkpoint,
                "checkpoint_xml": checkpoint_xml(point),
            }
        )
    return found


def checkpoint_xml(point: Point) -> str:
    """Return the stored definition of a restore point's checkpoint, empty when there is none."""
    path = os.path.join(point.path, _CHECKPOINT_FILE)
    if not point.manifest.has_file(_CHECKPOINT_FILE) or regular_size(path) is None:
        return ""
    return b"".join(chunks_of(path)).decode("utf-8", "replace")


def _lock(paths: DomainPaths) -> tuple[dict[str, t.Any] | None, str]:
    try:
        record = lock.read_lock(paths)
    except StateError as error:
        return None, error.message
    if record is None:
        return None, ""
    now = utc_now()
    shown = {
        "run": record.run,
        "id": record.id,
        "checkpoint": record.checkpoint,
        "socket": record.socket,
        "status_file": record.status_file,
        "lease_until": show_moment(lock.lease_end(record, now)),
        "expired": lock.is_over(paths, record, now),
    }
    return shown, ""


def _stagings(catalog: Catalog, held: dict[str, t.Any] | None) -> list[dict[str, t.Any]]:
    alive = held["id"] if held and not held["expired"] else ""
    return [
        {
            "id": entry.id,
            "path": entry.path,
            "run": entry.staging.run if entry.staging else "",
            "checkpoint": entry.staging.checkpoint if entry.staging else "",
            "socket": entry.staging.socket if entry.staging else "",
            "created": show_moment(entry.staging.created) if entry.staging else "",
            "alive": entry.id == alive,
        }
        for entry in catalog.stagings
    ]
