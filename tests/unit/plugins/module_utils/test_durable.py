# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory is synced, or an error says that it could not be; a file system that cannot do it at all is no error."""

from __future__ import annotations

import errno
import os
import pathlib

import pytest

from ansible_collections.virt.backup.plugins.module_utils._durable import sync_directory


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_directory_itself_is_synced(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    sync_directory(str(tmp_path))
    assert synced == [tmp_path.stat().st_ino]


@pytest.mark.parametrize(("number", "matters"), [(errno.EINVAL, False), (errno.EIO, True), (errno.ENOSPC, True)])
def test_only_what_cannot_be_synced_anywhere_is_passed_over(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, number: int, matters: bool
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    before, raised = open_files(), 0
    try:
        sync_directory(str(tmp_path))
    except OSError as error:
        raised = error.errno or -1
    assert raised == (number if matters else 0)
    assert open_files() == before


def test_a_file_is_no_directory(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_directory(str(tmp_path / "file"))
