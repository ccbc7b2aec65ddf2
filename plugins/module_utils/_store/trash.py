# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Removing a directory of the repository: first it loses its name, then its content.

The rename is the moment of the removal. Whoever is interrupted later leaves a ``.trash`` directory, which no reader
takes for a restore point and which the next run finishes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._durable import is_there, sync_directory
from ansible_collections.virt.backup.plugins.module_utils._store.files import is_directory
from ansible_collections.virt.backup.plugins.module_utils._store.layout import NEW, TRASH, is_id

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths


def _delete(path: str) -> None:
    """Delete a tree. Another run may finish the same removal at the same time; then it is gone all the sooner.

    Of anything else than a directory only the name goes: what a symbolic link leads to is not ours.
    """
    while is_there(path):
        with contextlib.suppress(FileNotFoundError):
            if is_directory(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)


def discard(paths: DomainPaths, identifier: str, directory: str) -> None:
    """Take the name from ``directory``, the staging or the restore point ``identifier``: it is removed now."""
    target = paths.trash(identifier)
    if is_there(target):
        _delete(target)
    os.rename(directory, target)
    sync_directory(paths.root)


def empty(paths: DomainPaths, identifier: str) -> None:
    """Delete what is left of a removed directory, and of one whose making was interrupted."""
    for path in (paths.trash(identifier), paths.new(identifier)):
        if is_there(path):
            _delete(path)
    sync_directory(paths.root)


def unfinished(paths: DomainPaths) -> list[str]:
    """Return the half-removed directories, and those whose making was interrupted before they got a name."""
    if not is_directory(paths.root):
        return []
    names = sorted(os.listdir(paths.root))
    found = [os.path.join(paths.root, name) for name in names if any(_is(name, suffix) for suffix in (TRASH, NEW))]
    return [path for path in found if is_directory(path)]


def _is(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and is_id(name[: -len(suffix)])


def finish(paths: DomainPaths) -> list[str]:
    """Finish interrupted removals, and return their paths. Only under the lock: a ``.new`` may be in the making."""
    done = unfinished(paths)
    for path in done:
        _delete(path)
    if done:
        sync_directory(paths.root)
    return done
