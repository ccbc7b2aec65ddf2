# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The lock of a domain: one run at a time changes it, and a run that died does not block for ever.

A module's process ends long before its run does, so neither a process id nor an flock can stand for a run. What stands
for it is a random token in a file with a lease. Three mechanisms, each for one purpose:

* ``link(2)`` creates the file with its whole content, or fails because it is there;
* a short flock(2) on ``lock.guard`` makes read, check and replace one step; the kernel drops it with the process;
* ``rename(2)`` moves an expired lock away, which one contender wins. Who moved something else than the lock that was
  seen to be expired puts it back: that is the second line where flock means nothing, as on some network mounts.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import os
import secrets
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._durable import is_there, sync_directory
from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._model.staging import LockRecord
from ansible_collections.virt.backup.plugins.module_utils._store.fields import Fields, parse_moment, show_moment
from ansible_collections.virt.backup.plugins.module_utils._store.files import (
    NotJson,
    dump_json,
    inherit,
    is_directory,
    read_json,
    write_temporary,
)
from ansible_collections.virt.backup.plugins.module_utils._store.layout import is_id, is_token

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths

FORMAT = 1
LONGEST_LEASE = 30 * 86400
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class LockHeld(StateError):
    """Another run has the lock."""


class LockLost(StateError):
    """This run's token is no longer the one in the lock."""


@contextlib.contextmanager
def guard(paths: DomainPaths) -> Iterator[None]:
    """Keep every other process out of the lock file for a moment."""
    descriptor = os.open(paths.guard, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:  # another name of it would get the rights as well
            inherit(descriptor, paths.root)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _to_bytes(record: LockRecord) -> bytes:
    return dump_json(
        {
            "format": FORMAT,
            "token": record.token,
            "run": record.run,
            "id": record.id,
            "checkpoint": record.checkpoint,
            "socket": record.socket,
            "status_file": record.status_file,
            "lease_until": show_moment(record.lease_until),
            "lease_seconds": record.lease_seconds,
        }
    )


def _read(path: str) -> LockRecord | None:
    try:
        fields = Fields(read_json(path), path)
    except FileNotFoundError:
        return None
    fields.check_format(FORMAT)
    if not is_token(fields.text("token")):
        raise fields.bad("token", "is none that a run has")
    if not 1 <= fields.integer("lease_seconds") <= LONGEST_LEASE:
        raise fields.bad("lease_seconds", f"is not between a second and {LONGEST_LEASE}")
    return LockRecord(
        token=fields.text("token"),
        run=fields.text("run", ""),
        id=fields.text("id"),
        checkpoint=fields.text("checkpoint", ""),
        socket=fields.text("socket", ""),
        status_file=fields.text("status_file", ""),
        lease_until=fields.moment("lease_until"),
        lease_seconds=fields.integer("lease_seconds"),
    )


def read_lock(paths: DomainPaths) -> LockRecord | None:
    """Return the lock, or ``None`` when nobody has it. An unreadable one is a :class:`StateError`: it may be held."""
    try:
        return _read(paths.lock)
    except StateError as error:
        raise StateError(
            f"{error.message} Nobody knows who has the lock; when no run is alive, remove it with restore_point, "
            "state absent, break_lock true."
        ) from error


def lease_end(record: LockRecord, now: datetime.datetime) -> datetime.datetime:
    """Return when the lease ends: the later of what the lock says and what the heartbeat of the copy extends it to.

    A heartbeat from the future (a clock that was set back since) counts as of now.
    """
    beat = _heartbeat(record.status_file)
    if beat is None:
        return record.lease_until
    return max(record.lease_until, min(beat, now) + datetime.timedelta(seconds=record.lease_seconds))


def _heartbeat(path: str) -> datetime.datetime | None:
    if not path:
        return None
    try:
        updated = read_json(path).get("updated")
    except (NotJson, OSError):
        return None
    return parse_moment(updated) if isinstance(updated, str) else None


def is_over(paths: DomainPaths, record: LockRecord, now: datetime.datetime) -> bool:
    """Whether nobody works under this lock any more: its lease ended, or its restore point is published.

    The second happens when a run died between its commit and giving the lock back; after its commit it changes nothing.
    """
    # A removal and a repair have words for an id, and in a lock that somebody else wrote it may be a path.
    return lease_end(record, now) <= now or (is_id(record.id) and is_directory(paths.point(record.id)))


def acquire(paths: DomainPaths, record: LockRecord, now: datetime.datetime) -> LockRecord | None:
    """Take the lock, and return the expired one that was taken over, if any. Raises :class:`LockHeld`."""
    with guard(paths):
        found = read_lock(paths)
        if found is not None:
            if not is_over(paths, found, now):
                raise LockHeld(_held_sentence(found, now))
            _move_away(paths, found)
        _create(paths, record)
        try:
            _sweep(paths)
            sync_directory(paths.root)
        except BaseException:
            # Whoever is told of an error has no token to give back, and all others would wait for the lease.
            with contextlib.suppress(OSError):
                os.unlink(paths.lock)
            raise
    return found


@contextlib.contextmanager
def held(
    paths: DomainPaths, run: str, purpose: str, seconds: int, clock: Callable[[], datetime.datetime]
) -> Iterator[str]:
    """Hold the lock for something that publishes nothing (a removal, a repair); yield its token.

    ``purpose`` stands in the lock where a run has the id that it will publish, and must not look like one.
    """
    token = secrets.token_hex(16)
    until = clock() + datetime.timedelta(seconds=seconds)
    acquire(paths, LockRecord(token, run, purpose, "", "", "", until, seconds), clock())
    try:
        yield token
    finally:
        release(paths, token)


def require_free(paths: DomainPaths, now: datetime.datetime) -> None:
    """Raise :class:`LockHeld` when :func:`acquire` would; changes nothing, so it promises nothing either."""
    found = read_lock(paths)
    if found is not None and not is_over(paths, found, now):
        raise LockHeld(_held_sentence(found, now))


def _held_sentence(record: LockRecord, now: datetime.datetime) -> str:
    end = show_moment(lease_end(record, now))
    return (
        f"the run {record.run!r} holds the lock of this domain for restore point {record.id} until {end}; wait for it, "
        "or, when that run is known to be dead, use restore_point with state absent and break_lock true."
    )


def _move_away(paths: DomainPaths, expected: LockRecord) -> None:
    aside = f"{paths.lock}.{expected.token}.expired"
    try:
        os.rename(paths.lock, aside)
    except FileNotFoundError:
        raise LockHeld("another run takes over this domain's expired lock right now; try again.") from None
    moved = _read(aside)
    if moved is not None and moved.token != expected.token:
        with contextlib.suppress(FileExistsError):
            os.link(aside, paths.lock)
        os.unlink(aside)
        raise LockHeld(f"the run {moved.run!r} took over this domain's lock a moment ago; wait for it.")
    os.unlink(aside)


def _create(paths: DomainPaths, record: LockRecord) -> None:
    temporary = write_temporary(paths.root, [_to_bytes(record)], f"lock.{record.token}")
    try:
        os.link(temporary, paths.lock)
    except FileExistsError:
        raise LockHeld("another run took this domain's lock a moment ago; wait for it.") from None
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise StateError(
                f"{paths.root} is on a file system without hard links, which the lock needs; use another file system."
            ) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # swept later: what was done stands, and is not to be told as an error
            os.unlink(temporary)


def _sweep(paths: DomainPaths) -> None:
    """Remove what a process that was killed inside the guard left; while we are in it, nobody else uses these."""
    prefix, keep = os.path.basename(paths.lock) + ".", os.path.basename(paths.guard)
    for name in os.listdir(paths.root):
        if name.startswith(prefix) and name != keep:
            with contextlib.suppress(IsADirectoryError):  # not ours
                os.unlink(os.path.join(paths.root, name))


def check_token(paths: DomainPaths, token: str) -> LockRecord:
    """Return the lock when ``token`` still holds it, else raise :class:`LockLost`; call it inside :func:`guard`.

    An expired lease that nobody has taken over is still ours: the run is slow, not dead.
    """
    found = read_lock(paths)
    if found is None:
        raise LockLost("token: this run no longer holds the lock of the domain; nothing was changed, start a new run.")
    if found.token != token:
        raise LockLost(
            f"token: this run lost the lock of the domain to the run {found.run!r} (restore point {found.id}); "
            "nothing was changed, start a new run."
        )
    return found


def renew(paths: DomainPaths, token: str, now: datetime.datetime) -> LockRecord:
    """Begin the lease anew; raises :class:`LockLost`. Call it inside :func:`guard`."""
    found = check_token(paths, token)
    until = now + datetime.timedelta(seconds=found.lease_seconds)
    fresh = LockRecord(**{**vars(found), "lease_until": until})
    temporary = write_temporary(paths.root, [_to_bytes(fresh)], f"lock.{token}")
    os.rename(temporary, paths.lock)
    return fresh


def release(paths: DomainPaths, token: str) -> bool:
    """Give the lock back; ``False`` when it was not ours (any more), which needs no error: we are done with it."""
    if not is_there(paths.lock):
        return False
    with guard(paths):
        found = read_lock(paths)
        if found is None or found.token != token:
            return False
        os.unlink(paths.lock)
        _sweep(paths)
        sync_directory(paths.root)
    return True


def break_lock(paths: DomainPaths) -> bool:
    """Remove whatever lock there is, readable or not, because an operator knows that its run is dead."""
    if not is_there(paths.lock):
        return False
    with guard(paths):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(paths.lock)
        _sweep(paths)
        sync_directory(paths.root)
    return True
