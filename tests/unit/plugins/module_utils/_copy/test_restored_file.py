# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several disks get their names, or none: an error and a kill at each system call that changes anything."""

from __future__ import annotations

import contextlib
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy import restored_file
from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Attributes
from ansible_collections.virt.backup.plugins.module_utils._copy.restored_file import (
    RestoredFile,
    publish_all,
    restored_path,
    stamp_of,
    sweep,
)
from ansible_collections.virt.backup.plugins.module_utils._model.restored import RestoredRecord

NAMES = ("a.qcow2", "b.raw", "c.qcow2")
OLD = {"a.qcow2": "old a", "b.raw": "old b"}
"""What is there before: two disks are replaced, and one is new."""

CALLS = ("link", "rename", "unlink")


class Killed(BaseException):
    """The process ends here: nothing that comes after is done."""


class Failing:
    """Stands in for :mod:`os` where files are renamed; does the first ``count`` changes, then raises at each."""

    def __init__(self, count: int, error: BaseException) -> None:
        self._left, self._error = count, error

    def __getattr__(self, name: str) -> t.Any:
        return self._counted(getattr(os, name)) if name in CALLS else getattr(os, name)

    def _counted(self, call: t.Callable[..., None]) -> t.Callable[..., None]:
        def counted(*args: t.Any) -> None:
            if self._left == 0:
                self._left = -1
                raise self._error
            self._left -= 1
            call(*args)

        return counted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in OLD.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def record_of(name: str, stamp: str) -> RestoredRecord:
    return RestoredRecord("repository", "uuid", "point", name, "raw", 1, "", stamp)


def drafts(folder: Path) -> list[RestoredFile]:
    """Return complete files, as they are before the first gets its name."""
    made = []
    for name in NAMES:
        draft = RestoredFile(str(folder / name), Attributes(-1, -1, 0o640))
        os.write(draft.fd, f"new {name}".encode())
        draft.sync()
        draft.write_record(record_of(name, stamp_of(draft.image)))
        made.append(draft)
    return made


def shown(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")}


def vouched(folder: Path) -> list[str]:
    """Return the disks that a second call would leave as they are."""
    found = []
    for name in NAMES:
        path = folder / name
        record = Path(restored_path(str(path)))
        if path.exists() and record.exists() and stamp_of(str(path)) in record.read_text():
            found.append(name)
    return found


def test_all_get_their_names_and_nothing_else_stays(folder: Path) -> None:
    made = drafts(folder)
    assert shown(folder) == OLD
    publish_all(made)
    for draft in made:
        draft.close()
    assert shown(folder) == {name: f"new {name}" for name in NAMES}
    assert {path.name for path in folder.iterdir()} == {*NAMES, *(f".{name}.restored.json" for name in NAMES)}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}
    assert vouched(folder) == list(NAMES)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 7])
def test_an_error_gives_everything_back(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """At each rename. A hard link that can't be made, which are the calls 0 and 3, is no error by itself."""
    made = drafts(folder)
    monkeypatch.setattr(restored_file, "os", Failing(count, OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error"):
        publish_all(made)
    monkeypatch.undo()
    for draft in made:
        draft.close()
    assert shown(folder) == OLD
    assert not [path.name for path in folder.iterdir() if ".part-" in path.name or ".old-" in path.name]
    assert vouched(folder) == []


def test_without_hard_links_what_was_replaced_stays_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only case in which an error can't give the old disk back must not lose the new one, too."""
    made = drafts(folder)

    def refuse(*_args: str) -> None:
        raise OSError(1, "Operation not permitted")

    def rename(path: str, name: str) -> None:
        if name.endswith("b.raw"):
            raise OSError(5, "Input/output error")
        real(path, name)

    real = os.rename
    monkeypatch.setattr(restored_file.os, "link", refuse)
    monkeypatch.setattr(restored_file.os, "rename", rename)
    with pytest.raises(OSError, match="Input/output error"):
        publish_all(made)
    monkeypatch.undo()
    for draft in made:
        draft.close()
    assert shown(folder) == {"a.qcow2": "new a.qcow2", "b.raw": "old b"}
    assert vouched(folder) == []


def test_an_old_file_that_can_not_get_its_name_back_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage fails at the second disk, and goes on failing while the first is given back."""
    made = drafts(folder)

    def rename(path: str, name: str) -> None:
        if made[0]._published and not os.path.exists(made[0].image):
            raise OSError(5, "Input/output error")
        real(path, name)

    real = os.rename
    monkeypatch.setattr(restored_file.os, "rename", rename)
    with pytest.raises(OSError, match="Input/output error"):
        publish_all(made)
    for draft in made:
        draft.close()
    kept = [path.read_text() for path in folder.iterdir() if path.name.startswith(".a.qcow2.old-")]
    assert (kept, shown(folder)) == (["old a"], {"a.qcow2": "new a.qcow2", "b.raw": "old b"})


@pytest.mark.parametrize("count", range(12))
def test_a_kill_leaves_each_disk_whole_and_the_next_call_clears_the_rest(
    folder: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    made = drafts(folder)
    monkeypatch.setattr(restored_file, "os", Failing(count, Killed()))
    monkeypatch.setattr(RestoredFile, "withdraw", lambda _self: None)
    with contextlib.suppress(Killed):
        publish_all(made)
    monkeypatch.undo()
    for draft in made:
        os.close(draft.fd)  # which gives back its lock, as the end of the process does
    for name, content in shown(folder).items():
        assert content in (OLD.get(name), f"new {name}")
    assert OLD.keys() <= shown(folder).keys()
    for name in vouched(folder):
        assert shown(folder)[name] == f"new {name}"
    for name in NAMES:
        sweep(str(folder / name))
    left = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    assert left <= {f".{name}.restored.json" for name in NAMES}


def test_the_sweep_spares_what_is_written_and_what_is_anothers(folder: Path) -> None:
    draft = RestoredFile(str(folder / "a.qcow2"), Attributes(-1, -1, 0o600))
    others = (".a.qcow2.part-12", ".b.raw.part-00000000", ".a.qcow2.part-0000000g", "a.qcow2.part-00000000")
    for name in others:
        (folder / name).write_text("x")
    (folder / ".a.qcow2.part-00000000").write_text("x")
    sweep(str(folder / "a.qcow2"))
    assert os.path.exists(draft.image)
    assert not (folder / ".a.qcow2.part-00000000").exists()
    assert all((folder / name).exists() for name in others)
    draft.close()
    assert not os.path.exists(draft.image)


def test_whose_a_file_is_does_not_change_its_stamp_and_a_write_does(folder: Path) -> None:
    path = folder / "a.qcow2"
    before = stamp_of(str(path))
    path.chmod(0o600)
    assert stamp_of(str(path)) == before
    path.write_text("old b")
    assert stamp_of(str(path)) != before
