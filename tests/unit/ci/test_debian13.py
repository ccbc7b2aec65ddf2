# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The step on Debian 13: what it names must exist, and a root is made anew when its packages change."""

from __future__ import annotations

from pathlib import Path

import guard
import pytest
import steps_real
from debian13 import root


def test_a_name_without_tests_is_red() -> None:
    assert steps_real._found(("unit/ci/test_deb*.py",)) == ["tests/unit/ci/test_debian13.py"]
    with pytest.raises(guard.Red, match="gone"):
        steps_real._found(("unit/ci/test_debian13.py", "unit/ci/test_gone*.py"))


def test_all_that_the_step_names_is_there() -> None:
    assert len(steps_real._found(steps_real._ON_DEBIAN_13)) >= len(steps_real._ON_DEBIAN_13)


def test_a_root_is_made_of_its_lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lists = tmp_path / "one", tmp_path / "two"
    for path in lists:
        path.write_text("nbdkit\n")
    monkeypatch.setattr(root, "LISTS", lists)
    before = root._fingerprint()
    assert root._fingerprint() == before
    lists[1].write_text("nbdkit\nqemu-utils\n")
    assert root._fingerprint() != before


def test_a_root_that_could_not_be_made_leaves_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*unused: str) -> None:
        raise root.RootError("no mirror")

    monkeypatch.setattr(root, "FOLDER", tmp_path)
    monkeypatch.setattr(root, "_run", fail)
    monkeypatch.setattr(root.shutil, "which", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(root.os, "geteuid", lambda: 0)
    monkeypatch.setattr(root, "CHECKOUT", tmp_path)
    with pytest.raises(root.RootError, match="no mirror"):
        root.ensure()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    monkeypatch.setattr(root.os, "geteuid", lambda: 1000)
    with pytest.raises(root.RootError, match="sudo"):
        root.ensure()
