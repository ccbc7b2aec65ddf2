# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Reading a domain's directory: what is published, what is in progress, and what is neither.

Nothing is believed for its name. A restore point counts when its manifest can be read and names this repository, this
domain and this directory; an image counts when it is a regular file of the length that the manifest says.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, FoundStaging, Point, Unreadable
from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._model.text import quoted, shown
from ansible_collections.virt.backup.plugins.module_utils._store import manifest as manifest_file
from ansible_collections.virt.backup.plugins.module_utils._store.damage import read_damage
from ansible_collections.virt.backup.plugins.module_utils._store.distrust import read_distrust
from ansible_collections.virt.backup.plugins.module_utils._store.fields import BadFile, NewerFormat
from ansible_collections.virt.backup.plugins.module_utils._store.files import (
    NotJson,
    is_directory,
    read_json,
    regular_size,
)
from ansible_collections.virt.backup.plugins.module_utils._store.layout import (
    MANIFEST,
    NEW,
    STAGING,
    STAGING_FILE,
    TRASH,
    checkpoint_name,
    is_disk_name,
    is_id,
    is_plain_name,
)
from ansible_collections.virt.backup.plugins.module_utils._store.staging_file import read_staging

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import Manifest, ManifestDisk
    from ansible_collections.virt.backup.plugins.module_utils._model.staging import Staging
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths
    from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository


def read_manifest(repository: Repository, domain_uuid: str, path: str) -> Manifest:
    """Read the manifest in the directory ``path`` and check that it belongs there.

    Raises :class:`StateError` (``NewerFormat``, ``BadFile``, ``NotJson``), each one sentence.
    """
    file = os.path.join(path, MANIFEST)
    try:
        manifest = manifest_file.from_json(read_json(file), file)
    except FileNotFoundError:
        raise BadFile(f"{path} has no {MANIFEST}.") from None
    identifier = os.path.basename(path)
    expected = {
        "repository": (manifest.repository, repository.id),
        "domain": (manifest.domain_uuid, domain_uuid),
        "id": (manifest.id, identifier),
        "checkpoint": (manifest.checkpoint, checkpoint_name(repository.id, identifier)),
    }
    for what, (found, wanted) in expected.items():
        if found != wanted:
            raise BadFile(f"{file} belongs elsewhere: its {what} is {quoted(found)} and not {wanted!r}.")
    for disk in manifest.disks:
        _check_names(file, disk)
    for stored in (*manifest.files, *manifest.stored):
        if not is_plain_name(stored.name):
            raise BadFile(f"{file}: {quoted(stored.name)} is no name of a file that this repository writes.")
    return manifest


def _check_names(file: str, disk: ManifestDisk) -> None:
    """Refuse what would lead out of the restore point's directory, or to what is no restore point."""
    good = {
        "name": is_disk_name(disk.name),
        "image": is_plain_name(disk.image),
        "record": not disk.record or is_plain_name(disk.record),
        "digests": not disk.digests or is_plain_name(disk.digests),
        "parent": not disk.parent or is_id(disk.parent),
        "chain": is_id(disk.chain),
    }
    for field, fine in good.items():
        if not fine:
            raise BadFile(f"{file}: the {field} of disk {quoted(disk.name)} is not what this repository writes.")


def _faults(path: str, manifest: Manifest) -> list[tuple[str, str]]:
    damage = _damage(path, manifest)
    found = []
    for disk in manifest.disks:
        image = os.path.join(path, disk.image)
        size = regular_size(image)
        if size is None:
            found.append((disk.name, f"{image} is missing"))
        elif size != disk.stored_size:
            found.append((disk.name, f"{image} has {size} bytes where the manifest says {disk.stored_size}"))
        elif disk.name in damage:
            found.append((disk.name, f"{image} is damaged: {damage[disk.name]}"))
    return found


def _damage(path: str, manifest: Manifest) -> dict[str, str]:
    """Return what is known to be damaged. Where that can't be read, it may be any disk, until the next verification."""
    try:
        return read_damage(path)
    except (BadFile, NotJson) as error:
        return {disk.name: f"{error.message} Verify it again" for disk in manifest.disks}


def read_catalog(repository: Repository, domain_uuid: str) -> Catalog:
    """Read everything there is about a domain; an unknown domain has an empty catalog."""
    paths = repository.domain(domain_uuid)
    names = sorted(os.listdir(paths.root)) if is_directory(paths.root) else []
    points: list[Point] = []
    unreadable: list[Unreadable] = []
    stagings: list[FoundStaging] = []
    unfinished: list[str] = []
    strangers: list[str] = []
    for name in names:
        path = os.path.join(paths.root, name)
        base, suffix = _split(name)
        if name == "lock" or name.startswith("lock."):
            continue
        if not is_id(base) or not is_directory(path):
            strangers.append(shown(path))
        elif suffix == STAGING:
            stagings.append(_staging(repository, domain_uuid, paths, base))
        elif suffix:
            unfinished.append(path)
        else:
            _add_point(repository, domain_uuid, path, points, unreadable)
    return Catalog(tuple(points), tuple(unreadable), tuple(stagings), tuple(unfinished), tuple(strangers))


def _split(name: str) -> tuple[str, str]:
    for suffix in (STAGING, TRASH, NEW):
        if name.endswith(suffix):
            return name[: -len(suffix)], suffix
    return name, ""


def _add_point(
    repository: Repository, domain_uuid: str, path: str, points: list[Point], unreadable: list[Unreadable]
) -> None:
    try:
        manifest = read_manifest(repository, domain_uuid, path)
        distrusted = read_distrust(path, [disk.name for disk in manifest.disks])
        points.append(Point(manifest, path, tuple(_faults(path, manifest)), tuple(sorted(distrusted.items()))))
    except NewerFormat as error:
        unreadable.append(Unreadable(os.path.basename(path), path, error.message, newer=True))
    except StateError as error:
        unreadable.append(Unreadable(os.path.basename(path), path, error.message))


def _staging(repository: Repository, domain_uuid: str, paths: DomainPaths, identifier: str) -> FoundStaging:
    path = paths.staging(identifier)
    try:
        staging = read_staging(path)
        _check_staging(repository, domain_uuid, identifier, path, staging)
        return FoundStaging(identifier, path, staging)
    except FileNotFoundError:
        return FoundStaging(identifier, path, None, f"{path} has no staging.json.")
    except StateError as error:
        return FoundStaging(identifier, path, None, error.message)


def _check_staging(repository: Repository, domain_uuid: str, identifier: str, path: str, staging: Staging) -> None:
    """Refuse a plan of another run, and one that leads elsewhere: what it names is removed when its run is dead."""
    expected = {
        "domain": (staging.domain_uuid, domain_uuid),
        "id": (staging.id, identifier),
        "checkpoint": (staging.checkpoint, checkpoint_name(repository.id, identifier)),
    }
    file = os.path.join(path, STAGING_FILE)
    for what, (found, wanted) in expected.items():
        if found != wanted:
            raise BadFile(f"{file} belongs elsewhere: its {what} is {quoted(found)} and not {wanted!r}.")
    for disk in staging.disks:
        if not is_disk_name(disk.name) or not (not disk.base or is_id(disk.base)):
            raise BadFile(f"{file}: the plan of disk {quoted(disk.name)} is not what this repository writes.")


def refuse_newer(catalog: Catalog) -> None:
    """Refuse to change a domain that a newer release works on: what its manifests mean isn't known here."""
    for entry in catalog.unreadable:
        if entry.newer:
            raise StateError(entry.problem)
