# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Publish a run: verify what is in the staging, write the manifest, the one rename, give the lock back."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.chain import PresentDisk, superseded
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import StoredFile
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_compose import PresentRequest, compose
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import utc_now, world
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_verify import remnants
from ansible_collections.virt.backup.plugins.module_utils._store import lock
from ansible_collections.virt.backup.plugins.module_utils._store import manifest as manifest_file
from ansible_collections.virt.backup.plugins.module_utils._store.by_name import ensure_link
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog, refuse_newer
from ansible_collections.virt.backup.plugins.module_utils._store.files import digest_of, dump_json
from ansible_collections.virt.backup.plugins.module_utils._store.layout import (
    MANIFEST,
    STAGING_FILE,
    SUMS,
    checked_id,
    checked_path,
    checked_uuid,
)
from ansible_collections.virt.backup.plugins.module_utils._store.publish import add_files, commit, settle, take_away
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository
from ansible_collections.virt.backup.plugins.module_utils._store.staging_file import read_staging
from ansible_collections.virt.backup.plugins.module_utils._store.stored import hash_files, sums_bytes

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point
    from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import Manifest
    from ansible_collections.virt.backup.plugins.module_utils._model.staging import Staging
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths
    from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository

_OF_THE_MOMENT = ("published", "stored")
"""What is not compared when a published restore point is confirmed: its time, and what only reading all of it tells."""


def publish(request: PresentRequest, *, check: bool) -> Outcome:
    """Make the staged restore point a published one, or confirm that it is, with the same content."""
    repository = open_repository(checked_path("repository", request.repository))
    request = dataclasses.replace(request, domain_uuid=checked_uuid("domain_uuid", request.domain_uuid))
    checked_id("id", request.id)
    paths = repository.domain(request.domain_uuid)
    with world(f"restore point {request.id}"):
        catalog = read_catalog(repository, request.domain_uuid)
        refuse_newer(catalog)
        point = catalog.point(request.id)
        if point is not None:
            return _confirm(repository, paths, request, catalog, point, check=check)
        found = catalog.staging(request.id)
        if found is None or found.staging is None:
            problem = found.problem if found else "has no staging directory in this repository"
            raise InputError("id", request.id, problem, "begin with state staged")
        _check_token(paths, request)
        manifest = compose(repository, request, catalog, found.staging, found.path)
        # Nothing is published that could not be read: what comes in through parameters and records is from elsewhere.
        manifest_file.from_json(manifest_file.to_json(manifest), "the manifest to be written")
        if check:
            return _report(paths, catalog, found.staging, manifest, ())
        manifest = _with_stored(paths, request, manifest, found.path)
        _write(paths, request, manifest, found.path)
        warnings = (*_give_back(paths, request.token), *_link(repository, manifest))
        return _report(paths, catalog, found.staging, manifest, warnings)


def _check_token(paths: DomainPaths, request: PresentRequest) -> None:
    with lock.guard(paths):
        record = lock.check_token(paths, request.token)
    if record.id != request.id:
        raise InputError(
            "id", request.id, f"is not what the token's lock is for ({record.id})", "give both as returned"
        )


def _with_stored(paths: DomainPaths, request: PresentRequest, manifest: Manifest, directory: str) -> Manifest:
    """Add the SHA-256 of what others wrote.

    Now, because the job has ended: the guest waits for nothing. An image that was to be copied without a checksum gets
    none here either. The lease is renewed all the while, for a terabyte takes its time.
    """

    def renew() -> None:
        with lock.guard(paths):
            lock.renew(paths, request.token, utc_now())

    bare = {disk.image for disk in manifest.disks if not disk.digest}
    names = [*(name for disk in manifest.disks for name in disk.file_names), STAGING_FILE]
    found = hash_files([os.path.join(directory, name) for name in names if name not in bare], renew)
    sizes = {disk.image: (disk.stored_size, "") for disk in manifest.disks}
    stored = [StoredFile(name, *found.get(os.path.join(directory, name), sizes.get(name, (0, "")))) for name in names]
    return dataclasses.replace(manifest, stored=tuple(stored))


def _write(paths: DomainPaths, request: PresentRequest, manifest: Manifest, directory: str) -> None:
    """Everything durable first, the manifest last, then the rename. An error before it leaves the staging as it was."""
    content = dump_json(manifest_file.to_json(manifest))
    files = [(file.name, file.chunks(directory)) for file in request.files if file.content is not None or file.src]
    handed = [file.name for file in request.files if file.content is None and not file.src]
    images = [name for disk in manifest.disks for name in disk.file_names]
    for name in remnants(directory):
        os.unlink(os.path.join(directory, name))
    settle(directory, [*images, *handed, STAGING_FILE])
    digests = {file.name: file.digest for file in (*manifest.files, *manifest.stored)}
    sums = sums_bytes({**digests, MANIFEST: digest_of([content])[1]})
    written = add_files(directory, [*files, (SUMS, [sums]), (MANIFEST, [content])])
    try:
        commit(paths, request.id, request.token, utc_now())
    except BaseException:
        take_away(written)
        raise


def _give_back(paths: DomainPaths, token: str) -> tuple[str, ...]:
    """Give the lock back. The restore point is there, so a failure is a warning and the run no failed one."""
    try:
        lock.release(paths, token)
    except (OSError, StateError) as error:
        told = error.strerror if isinstance(error, OSError) else error.message
        return (f"the lock could not be given back, and counts for nothing as its restore point is published: {told}",)
    return ()


def _link(repository: Repository, manifest: Manifest) -> tuple[str, ...]:
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
    different = [key for key in wanted if key not in _OF_THE_MOMENT and wanted[key] != found[key]]
    if different:
        raise StateError(
            f"restore point {request.id} is published with another content ({', '.join(different)} differ)."
        )
    warnings = () if check else _give_back(paths, request.token)
    outcome = _report(paths, catalog, staging, point.manifest, warnings)
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
