# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a copy is, as virt_backup_info tells it from the file that nbd_extract writes."""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy.status import Progress, StatusFile
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._run import info

if t.TYPE_CHECKING:
    from pathlib import Path


class FakeHypervisor:
    """One without domains."""

    def versions(self) -> dict[str, str]:
        return {}

    def supports_backup(self) -> bool:
        return True

    def domains(self) -> list[object]:
        return []


@pytest.fixture(autouse=True)
def hypervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "connect", lambda _uri: contextlib.nullcontext(FakeHypervisor()))


def progress(path: Path | str) -> t.Any:
    result = info.backup_info("qemu:///system", "", secure=False, status_file=str(path)).result
    return result["progress"]


def test_what_was_written_is_told(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    StatusFile(str(path)).write([Progress("/a", "copying", 5, 10, 3), Progress("/b", "done", 7, 7, 0)])
    told = progress(path)
    assert told["images"][0] == {
        "dest": "/a",
        "state": "copying",
        "bytes_done": 5,
        "bytes_total": 10,
        "bytes_copied": 3,
        "rate": 0,
    }
    assert told["total"] == {"bytes_done": 12, "bytes_total": 17, "bytes_copied": 3, "rate": 0}
    assert told["updated"].endswith("+00:00")


def test_a_copy_that_did_not_begin(tmp_path: Path) -> None:
    assert progress(tmp_path / "status.json") is None


def test_nothing_is_told_unasked() -> None:
    assert "progress" not in info.backup_info("qemu:///system", "", secure=False).result


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "can't be understood"),
        ("[]", "can't be understood"),
        ("{}", "is not a status file of this version"),
        ('{"format": 2, "updated": "", "images": [], "total": {}}', "is not a status file of this version"),
        ('{"format": 1, "images": []}', "is not a status file of this version"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "status.json"
    path.write_text(content)
    with pytest.raises(InputError, match=why) as caught:
        progress(path)
    assert caught.value.message.startswith("status_file: ")
    assert str(path) in caught.value.message


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(InputError, match=r"^status_file: .*absolute"):
        progress("status.json")
