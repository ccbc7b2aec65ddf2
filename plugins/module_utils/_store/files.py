# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Writing so that it stays written: temporary name, fsync, rename, fsync of the directory.

Everything that is created takes owner and group from the directory it is created in, and its mode from that
directory's mode: a repository made 0700 holds 0600 files, one made 0750 for a backup group holds 0640 files. Rights
are so decided in one place, the repository's own directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._durable import sync_directory
from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError

_CHUNK = 1 << 20
_JSON_LIMIT = 64 << 20
_SEAL = "sha256"


class NotJson(StateError):
    """A file that should hold a JSON object does not."""


def fsync_file(path: str) -> None:
    """Make the content of a regular file durable. A symbolic link is not followed (``OSError``)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def inherit(descriptor: int, directory: str, is_directory: bool = False) -> None:
    """Give the open file the owner, group and mode that follow from ``directory``."""
    parent = os.stat(directory)
    wanted = stat.S_IMODE(parent.st_mode) & (0o7777 if is_directory else 0o666)
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (parent.st_uid, parent.st_gid):
        with contextlib.suppress(PermissionError):  # only root can give a file away; its own user needs no gift
            os.fchown(descriptor, parent.st_uid, parent.st_gid)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != wanted:
        os.fchmod(descriptor, wanted)


def make_directory(path: str) -> None:
    """Create a directory with the rights of its parent and make its name durable. May raise ``FileExistsError``."""
    os.mkdir(path, 0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        inherit(descriptor, os.path.dirname(path), is_directory=True)
    finally:
        os.close(descriptor)
    sync_directory(os.path.dirname(path))


def write_temporary(directory: str, chunks: t.Iterable[bytes], prefix: str) -> str:
    """Write a new synced file with a random name into ``directory`` and return its path; an error leaves nothing."""
    path = os.path.join(directory, f"{prefix}.{secrets.token_hex(6)}.tmp")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            inherit(stream.fileno(), directory)
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            os.unlink(path)
        raise
    return path


def write_file(path: str, chunks: t.Iterable[bytes]) -> None:
    """Put a file in place as a whole, or not at all; the caller fsyncs the directory when all its files are written."""
    temporary = write_temporary(os.path.dirname(path), chunks, os.path.basename(path))
    try:
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def dump_json(data: dict[str, t.Any]) -> bytes:
    """Return JSON as the repository stores it: indented, in the order of the fields, ending with a newline."""
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def read_json(path: str) -> dict[str, t.Any]:
    """Return the JSON object in a regular file. Raises ``FileNotFoundError``, or :class:`NotJson` with one sentence."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotJson(f"{path} can't be read: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotJson(f"{path} is not a regular file.")
    with os.fdopen(descriptor, "rb") as stream:
        try:
            data = json.loads(stream.read(_JSON_LIMIT))
        except (ValueError, RecursionError, OSError) as error:
            raise NotJson(f"{path} is not readable JSON: {error}.") from error
    if not isinstance(data, dict):
        raise NotJson(f"{path} is not readable JSON: it holds no object.")
    return data


def sealed(data: dict[str, t.Any]) -> bytes:
    """Return JSON with a digest of itself: no other file vouches for what is written after the publication."""
    return dump_json({**data, _SEAL: digest_of([dump_json(data)])[1]})


def read_sealed(path: str) -> dict[str, t.Any]:
    """Return what :func:`sealed` wrote; raises as :func:`read_json`, and :class:`NotJson` for what is not just that.

    A file without a digest is one of before there were any.
    """
    data = read_json(path)
    seal = data.pop(_SEAL, None)
    if seal not in (None, digest_of([dump_json(data)])[1]):
        raise NotJson(f"{path} is not what was written: its own digest differs.")
    return data


def chunks_of(path: str) -> t.Iterator[bytes]:
    """Yield the content of a file in pieces."""
    with open(path, "rb") as stream:
        while True:
            chunk = stream.read(_CHUNK)
            if not chunk:
                return
            yield chunk


def digest_of(chunks: t.Iterable[bytes]) -> tuple[int, str]:
    """Return the length in bytes and the digest, as ``sha256:<hex>``, of the content."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return size, f"sha256:{digest.hexdigest()}"


def regular_size(path: str) -> int | None:
    """Return the length of a regular file in bytes, or ``None`` when there is none (a symbolic link is none)."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def is_directory(path: str) -> bool:
    """Whether a directory, and no symbolic link to one, is there."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
