# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Remove a staging or a published restore point, or the lock of a run that is known to be dead."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.chain import dependants
from ansible_collections.virt.backup.plugins.module_utils._durable import is_there
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import utc_now, world
from ansible_collections.virt.backup.plugins.module_utils._store import lock, trash
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog, refuse_newer
from ansible_collections.virt.backup.plugins.module_utils._store.layout import (
    checked_id,
    checked_path,
    checked_uuid,
    checkpoint_name,
)
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths
    from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository

# A removal is this process and no run; whoever finds its lock later than this knows that the process died.
_BRIEF = 60


@dataclasses.dataclass(frozen=True)
class AbsentRequest:
    """What is to go. ``staging`` means only a run in progress; ``break_lock`` drops the lock, whoever has it.

    A ``token`` without ``id`` is the lock alone.
    """

    repository: str
    domain_uuid: str
    id: str = ""
    token: str = ""
    staging: bool = False
    break_lock: bool = False
    run: str = ""


def remove(request: AbsentRequest, *, check: bool) -> Outcome:
    """Remove what is asked for under the domain's lock: that of the token, or one of our own for this moment."""
    _check(request)
    repository = open_repository(checked_path("repository", request.repository))
    request = dataclasses.replace(request, domain_uuid=checked_uuid("domain_uuid", request.domain_uuid))
    paths = repository.domain(request.domain_uuid)
    with world(f"restore point {request.id}" if request.id else f"the lock in {paths.root}"):
        broken = request.break_lock and _break(paths, check=check)
        if not request.id:
            released = bool(request.token) and _give_back(paths, request.token, check=check)
            return _report(repository, request, [], broken=broken, released=released)
        return _remove(repository, paths, request, broken=broken, check=check)


def _check(request: AbsentRequest) -> None:
    if request.id:
        checked_id("id", request.id)
    elif not (request.break_lock or request.token):
        raise InputError("id", "", "is missing", "say which restore point or staging to remove")
    elif request.staging:
        raise InputError("staging", True, "is given without id", "say whose staging to remove, or leave staging out")
    if request.break_lock and request.token:
        raise InputError("break_lock", True, "contradicts token", "a run that has a token need not break its lock")


def _break(paths: DomainPaths, *, check: bool) -> bool:
    return is_there(paths.lock) if check else lock.break_lock(paths)


def _remove(
    repository: Repository, paths: DomainPaths, request: AbsentRequest, *, broken: bool, check: bool
) -> Outcome:
    catalog = read_catalog(repository, request.domain_uuid)
    refuse_newer(catalog)
    targets = _targets(paths, catalog, request)
    if not targets:
        released = _release_ours(paths, request, check=check)
        return _report(repository, request, [], broken=broken, released=released)
    if not request.token:
        if not broken:
            lock.require_free(paths, utc_now())
        if check:
            return _report(repository, request, targets, broken=broken, released=False)
        return _with_own_lock(repository, paths, request, targets, broken=broken)
    _check_token(paths, request)
    if not check:
        _delete(paths, request.token, request.id, targets)
    released = _release_ours(paths, request, check=check)
    return _report(repository, request, targets, broken=broken, released=released)


def _targets(paths: DomainPaths, catalog: Catalog, request: AbsentRequest) -> list[str]:
    """Return the directories to remove: the staging or the published one, and what an interrupted removal left."""
    found = []
    staging = catalog.staging(request.id)
    published = is_there(paths.point(request.id))
    if published and request.staging:
        raise StateError(f"restore point {request.id} is published, not a staging; remove it without staging: true.")
    if staging is not None:
        if not request.staging:
            raise StateError(f"restore point {request.id} is a run in progress, not published; say staging: true.")
        found.append(staging.path)
    if published:
        _check_dependants(catalog, request.id)
        found.append(paths.point(request.id))
    return found + [path for path in (paths.trash(request.id), paths.new(request.id)) if path in catalog.unfinished]


def _check_dependants(catalog: Catalog, identifier: str) -> None:
    others = dependants(catalog.points, catalog.stagings, identifier)
    if others:
        raise StateError(
            f"restore point {identifier} can't be removed: {', '.join(others)} build on it; remove them first."
        )
    unknown = [entry.id for entry in catalog.unreadable if entry.id > identifier]
    if unknown:
        raise StateError(
            f"restore point {identifier} can't be removed: the manifest of {', '.join(unknown)} can't be read, "
            "so nobody knows what builds on what; repair or remove that first."
        )


def _check_token(paths: DomainPaths, request: AbsentRequest) -> None:
    if not is_there(paths.root):
        raise lock.LockLost("token: this run no longer holds the lock of the domain; nothing was changed.")
    with lock.guard(paths):
        lock.check_token(paths, request.token)


def _with_own_lock(
    repository: Repository, paths: DomainPaths, request: AbsentRequest, targets: list[str], *, broken: bool
) -> Outcome:
    with lock.held(paths, request.run or "a removal", f"removal of {request.id}", _BRIEF, utc_now) as token:
        targets = _targets(paths, read_catalog(repository, request.domain_uuid), request)
        _delete(paths, token, request.id, targets)
    return _report(repository, request, targets, broken=broken, released=False)


def _delete(paths: DomainPaths, token: str, identifier: str, targets: list[str]) -> None:
    """Each directory loses its name while the token is known to be right; its content goes after that."""
    for target in targets:
        if target not in (paths.trash(identifier), paths.new(identifier)):
            with lock.guard(paths):
                _keep_lock(paths, token)
                trash.discard(paths, identifier, target)
    trash.empty(paths, identifier)


def _keep_lock(paths: DomainPaths, token: str) -> None:
    """Begin the lease anew; only check it on storage that takes no byte more, for which a removal may be the remedy."""
    try:
        lock.renew(paths, token, utc_now())
    except OSError:
        lock.check_token(paths, token)


def _release_ours(paths: DomainPaths, request: AbsentRequest, *, check: bool) -> bool:
    """Give the lock back when it is the token's and for this very id; cleaning up after another run keeps it."""
    if not request.token or not is_there(paths.lock):
        return False
    record = lock.read_lock(paths)
    if record is None or record.token != request.token or record.id != request.id:
        return False
    return True if check else lock.release(paths, request.token)


def _give_back(paths: DomainPaths, token: str, *, check: bool) -> bool:
    """Give a run's lock back and keep its staging, which names to the next run what this one could not clean up."""
    if not check:
        return lock.release(paths, token)
    record = lock.read_lock(paths)
    return record is not None and record.token == token


def _report(
    repository: Repository, request: AbsentRequest, removed: list[str], *, broken: bool, released: bool
) -> Outcome:
    result: dict[str, t.Any] = {"removed": removed, "lock_broken": broken, "released": released}
    if request.id:
        result.update(id=request.id, checkpoint=checkpoint_name(repository.id, request.id))
    changed = bool(removed) or broken or released
    before = {"directories": removed, "lock": "held" if broken or released else "untouched"}
    after: dict[str, t.Any] = {"directories": [], "lock": "free" if broken or released else "untouched"}
    return Outcome(changed, result, before, after) if changed else Outcome(False, result)
