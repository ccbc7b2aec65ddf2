# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a module starts itself again, and when it must not."""

from __future__ import annotations

import sys
import types

import pytest
from ansible.module_utils import basic

from ansible_collections.virt.backup.plugins.module_utils import _respawn


@pytest.fixture
def respawned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Be a module that Ansible started, on a machine whose /usr/bin/python3 has ``no_such_library``."""
    started: list[str] = []
    main = types.ModuleType("__main__")
    main._module_fqn = "ansible_collections.virt.backup.plugins.modules.x"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", b"{}")
    monkeypatch.setattr(_respawn, "respawn_module", started.append)
    monkeypatch.setattr(
        _respawn, "probe_interpreters_for_module", lambda paths, name: paths[0] if "no" in name else None
    )
    return started


def test_a_library_of_another_python(respawned: list[str]) -> None:
    _respawn.respawn_if_missing("no_such_library", "python3-x")
    assert respawned == ["/usr/bin/python3"]


def test_a_library_that_is_here(respawned: list[str]) -> None:
    _respawn.respawn_if_missing("json", "python3-x")
    assert respawned == []


def test_a_library_that_is_nowhere_is_left_to_the_gateway(respawned: list[str]) -> None:
    _respawn.respawn_if_missing("absent", "python3-absent (Debian)")
    assert respawned == []
    sentence = _respawn.missing_library("absent")
    assert sentence.endswith("install the package python3-absent (Debian).")
    assert sys.executable in sentence


def test_never_twice(respawned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_respawn, "has_respawned", lambda: True)
    _respawn.respawn_if_missing("no_such_library", "python3-x")
    assert respawned == []


def test_not_in_a_process_that_ansible_did_not_start(respawned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", None)
    _respawn.respawn_if_missing("no_such_library", "python3-x")
    assert respawned == []
