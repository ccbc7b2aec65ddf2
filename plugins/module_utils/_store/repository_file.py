# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""``repository.json``: what makes a directory a repository. Without it, every operation refuses.

A repository on a file system that isn't mounted shows an empty directory; that must never look like a new repository.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import secrets
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._durable import is_there, sync_directory
from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._model.text import quoted
from ansible_collections.virt.backup.plugins.module_utils._store.fields import BadFile, Fields, show_moment
from ansible_collections.virt.backup.plugins.module_utils._store.files import (
    dump_json,
    is_directory,
    read_json,
    write_temporary,
)
from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths, domain_paths, is_uuid

if t.TYPE_CHECKING:
    import datetime

FORMAT = 1
NAME = "repository.json"
BY_NAME = "by-name"
_HARMLESS = frozenset({"lost+found"})
_ID_LETTERS = frozenset("0123456789abcdef")
_REMNANT = re.compile(rf"{re.escape(NAME)}\.[0-9a-f]{{12}}\.tmp")


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository that was read and understood. ``id`` is part of the names of its checkpoints."""

    path: str
    id: str
    format: int = FORMAT

    def domain(self, domain_uuid: str) -> DomainPaths:
        """Return the paths of a domain; raise :class:`StateError` when its directory is something else."""
        paths = domain_paths(self.path, domain_uuid)
        try:
            wrong = is_there(paths.root) and not is_directory(paths.root)
        except OSError as error:
            raise StateError(
                f"{paths.root} can't be read: {error.strerror}; check the storage and the mount."
            ) from error
        if wrong:
            raise StateError(f"{paths.root} is not a directory; move it away, restore points of the domain go there.")
        return paths


def open_repository(path: str) -> Repository:
    """Read ``repository.json`` in ``path``; raise one sentence when this is not a repository that we understand."""
    file = os.path.join(path, NAME)
    if os.path.exists(path) and not os.path.isdir(path):
        raise StateError(f"repository: {path!r} is not a directory; give the directory that holds {NAME}.")
    try:
        fields = Fields(read_json(file), file)
    except FileNotFoundError:
        raise StateError(
            f"repository: {path!r} is not a repository: it has no {NAME}; check that its file system is mounted, "
            "or create it once with backup_repository."
        ) from None
    version = fields.check_format(FORMAT)
    identifier = fields.text("id")
    if len(identifier) != 12 or not _ID_LETTERS.issuperset(identifier):
        raise BadFile(f"{file}: {quoted(identifier)} is no repository id (12 hexadecimal digits).")
    return Repository(path, identifier, version)


def foreign_names(path: str) -> list[str]:
    """Return what is in a directory that is to become a repository, beside what every new file system has."""
    return sorted(name for name in os.listdir(path) if name not in _HARMLESS and not _REMNANT.fullmatch(name))


def sweep(path: str) -> None:
    """Remove what a kill while ``repository.json`` was made has left."""
    for name in os.listdir(path):
        if _REMNANT.fullmatch(name):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(os.path.join(path, name))


def create_repository(path: str, now: datetime.datetime) -> Repository:
    """Write ``repository.json`` exclusively: of two that try at once, one wins and both then read the same id."""
    content = dump_json({"format": FORMAT, "id": secrets.token_hex(6), "created": show_moment(now)})
    temporary = write_temporary(path, [content], NAME)
    try:
        os.link(temporary, os.path.join(path, NAME))
    except (FileExistsError, FileNotFoundError):
        pass  # somebody else makes it at the same moment
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    sync_directory(path)
    return open_repository(path)


def domain_uuids(repository: Repository) -> list[str]:
    """Return the UUIDs under which the repository has a directory."""
    return sorted(
        name
        for name in os.listdir(repository.path)
        if is_uuid(name) and is_directory(os.path.join(repository.path, name))
    )
