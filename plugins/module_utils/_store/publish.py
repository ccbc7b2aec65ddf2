# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The write path of a restore point, step by step. The rename in :func:`commit` is the only commit point.

``docs/internals/repository.md`` says for each step what a kill after it leaves. A test kills before each system call
that changes anything, and lets the next run clean up.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._durable import is_there, sync_directory
from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._store import lock
from ansible_collections.virt.backup.plugins.module_utils._store.files import (
    inherit,
    make_directory,
    regular_size,
    write_file,
)
from ansible_collections.virt.backup.plugins.module_utils._store.layout import MANIFEST, STAGING_FILE, STATUS_FILE
from ansible_collections.virt.backup.plugins.module_utils._store.staging_file import staging_bytes

if t.TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.staging import Staging
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths


def make_domain(paths: DomainPaths) -> None:
    """Make the directory of the domain when it is missing."""
    with contextlib.suppress(FileExistsError):
        make_directory(paths.root)


def make_staging(paths: DomainPaths, staging: Staging) -> str:
    """Make the staging directory of a run that holds the lock, and return its path.

    It gets its name only when ``staging.json`` is in it: a staging that can't say whose it is does not exist. An error
    leaves neither.
    """
    new, named = paths.new(staging.id), paths.staging(staging.id)
    try:
        make_directory(new)
        write_file(os.path.join(new, STAGING_FILE), [staging_bytes(staging)])
        sync_directory(new)
        os.rename(new, named)
        sync_directory(paths.root)
    except OSError:
        for path in (new, named):
            shutil.rmtree(path, ignore_errors=True)
        raise
    return named


def add_files(directory: str, files: Sequence[tuple[str, Iterable[bytes]]]) -> list[str]:
    """Write the small files, and the manifest last of all; on an error, take the new ones away again.

    Returns the paths that were not there before, for a caller that fails later.
    """
    written: list[str] = []
    try:
        for name, chunks in files:
            path = os.path.join(directory, name)
            fresh = not is_there(path)
            write_file(path, chunks)
            if fresh:
                written.append(path)
    except BaseException:
        take_away(written)
        raise
    return written


def take_away(paths: Iterable[str]) -> None:
    """Remove files of a publication that failed; a storage that refuses even that has told so before."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


def settle(directory: str, names: Iterable[str]) -> None:
    """Give files that others wrote into the staging the repository's rights, and make their content durable.

    A file that can't be synced is removed. The kernel tells of lost content once and calls the next sync good, so a
    second attempt would publish what may not be there.

    :raises StateError: one has another name beside: rights and content of that would change with it.
    """
    for path in [os.path.join(directory, name) for name in names]:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise StateError(f"{path} is no regular file of its own; copy it anew.")
            inherit(descriptor, directory)
            _sync_or_remove(descriptor, path)
        finally:
            os.close(descriptor)


def _sync_or_remove(descriptor: int, path: str) -> None:
    try:
        os.fsync(descriptor)
    except OSError:
        take_away([path])
        raise


def commit(paths: DomainPaths, identifier: str, token: str, now: datetime.datetime) -> str:
    """Publish: the one rename, done while the guard keeps everybody out and the token is known to be right.

    A name that can't be made durable is taken back: whoever is told of an error must not find a restore point.
    """
    staging, final = paths.staging(identifier), paths.point(identifier)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(staging, STATUS_FILE))
    if regular_size(os.path.join(staging, MANIFEST)) is None:
        raise AssertionError("Contract violation: commit without a manifest")
    sync_directory(staging)
    with lock.guard(paths):
        lock.renew(paths, token, now)
        if is_there(final):
            raise StateError(f"{final} exists already; nothing was published.")
        os.rename(staging, final)
        try:
            sync_directory(paths.root)
        except OSError:
            with contextlib.suppress(OSError):
                os.rename(final, staging)
            raise
    return final
