# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Let each system call of a run fail in turn, as full and as broken storage does: one sentence, and the old state or the new.

Each case is done again and again, with the fault one call later each time, until it is not met any more.
"""

from __future__ import annotations

import errno
import os
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store import tries
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.bad_storage import (
    FAULTS,
    READ_ONLY,
    Fault,
    Storage,
)
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import Run, make_repository, run
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_scene import Scene, in_memory

if t.TYPE_CHECKING:
    import pathlib

pytestmark = pytest.mark.slow


def each_fault(
    scene: Scene, fault: Fault, action: t.Callable[[], t.Any], least: int
) -> t.Iterator[tuple[BaseException | None, t.Any]]:
    """Do ``action`` with the fault one call later each time; yield the error or the outcome, with the fault over."""
    scene.keep()
    number, met = 0, True
    while met:
        scene.again()
        number += 1
        storage = Storage(fault, number, scene.repository)
        error: BaseException | None = None
        outcome = None
        with storage.at_work():
            try:
                outcome = action()
            except Exception as caught:
                error = caught
        met = storage.met >= number
        in_words(error)
        yield error, outcome
    assert number > least, "hardly anything failed"


def in_words(error: BaseException | None) -> None:
    """Insist on one sentence for a human."""
    if error is not None:
        if not isinstance(error, BackupError):
            raise error
        assert error.message.endswith("."), error.message
        assert "\n" not in error.message


@pytest.fixture(autouse=True)
def tried(request: pytest.FixtureRequest) -> t.Iterator[None]:
    with tries.told(request.node):
        yield


@pytest.fixture
def scene() -> t.Iterator[Scene]:
    with in_memory() as folder:
        yield Scene(folder)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_staged(scene: Scene, fault: Fault) -> None:
    path = str(scene.repository)
    for error, _outcome in each_fault(scene, fault, lambda: Run(path, checkpoints=[scene.checkpoint()]), 3):
        assert scene.published() == [scene.first]
        if error is not None and fault is not READ_ONLY:
            Run(path, checkpoints=[scene.checkpoint()]).absent()  # without waiting for a lease or breaking a lock
        new, _leftovers = scene.next_run()
        scene.check(scene.first, new)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_present(scene: Scene, fault: Fault) -> None:
    """An error means that there is no restore point, but where the storage does not even let its name be taken back."""
    started = Run(str(scene.repository), checkpoints=[scene.checkpoint()]).extract()
    new = started.plan["id"]
    for error, outcome in each_fault(scene, fault, started.present, 5):
        after = scene.published()
        if error is None:
            assert after == [scene.first, new]
            assert outcome.changed
        elif fault is not READ_ONLY:
            assert after == [scene.first]
        following, leftovers = scene.next_run()
        assert leftovers == ([] if new in after else [new])
        scene.check(*after, following)


def test_content_that_could_not_be_synced_is_never_published(scene: Scene) -> None:
    """The kernel tells of lost content once, and calls the next sync good."""
    started = Run(str(scene.repository), checkpoints=[scene.checkpoint()]).extract()
    fault = Fault("sync", ("os.fsync",), errno.EIO)
    images = 0
    for error, _outcome in each_fault(scene, fault, started.present, 5):
        staging = scene.repository / started.plan["disks"][0]["image"]
        if error is not None and not staging.exists():
            images += 1
            with pytest.raises(BackupError, match="has no image"):
                started.present()
            assert scene.published() == [scene.first]
    assert images == 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_giving_up(scene: Scene, fault: Fault) -> None:
    """The same call again finishes it."""
    started = Run(str(scene.repository), checkpoints=[scene.checkpoint()]).extract()
    for _error, _outcome in each_fault(scene, fault, started.absent, 1):
        assert scene.published() == [scene.first]
        started.absent()
        assert not started.absent().changed
        scene.check(scene.first)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_removing_a_restore_point(scene: Scene, fault: Fault) -> None:
    second = Run(str(scene.repository), checkpoints=[scene.checkpoint()]).extract().present().result["id"]
    path = str(scene.repository)
    for error, _outcome in each_fault(scene, fault, lambda: run("absent", repository=path, id=second), 3):
        after = scene.published()
        assert after in ([scene.first, second], [scene.first]) if error else after == [scene.first]
        run("absent", repository=path, id=second, break_lock=True)
        scene.check(scene.first)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_making_a_repository(tmp_path: pathlib.Path, fault: Fault) -> None:
    number, met = 0, True
    while met:
        number += 1
        path = tmp_path / str(number)
        storage = Storage(fault, number, path)
        error: BaseException | None = None
        with storage.at_work():
            try:
                make_repository(path)
            except Exception as caught:
                error = caught
        met = storage.met >= number
        in_words(error)
        assert make_repository(path) == make_repository(path)
        assert sorted(os.listdir(path)) == ["repository.json"]
    assert number > 3
