# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""From what a user says of a restore point to the disks that can be read back; what speaks against it, in one sentence.

Nothing is read but names, headers and small files, unless all stored digests are asked for.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._decide.chain import chain_of
from ansible_collections.virt.backup.plugins.module_utils._decide.choose_point import LATEST, choose_point
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError, ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import Record
from ansible_collections.virt.backup.plugins.module_utils._model.stored_disk import StoredDisk
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import checked_before, uuid_of
from ansible_collections.virt.backup.plugins.module_utils._run.verify_files import NOT_OPENED, header_problem
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog
from ansible_collections.virt.backup.plugins.module_utils._store.fields import show_moment
from ansible_collections.virt.backup.plugins.module_utils._store.files import NotJson, read_json
from ansible_collections.virt.backup.plugins.module_utils._store.layout import (
    MANIFEST,
    SUMS,
    checked_id,
    checked_path,
    checked_uuid,
)
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository, open_repository
from ansible_collections.virt.backup.plugins.module_utils._store.stored import damaged_files

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
    from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import ManifestDisk


@dataclasses.dataclass(frozen=True)
class PointRequest:
    """Which restore point. ``id`` empty or ``latest`` is the newest; ``before`` a time in ISO 8601, or empty."""

    repository: str
    domain_uuid: str = ""
    domain_name: str = ""
    id: str = ""
    before: str = ""


@dataclasses.dataclass(frozen=True)
class FoundPoint:
    """The restore point that was meant, and all that the repository has of its domain."""

    repository: Repository
    uuid: str
    catalog: Catalog
    point: Point

    def as_result(self) -> dict[str, str]:
        """Return what every result says of it."""
        manifest = self.point.manifest
        return {
            "id": manifest.id,
            "path": self.point.path,
            "created": show_moment(manifest.created),
            "domain_uuid": manifest.domain_uuid,
            "domain_name": manifest.domain_name,
        }


def find_point(request: PointRequest) -> FoundPoint:
    """Return the restore point that is meant; raises ``InputError`` or ``StateError`` when there is none."""
    before = checked_before(request.before)
    if request.id not in ("", LATEST):
        checked_id("id", request.id)
    wanted = checked_uuid("domain_uuid", request.domain_uuid) if request.domain_uuid else ""
    repository = open_repository(checked_path("repository", request.repository))
    uuid = wanted or uuid_of(repository, request.domain_name)
    catalog = read_catalog(repository, uuid)
    if not catalog.points and not catalog.unreadable:
        remedy = "check both, or back it up first"
        raise InputError("domain_uuid", request.domain_uuid, "has no restore point in this repository", remedy)
    return FoundPoint(repository, uuid, catalog, choose_point(catalog, request.id, before))


def check_names(found: FoundPoint, names: Sequence[str], called: str = "disks[{index}].name") -> None:
    """Refuse disks that the restore point does not have, one that is named twice, and none at all."""
    manifest = found.point.manifest
    if not names:
        remedy = "name at least one, or leave it out for all that the restore point has"
        raise InputError("disks", [], "names no disk", remedy)
    for index, name in enumerate(names):
        skipped = next((disk.reason for disk in manifest.skipped if disk.name == name), "")
        if manifest.disk(name) is None:
            known = ", ".join(disk.name for disk in manifest.disks) or "none"
            why = f" ({skipped})" if skipped else ""
            problem = f"is no disk of the restore point {manifest.id}{why}, which has {known}"
            raise InputError(called.format(index=index), name, problem, "name one of these, or another restore point")
        if name in names[:index]:
            raise InputError(called.format(index=index), name, "is given twice", "name each disk once")


def stored_disks(found: FoundPoint, names: Sequence[str]) -> list[StoredDisk]:
    """Return the chains of these disks, each of them whole by manifests, links, sizes and lengths of files.

    :raises StateError: one is not; the sentence names the file.
    """
    return [_stored_disk(found, name) for name in names]


def check_digests(found: FoundPoint, disks: Iterable[StoredDisk], *, images: bool) -> list[str]:
    """Compare manifests, and if asked for ``images``, with the digests that are stored; return what to warn of.

    A list of digests that is damaged itself says nothing against the images; with ``images`` it is an error all the
    same, as then it was asked for.
    """
    warnings = []
    for identifier, names in sorted(_files(found, disks, images=images).items()):
        point = found.catalog.point(identifier)
        if point is None:
            raise AssertionError("Contract violation: the chain was checked before")
        for damage in damaged_files(point.path, point.manifest, only=names.__contains__):
            sentence = f"{os.path.join(point.path, damage.name)}: {damage.problem.rstrip('.')}"
            if damage.name != SUMS or images:
                raise _refused(found, sentence)
            warnings.append(f"{sentence}; the manifest could not be compared with it.")
    return warnings


def check_secret(disks: Sequence[StoredDisk], encryption: Encryption | None) -> None:
    """Refuse encrypted disks without their secret, and with another one."""
    for disk in disks:
        if not disk.encrypted:
            continue
        if encryption is None:
            problem = f"is missing, and the images of {disk.name} are encrypted"
            raise InputError("encryption", None, problem, "give secret_file or secret")
        path = disk.paths[-1]  # all images of a chain have the same secret, and each takes its time to open
        try:
            _qemu.unlock(path, encryption)
        except ToolError as error:
            if NOT_OPENED not in error.message:
                raise
            problem = f"does not open {path!r}"
            raise InputError("encryption", "(hidden)", problem, "give the secret it was made with") from error


def _files(found: FoundPoint, disks: Iterable[StoredDisk], *, images: bool) -> dict[str, set[str]]:
    """Return the names of the files to compare, by the id of their restore point."""
    wanted: dict[str, set[str]] = {found.point.id: {MANIFEST}}
    for disk in disks:
        for identifier, path in zip(disk.ids, disk.paths):
            wanted.setdefault(identifier, {MANIFEST}).update({os.path.basename(path)} if images else ())
    return wanted


def _stored_disk(found: FoundPoint, name: str) -> StoredDisk:
    chain = chain_of(found.catalog, found.point.id, name)
    if chain.problem:
        raise _refused(found, f"{name}: {chain.problem.rstrip('.')}")
    links = [_link(found, identifier, name) for identifier in chain.ids]
    for point, entry in links:
        path = os.path.join(point.path, entry.image)
        try:
            problem = header_problem(path, point, entry)
        except ToolError as error:
            problem = error.message
        if problem:
            raise _refused(found, f"{path}: {problem.rstrip('.')}")
    top = links[-1][1]
    if any((entry.encryption == NONE) != (top.encryption == NONE) for _point, entry in links):
        raise _refused(found, f"{name}: only a part of its chain is encrypted")
    paths = tuple(os.path.join(point.path, entry.image) for point, entry in links)
    return StoredDisk(
        name,
        chain.ids,
        paths,
        _qemu.info(paths[-1], "qcow2").virtual_size,
        top.encryption,
        top.content,
        top.content_reason or ("" if top.content else "the manifest has no digest of it"),
        all(_is_plain(os.path.join(point.path, entry.record)) for point, entry in links),
    )


def _link(found: FoundPoint, identifier: str, name: str) -> tuple[Point, ManifestDisk]:
    point = found.catalog.point(identifier)
    entry = point.manifest.disk(name) if point else None
    if point is None or entry is None:
        raise AssertionError("Contract violation: a chain without a problem is whole")
    return point, entry


def _is_plain(record: str) -> bool:
    """Whether a record says that the image beside it holds nothing compressed or encrypted."""
    try:
        return _stored_as_it_is(Record.from_dict(read_json(record)))
    except (FileNotFoundError, NotJson, KeyError, TypeError, ValueError):
        return False


def _stored_as_it_is(record: Record) -> bool:
    return (record.compression, record.encryption) == ("none", NONE)


def _refused(found: FoundPoint, sentence: str) -> StateError:
    remedy = "bring the file back from a copy, or name another restore point by id"
    return StateError(f"id: {found.point.id} can't be read back: {sentence}; {remedy}.")
