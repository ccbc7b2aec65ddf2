# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The staged copy is the checkout as git sees it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import stage


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "plugins").mkdir(parents=True)
    (root / ".gitignore").write_text("/build/\n")
    (root / "plugins/known.py").write_text("x = 1\n")
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


def names(folder: Path) -> list[str]:
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path) for path in files if path.parts[0] != ".git")


def test_new_files_come_along_and_ignored_ones_stay(checkout: Path, tmp_path: Path) -> None:
    (checkout / "build").mkdir()
    (checkout / "build/log").write_text("")
    assert stage.update(checkout, tmp_path / "stage") == 2
    assert names(tmp_path / "stage") == [".gitignore", "plugins/known.py"]


def test_what_is_gone_goes_and_what_changed_is_copied(checkout: Path, tmp_path: Path) -> None:
    staged = tmp_path / "stage"
    stage.update(checkout, staged)
    (checkout / "plugins/known.py").unlink()
    (checkout / "plugins/other.py").write_text("y = 2\n")
    stage.update(checkout, staged)
    assert names(staged) == [".gitignore", "plugins/other.py"]


def test_what_ansible_test_made_stays(checkout: Path, tmp_path: Path) -> None:
    made = tmp_path / "stage/tests/output/cache/empty"
    made.mkdir(parents=True)
    stage.update(checkout, tmp_path / "stage")
    assert made.is_dir()
    assert (tmp_path / "stage/.git").is_dir()
