# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The content of a chain, read through QEMU and compared with the digest in the manifest; whose image differs."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.chain_reader import (
    differences_of_chain,
    digest_of_chain,
)
from ansible_collections.virt.backup.plugins.module_utils._copy.content import BadList
from ansible_collections.virt.backup.plugins.module_utils._decide.verification import lineage
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.errors import ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.verification import Depth, DiskContent, FileDamage
from ansible_collections.virt.backup.plugins.module_utils._nbd import NbdError
from ansible_collections.virt.backup.plugins.module_utils._run.verify_files import NOT_OPENED
from ansible_collections.virt.backup.plugins.module_utils._store.files import chunks_of, digest_of, regular_size

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._copy.content import Difference
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
    from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import ManifestDisk

Chain = list[tuple["Point", "ManifestDisk"]]


class ContentFindings(t.NamedTuple):
    """What was found of one disk; ``damage`` has the id of the restore point whose image is to blame."""

    content: DiskContent
    damage: list[tuple[str, FileDamage]]
    errors: list[str]
    notes: list[str]


def verify_content(
    catalog: Catalog, point: Point, disk: ManifestDisk, encryption: Encryption | None
) -> ContentFindings:
    """Compare what shows through a chain, whose images were found good each by itself."""
    if not disk.content:
        return _unread(disk, disk.content_reason or "the manifest has no digest of it")
    if disk.encryption != NONE and encryption is None:
        note = f"{disk.image} is encrypted, so its content was not read without its secret."
        return _unread(disk, "it is encrypted, and no secret was given", notes=[note])
    chain = _chain(catalog, point, disk)
    paths = [os.path.join(below.path, entry.image) for below, entry in chain]
    secret = encryption if disk.encryption != NONE else None
    try:
        if digest_of_chain(paths, secret) == disk.content:
            return ContentFindings(DiskContent(disk.name, verified=True), [], [], [])
        found = _differences(chain, paths, secret)
    except (NbdError, ToolError) as error:
        words = f"another secret than the one given opens {disk.image}" if NOT_OPENED in error.message else ""
        reason = words or f"QEMU could not read it: {error.message.rstrip('.')}"
        return _unread(disk, reason, errors=[f"The content of {disk.name} was not verified: {reason}."])
    return ContentFindings(DiskContent(disk.name, verified=False, reason="it differs"), _blame(chain, found), [], [])


def _unread(
    disk: ManifestDisk, reason: str, *, errors: list[str] | None = None, notes: list[str] | None = None
) -> ContentFindings:
    return ContentFindings(DiskContent(disk.name, verified=False, reason=reason), [], errors or [], notes or [])


def _chain(catalog: Catalog, point: Point, disk: ManifestDisk) -> Chain:
    """Return the chain, the full image first."""
    found: Chain = []
    for identifier in reversed(lineage(catalog, point.id, disk.name)):
        below = catalog.point(identifier)
        entry = below.manifest.disk(disk.name) if below else None
        if below is None or entry is None:
            raise AssertionError("Contract violation: the chain was checked before")
        found.append((below, entry))
    return found


def _differences(chain: Chain, paths: list[str], encryption: Encryption | None) -> list[Difference]:
    """Return where the chain differs by its lists, or nothing when one of them is missing or damaged."""
    lists = [os.path.join(below.path, entry.digests) for below, entry in chain if entry.digests]
    good = [
        path
        for path, (_point, entry) in zip(lists, chain)
        if regular_size(path) is not None and digest_of(chunks_of(path))[1] == entry.digest
    ]
    if len(good) != len(chain):
        return []
    try:
        return differences_of_chain(paths, lists, encryption)
    except BadList:
        return []


def _blame(chain: Chain, found: list[Difference]) -> list[tuple[str, FileDamage]]:
    """Return which image holds what differs; the topmost where that can't be told."""
    if not found:
        below, entry = chain[-1]
        problem = f"the content of {entry.name} is not that of its digest."
        return [(below.id, FileDamage(entry.image, problem, entry.name, Depth.CONTENT))]
    blamed = []
    for layer, (below, entry) in enumerate(chain):
        ranges = [(one.start, one.end) for one in found if one.layer == layer]
        if ranges:
            length = sum(end - start for start, end in ranges)
            problem = (
                f"{entry.image} does not hold what its digests say in {length} bytes of {entry.name}, "
                f"the first from {ranges[0][0]} to {ranges[0][1]}."
            )
            blamed.append((below.id, FileDamage(entry.image, problem, entry.name, Depth.CONTENT)))
    return blamed
