# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""State files in their place, and taken back."""

from __future__ import annotations

import os
import pathlib
import stat

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.state_file import Nvram, Tpm
from ansible_collections.virt.backup.plugins.module_utils._run.domain_source import from_content
from ansible_collections.virt.backup.plugins.module_utils._run.domain_state import (
    Placement,
    Undo,
    place,
    placement_problems,
    placements,
    state_warnings,
)

UUID = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"


def stored(folder: pathlib.Path, name: str = "nvram", content: bytes = b"stored") -> Placement:
    source = folder / f"source-{name}"
    source.write_bytes(content)
    (file,) = from_content("<domain/>", ((name, str(source)),), "").files
    (folder / "place").mkdir(exist_ok=True)
    return Placement(file, str(folder / "place" / name))


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_file_is_roots_alone_and_goes_again(tmp_path: pathlib.Path) -> None:
    wanted, undo = stored(tmp_path), Undo()
    before = files(tmp_path)
    assert (wanted.is_there(), wanted.problem(overwrite=False)) == (False, "")
    place(wanted, undo)
    assert wanted.is_there()
    assert stat.S_IMODE(os.stat(wanted.target).st_mode) == 0o600
    undo.roll_back(BackupError("x"))
    assert files(tmp_path) == before


def test_an_older_file_comes_back_with_its_rights(tmp_path: pathlib.Path) -> None:
    wanted, undo = stored(tmp_path), Undo()
    older = pathlib.Path(wanted.target)
    older.write_bytes(b"older")
    older.chmod(0o640)
    before, inode = files(tmp_path), older.stat().st_ino
    assert "is there already and holds something else; set overwrite" in wanted.problem(overwrite=False)
    assert wanted.problem(overwrite=True) == ""
    place(wanted, undo)
    assert (older.read_bytes(), stat.S_IMODE(older.stat().st_mode)) == (b"stored", 0o640)
    undo.roll_back(BackupError("x"))
    assert (files(tmp_path), older.stat().st_ino) == (before, inode)


def test_nothing_is_left_when_all_is_well(tmp_path: pathlib.Path) -> None:
    wanted, undo = stored(tmp_path), Undo()
    pathlib.Path(wanted.target).write_bytes(b"older")
    (tmp_path / "place/.nvram.before-restore").write_bytes(b"left by a kill")
    place(wanted, undo)
    undo.settle()
    assert files(tmp_path / "place") == {"nvram": b"stored"}


def test_the_same_file_is_left_alone(tmp_path: pathlib.Path) -> None:
    wanted, undo = stored(tmp_path), Undo()
    pathlib.Path(wanted.target).write_bytes(b"stored")
    inode = os.stat(wanted.target).st_ino
    assert wanted.problem(overwrite=False) == ""
    (tmp_path / "place/.nvram.before-restore").write_bytes(b"left by a kill after the rename")
    place(wanted, undo)
    undo.settle()
    assert os.stat(wanted.target).st_ino == inode
    assert files(tmp_path / "place") == {"nvram": b"stored"}


def test_a_directory_of_its_own_is_made_and_goes_again(tmp_path: pathlib.Path) -> None:
    wanted, undo = stored(tmp_path, "tpm2-00.permall"), Undo()
    deep = Placement(wanted.stored, str(tmp_path / "place/uuid/tpm2/tpm2-00.permall"), own_directory=True)
    assert deep.problem(overwrite=False) == ""
    before = files(tmp_path)
    place(deep, undo)
    (tmp_path / "place/uuid/tpm2/.lock").touch()  # as the emulator leaves one
    undo.roll_back(BackupError("x"))
    assert files(tmp_path) == before
    assert list((tmp_path / "place").iterdir()) == []


def test_what_can_be_said_before(tmp_path: pathlib.Path) -> None:
    wanted = stored(tmp_path)
    nowhere = Placement(wanted.stored, str(tmp_path / "nowhere/nvram"))
    assert "nowhere, where nvram belongs, is not there; make the directory" in nowhere.problem(overwrite=True)
    os.symlink("/etc/shadow", wanted.target)
    assert "is no regular file; move it away" in wanted.problem(overwrite=True)


def test_another_machine_gets_no_files(tmp_path: pathlib.Path) -> None:
    wanted = stored(tmp_path)
    (sentence,) = placement_problems((wanted,), local=False, overwrite=True)
    assert "nvram can only be put in place by a task on the hypervisor itself" in sentence
    assert placement_problems((wanted,), local=True, overwrite=False) == []


def test_a_source_that_changes_meanwhile_is_noticed(tmp_path: pathlib.Path) -> None:
    wanted, undo = stored(tmp_path), Undo()
    pathlib.Path(wanted.stored.path).write_bytes(b"changed")
    with pytest.raises(StateError, match="has changed while it was copied") as caught:
        place(wanted, undo)
    undo.roll_back(caught.value)
    assert files(tmp_path / "place") == {}


def test_what_cannot_be_taken_back_is_told_beside_the_error() -> None:
    def failing() -> None:
        raise OSError("no")

    undo, error = Undo(), BackupError("first")
    undo.add("the file", failing)
    undo.roll_back(error)
    assert error.as_result()["msg"] == "first While cleaning up: the file could not be taken back: no."


def test_each_file_has_its_place_in_the_domain(tmp_path: pathlib.Path) -> None:
    names = ("nvram", "tpm2-00.permall", "tpm.state")
    content = tuple((name, stored(tmp_path, name).stored.path) for name in names)
    found = from_content("<domain/>", content, "").files
    domain = Domain("web", UUID, nvram=Nvram("/n/web.fd"), tpm=Tpm())
    assert [place.target for place in placements(found[:2], domain)] == [
        "/n/web.fd",
        f"/var/lib/libvirt/swtpm/{UUID}/tpm2/tpm2-00.permall",
    ]
    one_file = Domain("web", UUID, tpm=Tpm(source_type="file", source="/t/state"))
    assert [place.target for place in placements(found, one_file)][-1] == "/t/state"
    assert placements(found, Domain("web", UUID)) == ()
    assert state_warnings(found[:2], domain, placements(found[:2], domain)) == []
    assert [sentence.split()[5] for sentence in state_warnings((), domain, ())] == ["NVRAM:", "state"]
    assert [sentence.split()[0] for sentence in state_warnings(found, Domain("web", UUID), ())] == list(names)
