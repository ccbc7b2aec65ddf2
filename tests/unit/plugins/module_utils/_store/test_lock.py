# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock: one wins, whoever else comes; who is dead doesn't block for ever; who lost it changes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import json
import multiprocessing
import os
import signal
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._model.staging import LockRecord
from ansible_collections.virt.backup.plugins.module_utils._store import lock
from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    NOW,
    checkpoint_of,
    point_id,
)

if t.TYPE_CHECKING:
    import pathlib

CONTENDERS = 8
ROUNDS = 25
HOUR = datetime.timedelta(hours=1)


def record(token: str = "aa", day: int = 1, until: datetime.datetime = NOW + HOUR, **changes: t.Any) -> LockRecord:
    found = LockRecord(token, f"run {token}", point_id(day), checkpoint_of(day), "/run/x.sock", "", until, 3600)
    return dataclasses.replace(found, **changes)


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> DomainPaths:
    return DomainPaths(str(tmp_path))


def names(paths: DomainPaths) -> list[str]:
    return sorted(os.listdir(paths.root))


def test_taken_read_and_given_back(paths: DomainPaths) -> None:
    assert lock.acquire(paths, record(), NOW) is None
    assert lock.read_lock(paths) == record()
    assert names(paths) == ["lock", "lock.guard"]
    assert lock.release(paths, "aa")
    assert not lock.release(paths, "aa")
    assert lock.read_lock(paths) is None


def test_held_by_another_run(paths: DomainPaths) -> None:
    lock.acquire(paths, record(), NOW)
    with pytest.raises(lock.LockHeld) as caught:
        lock.acquire(paths, record("bb"), NOW)
    assert "the run 'run aa' holds the lock" in caught.value.message
    assert "until 2026-11-23T03:15:00Z" in caught.value.message
    assert "break_lock" in caught.value.message
    assert lock.read_lock(paths) == record()
    with pytest.raises(lock.LockHeld):
        lock.require_free(paths, NOW)


@pytest.mark.parametrize(("seconds", "over"), [(-1, False), (0, True), (1, True)])
def test_a_lease_ends(paths: DomainPaths, seconds: int, over: bool) -> None:
    lock.acquire(paths, record(), NOW)
    later = NOW + HOUR + datetime.timedelta(seconds=seconds)
    if not over:
        with pytest.raises(lock.LockHeld):
            lock.acquire(paths, record("bb"), later)
        return
    assert lock.acquire(paths, record("bb"), later) == record()
    assert lock.read_lock(paths) == record("bb")
    assert names(paths) == ["lock", "lock.guard"]


def test_the_loser_changes_nothing(paths: DomainPaths) -> None:
    lock.acquire(paths, record(), NOW)
    lock.acquire(paths, record("bb"), NOW + 2 * HOUR)
    with pytest.raises(lock.LockLost, match="lost the lock of the domain to the run 'run bb'"), lock.guard(paths):
        lock.renew(paths, "aa", NOW)
    assert not lock.release(paths, "aa")
    assert lock.read_lock(paths) == record("bb")


def test_a_lost_lock_without_a_successor(paths: DomainPaths) -> None:
    with pytest.raises(lock.LockLost, match="no longer holds the lock"), lock.guard(paths):
        lock.check_token(paths, "aa")


def test_an_expired_lease_that_nobody_took_is_still_ours(paths: DomainPaths) -> None:
    lock.acquire(paths, record(), NOW)
    later = NOW + 5 * HOUR
    with lock.guard(paths):
        assert lock.renew(paths, "aa", later).lease_until == later + HOUR
    found = lock.read_lock(paths)
    assert found is not None
    assert found.lease_until == later + HOUR


def test_a_published_restore_point_ends_its_lock(paths: DomainPaths) -> None:
    lock.acquire(paths, record(), NOW)
    os.mkdir(paths.point(point_id(1)))
    assert lock.acquire(paths, record("bb", day=2), NOW) == record()


@pytest.mark.parametrize(
    ("updated", "extended"),
    [
        ("2026-11-23T04:00:00+00:00", NOW + datetime.timedelta(minutes=105) + HOUR),
        ("2026-11-23T04:00:00Z", NOW + datetime.timedelta(minutes=105) + HOUR),
        ("2026-11-23T01:00:00+00:00", NOW + HOUR),  # an old heartbeat takes nothing away
        ("2099-01-01T00:00:00+00:00", NOW + 3 * HOUR),  # one from the future counts as of now
        ("nonsense", NOW + HOUR),
        (None, NOW + HOUR),
        (7, NOW + HOUR),
    ],
)
def test_the_heartbeat_extends_the_lease(
    paths: DomainPaths, tmp_path: pathlib.Path, updated: object, extended: datetime.datetime
) -> None:
    status = tmp_path / "status.json"
    status.write_text(json.dumps({"updated": updated}), encoding="utf-8")
    assert lock.lease_end(record(status_file=str(status)), NOW + 2 * HOUR) == extended


def test_a_missing_or_broken_status_file_extends_nothing(paths: DomainPaths, tmp_path: pathlib.Path) -> None:
    assert lock.lease_end(record(status_file="/nonexistent"), NOW) == NOW + HOUR
    (tmp_path / "status.json").write_text("{", encoding="utf-8")
    assert lock.lease_end(record(status_file=str(tmp_path / "status.json")), NOW) == NOW + HOUR


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 2}', b"\xff\xfe"])
def test_an_unreadable_lock_blocks_until_an_operator_removes_it(paths: DomainPaths, content: bytes) -> None:
    with open(paths.lock, "wb") as stream:
        stream.write(content)
    with pytest.raises(StateError, match="break_lock"):
        lock.acquire(paths, record(), NOW)
    assert lock.break_lock(paths)
    assert not lock.break_lock(paths)
    lock.acquire(paths, record(), NOW)


def test_what_a_kill_inside_the_guard_leaves_is_swept(paths: DomainPaths) -> None:
    for name in ("lock.aa.expired", "lock.bb.0123456789ab.tmp"):
        with open(os.path.join(paths.root, name), "w", encoding="utf-8"):
            pass
    lock.acquire(paths, record(), NOW)
    assert names(paths) == ["lock", "lock.guard"]


def test_a_link_in_the_place_of_the_lock_is_not_followed(paths: DomainPaths, tmp_path: pathlib.Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    os.symlink(victim, paths.lock)
    with pytest.raises(StateError):
        lock.acquire(paths, record(), NOW)
    os.unlink(paths.lock)
    os.unlink(paths.guard)
    os.symlink(victim, paths.guard)
    with pytest.raises(OSError, match="symbolic links"):
        lock.acquire(paths, record(), NOW)
    assert victim.read_text(encoding="utf-8") == "mine"


def _contend(root: str, barrier: t.Any, results: t.Any, me: int, now: datetime.datetime) -> None:
    """Every round: all start at once, one gets the lock; that one says so, and it stays until all have tried."""
    paths = DomainPaths(root)
    for number in range(ROUNDS):
        token = f"{number:04d}{me:04d}"
        moment = now + number * 2 * HOUR  # whoever won the last round has an expired lease now
        barrier.wait()
        with contextlib.suppress(lock.LockHeld):
            lock.acquire(paths, record(token, until=moment + HOUR), moment)
            results.put((number, token))
        barrier.wait()


def test_of_many_contenders_exactly_one_wins(tmp_path: pathlib.Path) -> None:
    """Round 0 contends for a free lock, each later one for an expired lock."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(CONTENDERS), context.SimpleQueue()
    workers = [
        context.Process(target=_contend, args=(str(tmp_path), barrier, results, me, NOW)) for me in range(CONTENDERS)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * CONTENDERS
    wins: dict[int, list[str]] = {number: [] for number in range(ROUNDS)}
    while not results.empty():
        number, token = results.get()
        wins[number].append(token)
    assert [len(tokens) for tokens in wins.values()] == [1] * ROUNDS
    held = lock.read_lock(DomainPaths(str(tmp_path)))
    assert held is not None
    assert held.token == wins[ROUNDS - 1][0]


def test_where_flock_means_nothing_a_newer_lock_is_put_back(
    paths: DomainPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the expired lock and moving it away, another contender has replaced it."""
    lock.acquire(paths, record("old"), NOW)
    rename, later = os.rename, NOW + 2 * HOUR

    def interrupted(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        monkeypatch.setattr(lock, "guard", lambda paths: contextlib.nullcontext())
        lock.acquire(paths, record("faster", until=later + HOUR), later)
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(lock.LockHeld, match="run faster"):
        lock.acquire(paths, record("slower"), later)
    found = lock.read_lock(paths)
    assert found is not None
    assert found.token == "faster"


def test_where_flock_means_nothing_the_faster_one_wins(paths: DomainPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both see the expired lock; the other one has moved it away already, or has taken the free place."""
    lock.acquire(paths, record("old"), NOW)
    rename, link = os.rename, os.link

    def gone(source: str, target: str) -> None:
        os.unlink(source)
        rename(source, target)

    def taken(source: str, target: str) -> None:
        with open(target, "w", encoding="utf-8"):
            pass
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", gone)
        with pytest.raises(lock.LockHeld, match="takes over"):
            lock.acquire(paths, record("bb"), NOW + 2 * HOUR)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", taken)
        with pytest.raises(lock.LockHeld, match="a moment ago"):
            lock.acquire(paths, record("bb"), NOW)


def test_a_file_system_without_links_is_named(paths: DomainPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: str, target: str) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(StateError, match="without hard links"):
        lock.acquire(paths, record(), NOW)
    assert names(paths) == ["lock.guard"]


def _die_in_the_guard(root: str) -> None:
    with lock.guard(DomainPaths(root)):
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_guard_ends_with_the_process_that_has_it(paths: DomainPaths) -> None:
    worker = multiprocessing.get_context("fork").Process(target=_die_in_the_guard, args=(paths.root,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    lock.acquire(paths, record(), NOW)
