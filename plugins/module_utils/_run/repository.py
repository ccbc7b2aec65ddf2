# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Make a directory a repository, once."""

from __future__ import annotations

import dataclasses
import datetime
import grp
import os
import pwd
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import world
from ansible_collections.virt.backup.plugins.module_utils._store.files import is_directory, make_directory
from ansible_collections.virt.backup.plugins.module_utils._store.layout import checked_path
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import (
    FORMAT,
    NAME,
    Repository,
    create_repository,
    foreign_names,
    open_repository,
    sweep,
)

DEFAULT_MODE = 0o700


@dataclasses.dataclass(frozen=True)
class RepositoryRequest:
    """The parameters of ``backup_repository``; ``None`` leaves owner, group or mode as they are (new: ours, 0700)."""

    path: str
    require_mount: bool = False
    owner: str | None = None
    group: str | None = None
    mode: str | None = None


@dataclasses.dataclass(frozen=True)
class _Rights:
    uid: int | None
    gid: int | None
    mode: int | None


def ensure_repository(request: RepositoryRequest, *, check: bool) -> Outcome:
    """Create the repository in a missing or empty directory, or leave the one that is there as it is."""
    path = checked_path("path", request.path)
    rights = _rights(request)
    if request.require_mount:
        _check_mount(path)
    with world(f"path: {path!r}"):
        return _ensure(path, rights, check=check)


def _ensure(path: str, rights: _Rights, *, check: bool) -> Outcome:
    existing = _existing(path)
    before = {"repository": existing and _result(existing), **_attributes(path)}
    if existing is None:
        rights = dataclasses.replace(rights, mode=DEFAULT_MODE if rights.mode is None else rights.mode)
    after = {**before, **_wanted(rights, before)}
    if existing is None:
        after["repository"] = {"path": path, "format": FORMAT}
    changed = before != after
    if check:
        return Outcome(changed, {"repository": existing and _result(existing)}, before, after)
    if os.path.isdir(path):
        sweep(path)
    repository = existing or _create(path)
    if changed:
        _apply(path, rights)
    after["repository"] = _result(repository)
    return Outcome(changed, {"repository": _result(repository)}, before, after)


def _result(repository: Repository) -> dict[str, t.Any]:
    return {"path": repository.path, "id": repository.id, "format": repository.format}


def _existing(path: str) -> Repository | None:
    """Return the repository in ``path``; ``None`` when one can be made there; raise a sentence when neither."""
    if not os.path.lexists(path):
        if not os.path.isdir(os.path.dirname(path)):
            raise InputError("path", path, "has no parent directory", "create the parent, or check that it is mounted")
        _check_writable(path, os.path.dirname(path))
        return None
    if not os.path.isdir(path):
        raise InputError("path", path, "is not a directory", "give a directory that is missing or empty")
    if os.path.lexists(os.path.join(path, NAME)):
        return open_repository(path)
    foreign = foreign_names(path)
    if foreign:
        shown = ", ".join(foreign[:3])
        remedy = "give an empty directory; a repository that lost its repository.json needs that file back"
        raise InputError("path", path, f"is not empty ({shown}) and has no {NAME}", remedy)
    _check_writable(path, path)
    return None


def _check_writable(path: str, directory: str) -> None:
    """Refuse a place where nothing can be made; a read-only file system refuses root too."""
    if not os.access(directory, os.W_OK | os.X_OK):
        problem = f"cannot be made: {directory!r} is not writable"
        raise InputError("path", path, problem, "make it writable, or choose another directory")


def _check_mount(path: str) -> None:
    current = path
    while current != "/":
        if os.path.ismount(current):
            return
        current = os.path.dirname(current)
    raise StateError(
        f"path: {path!r} is not on a mounted file system of its own; mount it, or set require_mount to false."
    )


def _rights(request: RepositoryRequest) -> _Rights:
    uid = gid = mode = None
    if request.owner is not None:
        uid = _number("owner", request.owner, lambda name: pwd.getpwnam(name).pw_uid)
    if request.group is not None:
        gid = _number("group", request.group, lambda name: grp.getgrnam(name).gr_gid)
    if request.mode is not None:
        mode = _mode(request.mode)
    return _Rights(uid, gid, mode)


def _number(parameter: str, value: str, look_up: t.Callable[[str], int]) -> int:
    try:
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else look_up(value)
    except (KeyError, ValueError):  # the second is for what is no text to the C library
        raise InputError(parameter, value, "does not exist on this host", "create it, or give its number") from None


def _mode(value: str) -> int:
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise InputError("mode", value, "is not an octal mode", 'give it as a string, such as "0700"')
    if mode & 0o700 != 0o700:
        raise InputError("mode", value, "keeps the owner out", "let the owner read, write and search")
    return mode


def _attributes(path: str) -> dict[str, t.Any]:
    if not is_directory(path) and not os.path.isdir(path):
        return {"owner": None, "group": None, "mode": None}
    found = os.stat(path)
    return {"owner": found.st_uid, "group": found.st_gid, "mode": f"{stat.S_IMODE(found.st_mode):04o}"}


def _wanted(rights: _Rights, before: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the rights as they will be; those of a new directory are the process's own where nothing was asked."""
    new = before["owner"] is None
    wanted = {
        "owner": os.geteuid() if new else before["owner"],
        "group": os.getegid() if new else before["group"],
        "mode": before["mode"],
    }
    if rights.uid is not None:
        wanted["owner"] = rights.uid
    if rights.gid is not None:
        wanted["group"] = rights.gid
    if rights.mode is not None:
        wanted["mode"] = f"{rights.mode:04o}"
    return wanted


def _create(path: str) -> Repository:
    try:
        if not os.path.isdir(path):
            make_directory(path)
        os.chmod(path, DEFAULT_MODE)
        return create_repository(path, datetime.datetime.now(datetime.timezone.utc))
    except OSError as error:
        raise StateError(
            f"path: {path!r} can't become a repository: {error.strerror}; check the rights on it."
        ) from error


def _apply(path: str, rights: _Rights) -> None:
    """Set owner, group and mode of the directory, and of ``repository.json``, whose rights follow from it."""
    try:
        for item, mask in ((path, 0o7777), (os.path.join(path, NAME), 0o666)):
            os.chown(item, -1 if rights.uid is None else rights.uid, -1 if rights.gid is None else rights.gid)
            if rights.mode is not None:
                os.chmod(item, rights.mode & mask)
    except OSError as error:
        raise StateError(
            f"path: owner, group or mode of {path!r} can't be set: {error.strerror}; run as root."
        ) from error
