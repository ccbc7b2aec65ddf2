# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role documents, defaults to and is told by the playbook is written in three places, and has to agree."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def load(path: str) -> t.Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def options(role: str) -> dict[str, dict[str, t.Any]]:
    found: dict[str, dict[str, t.Any]] = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"][
        "options"
    ]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_specification(role: str) -> None:
    specified = {name: option["default"] for name, option in options(role).items() if not option.get("required")}
    assert load(f"roles/{role}/defaults/main.yml") == specified


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_explained_and_used(role: str) -> None:
    files = [path for folder in ("tasks", "vars", "templates") for path in (ROOT / "roles" / role).glob(f"{folder}/*")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for name, option in options(role).items():
        assert name.startswith(f"{role}_")
        assert option["description"]
        assert re.search(rf"\b{name}\b", text), f"{name} is not used"


@pytest.mark.parametrize("role", ROLES)
def test_task_files_stay_short(role: str) -> None:
    for path in (ROOT / "roles" / role / "tasks").glob("*.yml"):
        tasks = len(load(str(path.relative_to(ROOT))))
        assert tasks <= (8 if path.name == "main.yml" else 6), f"{path} has {tasks} tasks"


@pytest.mark.parametrize("role", ["backup", "verify"])
def test_the_playbook_hands_every_option_of_the_role_on(role: str) -> None:
    find = next(play for play in load(f"playbooks/{role}.yml") if play["name"].startswith("Find"))
    unit = next(task["ansible.builtin.add_host"] for task in find["tasks"] if "ansible.builtin.add_host" in task)
    handed_on = {name for name in unit if name.startswith(f"{role}_")}
    # Ansible shows what add_host was given, so a secret is not among it: the playbook takes a file, or a variable of all hosts.
    assert handed_on == set(options(role)) - {f"{role}_domain", f"{role}_encryption_secret"}


@pytest.mark.parametrize("role", ["backup", "verify"])
def test_the_readme_of_the_role_lists_every_option(role: str) -> None:
    text = (ROOT / f"roles/{role}/README.md").read_text(encoding="utf-8")
    assert [name for name in options(role) if f"`{name}`" not in text] == []
