# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The digest of the whole content of a disk in a restore point, from the lists beside the images of its chain."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.content import BadList, read_list, root
from ansible_collections.virt.backup.plugins.module_utils._decide.chain import chain_of
from ansible_collections.virt.backup.plugins.module_utils._store.files import chunks_of, digest_of, regular_size

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog
    from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import ManifestDisk


def content_of(catalog: Catalog, disk: ManifestDisk, directory: str) -> tuple[str, str]:
    """Return the digest of the content and an empty text, or an empty digest and the reason why there is none.

    ``disk`` is not in the catalog yet; its files are in ``directory``. A list is believed if its digest is the one in
    its own manifest, so a damaged one ends here, and not in a digest that nothing can ever have.
    """
    if not disk.digest:
        return "", "the image was copied without a checksum"
    if not disk.parent:
        return disk.digest, ""
    paths = []
    for identifier, entry, folder in [*_below(catalog, disk), ("this restore point", disk, directory)]:
        path = os.path.join(folder, entry.digests)
        if not entry.digests:
            return "", f"the image of {disk.name} in {identifier} has no list of digests"
        if regular_size(path) is None or digest_of(chunks_of(path))[1] != entry.digest:
            return "", f"the list of digests of {disk.name} in {identifier} is missing or damaged"
        paths.append(path)
    try:
        return _root(paths), ""
    except BadList as error:
        return "", f"the lists of digests of {disk.name} have no sum: one {error}"


def _below(catalog: Catalog, disk: ManifestDisk) -> list[tuple[str, ManifestDisk, str]]:
    """Return id, entry and directory of the images below, the full one first."""
    found = []
    for identifier in chain_of(catalog, disk.parent, disk.name).ids:
        point = catalog.point(identifier)
        entry = point.manifest.disk(disk.name) if point else None
        if point is None or entry is None:
            raise AssertionError("Contract violation: the chain was checked before")
        found.append((identifier, entry, point.path))
    return found


def _root(paths: list[str]) -> str:
    with contextlib.ExitStack() as files:
        return root([read_list(files.enter_context(open(path, "rb"))) for path in paths])
