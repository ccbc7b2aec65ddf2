# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Begin a run: is a backup due, where does each disk start, the lock, the staging directory, what dead runs left."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import secrets
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.base import decide_bases
from ansible_collections.virt.backup.plugins.module_utils._decide.chain import chain_of, orphans
from ansible_collections.virt.backup.plugins.module_utils._decide.freshness import freshness
from ansible_collections.virt.backup.plugins.module_utils._decide.names import check_printable
from ansible_collections.virt.backup.plugins.module_utils._model.base_plan import DomainCheckpoint, DomainDisk, Policy
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import SkippedDisk
from ansible_collections.virt.backup.plugins.module_utils._model.staging import LockRecord, PlannedDisk, Staging
from ansible_collections.virt.backup.plugins.module_utils._run import restore_point_distrust as distrust
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import read_encryption
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import utc_now, world
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_secret import check_secret
from ansible_collections.virt.backup.plugins.module_utils._store import lock, trash
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog, refuse_newer
from ansible_collections.virt.backup.plugins.module_utils._store.fields import show_moment
from ansible_collections.virt.backup.plugins.module_utils._store.layout import (
    STATUS_FILE,
    checked_id,
    checked_path,
    checked_uuid,
    checkpoint_name,
    new_id,
)
from ansible_collections.virt.backup.plugins.module_utils._store.publish import make_domain, make_staging
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._decide.base import DiskBase
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog
    from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths
    from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository


@dataclasses.dataclass(frozen=True)
class StagedRequest:
    """What a run sets out to do. ``id`` and ``token`` are given to confirm a staging that was made before.

    ``mismatches`` are what that run found meanwhile: (path of an image in the staging, what is wrong with its base).

    ``lease`` and ``max_age`` are in seconds; a ``max_age`` of 0 means that a backup is always due.
    """

    repository: str
    domain_uuid: str
    domain_name: str
    disks: tuple[DomainDisk, ...]
    skipped: tuple[SkippedDisk, ...] = ()
    checkpoints: tuple[DomainCheckpoint, ...] = ()
    policy: Policy = dataclasses.field(default_factory=Policy)
    max_age: int = 0
    lease: int = 3600
    run: str = ""
    socket: str = ""
    status_file: str = ""
    id: str = ""
    token: str = ""
    encryption: EncryptionRequest | None = None
    mismatches: tuple[tuple[str, str], ...] = ()


def stage(request: StagedRequest, *, check: bool) -> Outcome:
    """Observe, decide, take the lock, decide again (another run may just have published), make the staging."""
    request = _checked(request)
    encryption = read_encryption(request.encryption)
    repository = open_repository(request.repository)
    paths = repository.domain(request.domain_uuid)
    with world(f"the domain's directory {paths.root}"):
        if request.id:
            return _confirm(repository, paths, request, check=check)
        catalog, plan = _observe(repository, request)
        if plan is not None:
            lock.require_free(paths, utc_now())
            check_secret(catalog, plan.bases, encryption)
        if plan is None or check:
            return _report(repository, paths, request, catalog, plan, None)
        return _begin(repository, paths, request)


def _checked(request: StagedRequest) -> StagedRequest:
    if bool(request.id) != bool(request.token):
        given, missing = ("id", "token") if request.id else ("token", "id")
        raise InputError(given, getattr(request, given), f"is given without {missing}", "give both, or neither")
    if request.id:
        checked_id("id", request.id)
    if request.mismatches and not request.id:
        raise InputError(
            "mismatches", list(request.mismatches), "is given without id and token", "say which run found them"
        )
    if not request.disks and not request.id:
        raise InputError("disks", [], "is empty", "list at least one disk that can be backed up")
    if not 1 <= request.lease <= lock.LONGEST_LEASE:
        raise InputError("lease", request.lease, "is not between a second and 30 days", "3600 suits most")
    for name in ("socket", "status_file"):
        if getattr(request, name):
            checked_path(name, getattr(request, name))
    for name in ("run", "domain_name"):
        check_printable(name, getattr(request, name))
    path, uuid = checked_path("repository", request.repository), checked_uuid("domain_uuid", request.domain_uuid)
    return dataclasses.replace(request, repository=path, domain_uuid=uuid)


@dataclasses.dataclass(frozen=True)
class _Plan:
    id: str
    bases: tuple[DiskBase, ...]
    reason: str


def _observe(repository: Repository, request: StagedRequest) -> tuple[Catalog, _Plan | None]:
    catalog = read_catalog(repository, request.domain_uuid)
    refuse_newer(catalog)
    now = utc_now()
    fresh = freshness(request.disks, catalog, request.max_age, now)
    if not fresh.due and not request.policy.full:
        return catalog, None
    bases = decide_bases(request.disks, catalog, request.checkpoints, request.policy, now)
    reason = fresh.reason if fresh.due else "a full backup was asked for"
    return catalog, _Plan(new_id(now, catalog.newest_id), tuple(bases), reason)


def _begin(repository: Repository, paths: DomainPaths, request: StagedRequest) -> Outcome:
    make_domain(paths)
    token = secrets.token_hex(16)
    catalog, plan = _observe(repository, request)
    if plan is None:
        return _report(repository, paths, request, catalog, None, None)
    name = checkpoint_name(repository.id, plan.id)
    until = utc_now() + datetime.timedelta(seconds=request.lease)
    record = LockRecord(
        token, request.run, plan.id, name, request.socket, _status(paths, request, plan.id), until, request.lease
    )
    lock.acquire(paths, record, utc_now())
    try:
        return _make(repository, paths, request, record)
    except BaseException:
        with contextlib.suppress(OSError, StateError):  # the first error is the one to tell
            lock.release(paths, token)
        raise


def _make(repository: Repository, paths: DomainPaths, request: StagedRequest, record: LockRecord) -> Outcome:
    """Decide again now that nobody else can publish; the id stays the lock's unless something newer appeared."""
    finished = trash.finish(paths)
    catalog, plan = _observe(repository, request)
    if plan is None:
        lock.release(paths, record.token)
        return _report(repository, paths, request, catalog, None, None)
    if catalog.newest_id >= record.id:
        raise StateError(f"another run made {catalog.newest_id} in this moment; nothing was changed, run again.")
    plan = dataclasses.replace(plan, id=record.id)
    staging = _staging(request, plan, record)
    make_staging(paths, staging)
    outcome = _report(repository, paths, request, catalog, plan, record)
    if finished:
        warning = f"finished an interrupted removal: {', '.join(finished)}"
        return dataclasses.replace(outcome, warnings=(warning, *outcome.warnings))
    return outcome


def _staging(request: StagedRequest, plan: _Plan, record: LockRecord) -> Staging:
    return Staging(
        id=plan.id,
        token=record.token,
        checkpoint=record.checkpoint,
        domain_uuid=request.domain_uuid,
        domain_name=request.domain_name,
        created=utc_now(),
        run=request.run,
        socket=request.socket,
        disks=tuple(_planned(base) for base in plan.bases),
        skipped=request.skipped,
        known_checkpoints=tuple(checkpoint.name for checkpoint in request.checkpoints),
    )


def _planned(base: DiskBase) -> PlannedDisk:
    disk = base.disk
    return PlannedDisk(
        name=disk.name,
        level=base.level,
        reason=base.verdict.sentence,
        identity=disk.identity,
        base=base.base,
        incremental=base.incremental,
        bitmap=not disk.bitmap_problem,
    )


def _status(paths: DomainPaths, request: StagedRequest, identifier: str) -> str:
    return request.status_file or f"{paths.staging(identifier)}/{STATUS_FILE}"


def disk_result(disk: PlannedDisk, directory: str, chain: list[str]) -> dict[str, t.Any]:
    """Return a planned disk as the role gets it."""
    return {
        "name": disk.name,
        "level": disk.level.value,
        "reason": disk.reason,
        "incremental": disk.incremental,
        "base": disk.base,
        "image": f"{directory}/{disk.image}",
        "backing_file": disk.backing_file,
        "chain": chain,
    }


def _report(
    repository: Repository,
    paths: DomainPaths,
    request: StagedRequest,
    catalog: Catalog,
    plan: _Plan | None,
    record: LockRecord | None,
) -> Outcome:
    before: dict[str, t.Any] = {"staging": None}
    latest = catalog.points[-1].id if catalog.points else ""
    result: dict[str, t.Any] = {"due": plan is not None, "latest": latest}
    if plan is None:
        result["reason"] = freshness(request.disks, catalog, request.max_age, utc_now()).reason
        return Outcome(False, result)
    planned = [_planned(base) for base in plan.bases]
    directory = paths.staging(plan.id)
    result.update(
        reason=plan.reason,
        id=plan.id,
        checkpoint=checkpoint_name(repository.id, plan.id),
        token=record.token if record else "",
        staging=directory,
        status_file=_status(paths, request, plan.id),
        lock=paths.lock,
        lease_until=show_moment(record.lease_until) if record else "",
        disks=[_with_chain(disk, directory, plan.id, catalog) for disk in planned],
        left_out=[{"name": disk.name, "reason": disk.reason} for disk in request.skipped],
        leftovers=leftovers(repository, catalog, paths, plan.id),
        orphans=_orphans(repository, catalog, [checkpoint.name for checkpoint in request.checkpoints]),
    )
    warnings = tuple(
        f"{name} looks like a checkpoint of this repository, which has no such restore point; it is left alone"
        for name in result["orphans"]
    )
    after = {"staging": {key: result[key] for key in ("id", "checkpoint", "disks", "left_out")}}
    return Outcome(True, result, before, after, warnings)


def _with_chain(disk: PlannedDisk, directory: str, identifier: str, catalog: Catalog) -> dict[str, t.Any]:
    below = list(chain_of(catalog, disk.base, disk.name).ids) if disk.base else []
    return disk_result(disk, directory, [*below, identifier])


def _orphans(repository: Repository, catalog: Catalog, on_domain: Sequence[str]) -> list[str]:
    return orphans(catalog, checkpoint_name(repository.id, ""), on_domain)


def leftovers(repository: Repository, catalog: Catalog, paths: DomainPaths, ours: str) -> list[dict[str, str]]:
    """Return the stagings of dead runs: all but ours and that of the run which holds the lock."""
    held = lock.read_lock(paths) if catalog.stagings else None
    alive = held.id if held and not lock.is_over(paths, held, utc_now()) else ""
    found = []
    for entry in catalog.stagings:
        if entry.id in (ours, alive):
            continue
        staging = entry.staging
        found.append(
            {
                "id": entry.id,
                "checkpoint": staging.checkpoint if staging else checkpoint_name(repository.id, entry.id),
                "socket": staging.socket if staging else "",
                "run": staging.run if staging else "",
                "staging": entry.path,
            }
        )
    return found


def _confirm(repository: Repository, paths: DomainPaths, request: StagedRequest, *, check: bool) -> Outcome:
    """The staging was made before: nothing changes but the lease, which begins anew, and what is known of the bases."""
    catalog = read_catalog(repository, request.domain_uuid)
    found = catalog.staging(request.id)
    if found is None or found.staging is None:
        problem = found.problem if found else "has no staging directory in this repository"
        raise InputError("id", request.id, problem, "leave id and token out to begin a run")
    with lock.guard(paths):
        record = lock.check_token(paths, request.token)
        if record.id != request.id:
            raise InputError(
                "id", request.id, f"is not what the token's lock is for ({record.id})", "give both as returned"
            )
        bases = distrust.distrusted_bases(found.staging, found.path, request.mismatches)
        new = distrust.unknown(paths, bases)
        if not check:
            distrust.record(paths, new)
            record = lock.renew(paths, request.token, utc_now())
    staging = found.staging
    result = {
        "due": True,
        "reason": "this run has begun already",
        "latest": catalog.points[-1].id if catalog.points else "",
        "id": staging.id,
        "checkpoint": staging.checkpoint,
        "token": request.token,
        "staging": found.path,
        "status_file": record.status_file,
        "lock": paths.lock,
        "lease_until": show_moment(record.lease_until),
        "disks": [_with_chain(disk, found.path, staging.id, catalog) for disk in staging.disks],
        "left_out": [{"name": disk.name, "reason": disk.reason} for disk in staging.skipped],
        "leftovers": leftovers(repository, catalog, paths, staging.id),
        "orphans": _orphans(repository, catalog, staging.known_checkpoints),
        "distrusted": bases,
    }
    if not new:
        return Outcome(False, result)
    return Outcome(True, result, {"distrusted": {}}, {"distrusted": new})
