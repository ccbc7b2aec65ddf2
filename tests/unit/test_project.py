# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for the whole project: licences, lists that must name every module, texts that must agree."""

from __future__ import annotations

import importlib
import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())

COPYRIGHT = "# Copyright (c) 2026, virt.backup contributors"
LICENCE = (
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
)
PRIVATE = "# PRIVATE to the collection: this file may change without notice."


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read_yaml(name: str) -> t.Any:
    return yaml.safe_load(read(name))


def python_files(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in files if "output" not in path.parts)


def test_every_python_file_names_its_licence() -> None:
    files = python_files("plugins", "tests", "extensions")
    bad = [str(path.relative_to(ROOT)) for path in files if not has_header(path.read_text(encoding="utf-8"))]
    assert bad == []
    assert len(files) > 100


def has_header(text: str) -> bool:
    lines = [line for line in text.splitlines() if not line.startswith("#!")]
    return not text.strip() or (lines[0].startswith("# Copyright (c) ") and tuple(lines[1:3]) == LICENCE)


def test_what_others_must_not_use_says_so() -> None:
    files = python_files("plugins/module_utils", "plugins/doc_fragments")
    assert [str(path.relative_to(ROOT)) for path in files if PRIVATE not in path.read_text(encoding="utf-8")] == []


def test_python_stays_without_ignores_of_sanity() -> None:
    assert list((ROOT / "tests/sanity").glob("ignore*")) == []


def test_the_action_group_lists_every_module() -> None:
    assert read_yaml("meta/runtime.yml")["action_groups"] == {"virt_backup": MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_promises_what_all_promise(module: str) -> None:
    """Every module has check mode, and says what it does about diff, idempotence and the action group."""
    documentation = read_documentation(module)
    assert documentation["module"] == module
    assert {"check_mode", "diff_mode", "action_group"} <= attributes(documentation)
    assert "supports_check_mode=True" in read(f"plugins/modules/{module}.py")


def read_documentation(module: str) -> dict[str, t.Any]:
    block = re.search(
        r'^DOCUMENTATION = r?"""(.*?)^"""', read(f"plugins/modules/{module}.py"), re.DOTALL | re.MULTILINE
    )
    assert block is not None
    documentation: dict[str, t.Any] = yaml.safe_load(block.group(1))
    return documentation


def attributes(documentation: dict[str, t.Any]) -> set[str]:
    """Return the names of the attributes that a module documents, by itself or through a fragment."""
    names = set(documentation.get("attributes", ()))
    for name in documentation.get("extends_documentation_fragment", ()):
        _namespace, _collection, plugin, *section = name.split(".")
        source = importlib.import_module(f"ansible_collections.virt.backup.plugins.doc_fragments.{plugin}")
        fragment = getattr(source.ModuleDocFragment, section[0].upper() if section else "DOCUMENTATION")
        names |= set(yaml.safe_load(fragment).get("attributes", ()))
    return names


@pytest.mark.parametrize("role", ROLES)
def test_the_defaults_of_a_role_are_those_of_its_specification(role: str) -> None:
    """Each default that the specification names is set to the same value, and nothing else is set."""
    specification = read_yaml(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]
    options = {name: option for entry in specification.values() for name, option in entry["options"].items()}
    promised = {name: option["default"] for name, option in options.items() if "default" in option}
    assert (read_yaml(f"roles/{role}/defaults/main.yml") or {}) == promised


@pytest.mark.parametrize("role", ROLES)
def test_a_role_keeps_to_its_name(role: str) -> None:
    """Other roles' variables live in the same play: everything of ours carries the role's name, or virt_backup."""
    specification = read_yaml(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]
    names = {name for entry in specification.values() for name in entry["options"]}
    assert sorted(name for name in names if not name.startswith((f"{role}_", "virt_backup_"))) == []


def test_the_lists_of_the_readme_are_complete() -> None:
    text = read("README.md")
    assert [name for name in (*MODULES, *ROLES) if not re.search(rf"\b{name}\b", text)] == []


def test_the_packages_are_listed_once_and_in_order() -> None:
    lines = [line for line in read("tests/packages.txt").splitlines() if line and not line.startswith("#")]
    assert lines == sorted(set(lines))


def test_the_pins_are_exact_and_complete() -> None:
    wanted = {line for line in read("tests/ci/requirements.in").splitlines() if line and not line.startswith("#")}
    locked = {line.partition(" ;")[0] for line in read("tests/ci/requirements.txt").splitlines()}
    assert sorted(wanted - locked) == []
    assert all("==" in line for line in wanted)


def test_a_header_that_lacks_the_licence_is_caught() -> None:
    assert has_header("\n".join((COPYRIGHT, *LICENCE)))
    assert has_header("\n".join(("#!/usr/bin/python", COPYRIGHT, *LICENCE)))
    assert not has_header(COPYRIGHT + "\n\nx = 1\n")
