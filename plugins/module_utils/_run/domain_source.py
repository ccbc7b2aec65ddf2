# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The definition and the state files of a restore point: from its directory, or as they were brought to this host."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.state_place import (
    NVRAM_NAME,
    TPM_FILE_NAME,
    is_lasting,
)
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_manifest
from ansible_collections.virt.backup.plugins.module_utils._store.files import chunks_of, digest_of, regular_size
from ansible_collections.virt.backup.plugins.module_utils._store.layout import checked_path, is_id
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import Manifest

DEFINITION = "domain.xml"


@dataclasses.dataclass(frozen=True)
class StoredState:
    """One file that a domain keeps beside its disks: ``nvram``, or one of the TPM; ``path`` is where it can be read."""

    name: str
    path: str
    digest: str


@dataclasses.dataclass(frozen=True)
class Source:
    """What a domain is made of again. ``restore_point`` is its id, empty where nobody said it."""

    xml: str
    files: tuple[StoredState, ...] = ()
    restore_point: str = ""


def from_restore_point(directory: str) -> Source:
    """Read a published restore point, every file compared with its digest.

    :raises StateError: it isn't one, or a file is not what was stored.
    """
    path = checked_path("restore_point", directory)
    root, uuid, identifier = os.path.dirname(os.path.dirname(path)), os.path.basename(os.path.dirname(path)), ""
    identifier = os.path.basename(path)
    if not is_id(identifier):
        remedy = "give the path that restore_point_info returns"
        raise InputError("restore_point", directory, "is not the directory of a published restore point", remedy)
    manifest = read_manifest(open_repository(root), uuid, path)
    _check(path, manifest, DEFINITION)
    xml = b"".join(chunks_of(os.path.join(path, DEFINITION))).decode("utf-8", "replace")
    names = [file.name for file in manifest.files if is_state(file.name)]
    return Source(xml, tuple(_check(path, manifest, name) for name in names), identifier)


def is_state(name: str) -> bool:
    """Whether a file of a restore point is the domain's state."""
    return name in (NVRAM_NAME, TPM_FILE_NAME) or is_lasting(name)


def _check(directory: str, manifest: Manifest, name: str) -> StoredState:
    path = os.path.join(directory, name)
    stored = next((file for file in manifest.files if file.name == name), None)
    if stored is None or regular_size(path) is None:
        raise StateError(f"restore_point: {path} is missing; bring it back from a copy, or use another restore point.")
    if stored.digest and digest_of(chunks_of(path)) != (stored.size, stored.digest):
        raise StateError(
            f"restore_point: {path} is not what was stored (its digest differs); bring it back from a copy, or use "
            "another restore point."
        )
    return StoredState(name, path, stored.digest)


def from_content(xml: str, files: tuple[tuple[str, str], ...], identifier: str) -> Source:
    """Take what was brought here: the XML, and (name in the restore point, path on this host) of each state file."""
    found = []
    for name, given in files:
        path = checked_path("state_files", given)
        if not is_state(name):
            remedy = "give the files nvram, tpm.state and tpm2-*.permall of the restore point"
            raise InputError("state_files", name, "is no state of a domain", remedy)
        if regular_size(path) is None:
            raise InputError("state_files", given, "is not a regular file on this host", f"copy {name} there first")
        found.append(StoredState(name, path, digest_of(chunks_of(path))[1]))
    return Source(xml, tuple(found), identifier)
