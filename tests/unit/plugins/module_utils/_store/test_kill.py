# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill a run before each system call that changes anything, then let the next run find a repository that is right.

Each case is done in a child process again and again, killed one call later each time, until it comes to its end.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import signal
import typing as t

import pytest

from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store import tries
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    UUID,
    Run,
    make_repository,
    run,
)
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_scene import Scene, in_memory

pytestmark = pytest.mark.slow

CALLS = ("rename", "link", "unlink", "mkdir", "rmdir", "symlink", "fsync", "fchmod", "write")


def _kill_at(number: int) -> None:
    """Make this process die before the call of that number, counted from 0."""
    left = [number]

    def wrap(call: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        @functools.wraps(call)
        def counted(*args: t.Any, **kwargs: t.Any) -> t.Any:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*args, **kwargs)

        return counted

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def killed(number: int, action: t.Callable[[], object]) -> bool:
    """Run ``action`` in a child that dies before its ``number``-th change; return whether it got that far."""
    tries.count()
    child = os.fork()
    if not child:
        try:
            _kill_at(number)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed"
    return False


def until_done(scene: Scene, action: t.Callable[[], object]) -> t.Iterator[int]:
    """Kill ``action`` one call later each time, and yield after each kill and after the run that was not killed."""
    scene.keep()
    number = 0
    alive = False
    while not alive:
        scene.again()
        alive = not killed(number, action)
        yield number
        number += 1
    assert number > 5, "hardly anything was killed"


@pytest.fixture(autouse=True)
def tried(request: pytest.FixtureRequest) -> t.Iterator[None]:
    with tries.told(request.node):
        yield


@pytest.fixture
def scene() -> t.Iterator[Scene]:
    with in_memory() as folder:
        yield Scene(folder)


def test_staged(scene: Scene) -> None:
    """A kill leaves no restore point; the next run removes what there is and makes its own."""
    path = str(scene.repository)
    for _number in until_done(scene, lambda: Run(path, checkpoints=[scene.checkpoint()])):
        assert scene.published() == [scene.first]
        new, _leftovers = scene.next_run()
        scene.check(scene.first, new)


def test_present_and_the_same_run_again(scene: Scene) -> None:
    """A kill leaves the staging or the whole restore point; the same call again finishes it."""
    started = Run(str(scene.repository), checkpoints=[scene.checkpoint()]).extract()
    new = started.plan["id"]
    seen = set()
    for _number in until_done(scene, started.present):
        after = scene.published()
        seen.add(len(after))
        assert after in ([scene.first], [scene.first, new])
        outcome = started.present()
        assert outcome.changed is (after == [scene.first])
        assert outcome.result["restore_point"]["id"] == new
        assert not started.present().changed
        scene.check(scene.first, new)
    assert seen == {1, 2}


def test_present_and_the_next_run(scene: Scene) -> None:
    """A kill leaves the staging or the whole restore point; the next run knows which, and builds on it or removes it."""
    started = Run(str(scene.repository), checkpoints=[scene.checkpoint()]).extract()
    new = started.plan["id"]
    for _number in until_done(scene, started.present):
        before = scene.published()
        following, leftovers = scene.next_run()
        assert leftovers == ([] if new in before else [new])
        scene.check(*before, following)


def test_noting_what_is_wrong_with_a_base(scene: Scene) -> None:
    """A kill leaves the note or none, never a half; beside it at most a temporary file that nobody reads."""
    started = Run(str(scene.repository), checkpoints=[scene.checkpoint()])
    own = {"repository": str(scene.repository), "id": started.plan["id"], "token": started.plan["token"]}
    found = [{"dest": started.plan["disks"][0]["image"], "problem": "it differs"}]
    levels = []
    for _number in until_done(scene, lambda: run("staged", **own, domain_name="web", mismatches=found)):
        new, _leftovers = scene.next_run()
        assert scene.published() == [scene.first, new]
        manifest = scene.repository / UUID / new / "manifest.json"
        levels.append(json.loads(manifest.read_text(encoding="utf-8"))["disks"][0]["level"])
    assert levels == sorted(levels, reverse=True)
    assert set(levels) == {"incremental", "full"}


def test_giving_up(scene: Scene) -> None:
    """A kill leaves the staging, or half of it in the trash, or a lock; the same call again finishes it."""
    started = Run(str(scene.repository), checkpoints=[scene.checkpoint()]).extract()
    for _number in until_done(scene, started.absent):
        started.absent()
        assert not started.absent().changed
        scene.check(scene.first)


def test_giving_up_and_the_next_run(scene: Scene) -> None:
    started = Run(str(scene.repository), checkpoints=[scene.checkpoint()]).extract()
    for _number in until_done(scene, started.absent):
        new, _leftovers = scene.next_run()
        scene.check(scene.first, new)


def test_removing_a_restore_point(scene: Scene) -> None:
    """A kill leaves the whole restore point or none of it; its own short lock is the only thing in the way."""
    second = Run(str(scene.repository), checkpoints=[scene.checkpoint()]).extract().present().result["id"]
    path = str(scene.repository)
    seen = set()
    for _number in until_done(scene, lambda: run("absent", repository=path, id=second)):
        after = scene.published()
        seen.add(tuple(after))
        run("absent", repository=path, id=second, break_lock=True)
        scene.check(scene.first)
    assert seen == {(scene.first,), (scene.first, second)}


def test_making_a_repository(tmp_path: pathlib.Path) -> None:
    """A kill leaves no repository or the whole one; the same call again makes it, once."""
    number, alive = 0, False
    while not alive:
        path = tmp_path / str(number)
        alive = not killed(number, functools.partial(make_repository, path))
        first = make_repository(path)
        assert make_repository(path) == first
        assert sorted(os.listdir(path)) == ["repository.json"]
        number += 1
    assert number > 5
