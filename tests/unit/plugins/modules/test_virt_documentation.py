# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the virt_* modules document, against what they take and what their use cases return."""

from __future__ import annotations

import importlib
import types
import typing as t

import pytest
import yaml

from ansible_collections.virt.backup.plugins.modules import (
    restore_point_verify,
    virt_backup,
    virt_backup_doctor,
    virt_backup_info,
    virt_checkpoint,
    virt_checkpoint_info,
    virt_restore,
)

Spec = dict[str, dict[str, t.Any]]

MODULES = [
    restore_point_verify,
    virt_backup,
    virt_backup_doctor,
    virt_backup_info,
    virt_checkpoint,
    virt_checkpoint_info,
    virt_restore,
]
FRAGMENTS = "ansible_collections.virt.backup.plugins.doc_fragments."


def short(module: types.ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


each_module = pytest.mark.parametrize("module", MODULES, ids=short)


class Reached(Exception):
    """The module has said what it takes."""


@pytest.fixture
def spec_of(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[types.ModuleType], dict[str, t.Any]]:
    def spec_of_module(module: types.ModuleType) -> dict[str, t.Any]:
        said: dict[str, t.Any] = {}

        def take(**options: t.Any) -> t.NoReturn:
            said.update(options)
            raise Reached

        monkeypatch.setattr(module, "AnsibleModule", take)
        monkeypatch.setattr(module, "respawn_if_missing", lambda *_arguments: None)
        with pytest.raises(Reached):
            module.main()
        return said

    return spec_of_module


def documented(module: types.ModuleType) -> dict[str, t.Any]:
    """Return the documentation with the options of its fragments."""
    document: dict[str, t.Any] = yaml.safe_load(module.DOCUMENTATION)
    options: Spec = {}
    for name in document["extends_documentation_fragment"]:
        file, _dot, part = name.removeprefix("virt.backup.").partition(".")
        fragment = importlib.import_module(FRAGMENTS + file).ModuleDocFragment
        options.update(yaml.safe_load(getattr(fragment, part.upper() or "DOCUMENTATION")).get("options") or {})
    return {**document, "options": {**options, **document.get("options", {})}}


def differences(documented_options: Spec, spec: Spec, where: str = "") -> t.Iterator[str]:
    """Yield in words where the two disagree, suboptions included."""
    for name in documented_options.keys() ^ spec.keys():
        yield f"{where}{name} is only on one side"
    for name in documented_options.keys() & spec.keys():
        said, taken = documented_options[name], spec[name]
        for key, usual in (
            ("type", "str"),
            ("elements", None),
            ("required", False),
            ("choices", None),
            ("default", None),
        ):
            if said.get(key, usual) != taken.get(key, usual):
                yield f"{where}{name}: {key} is {said.get(key, usual)!r}, and {taken.get(key, usual)!r} is taken"
        if sorted(said.get("aliases", [])) != sorted(taken.get("aliases", [])):
            yield f"{where}{name}: aliases differ"
        if not said.get("description"):
            yield f"{where}{name} is not described"
        yield from differences(said.get("suboptions", {}), taken.get("options", {}), f"{where}{name}.")


@each_module
def test_options_are_documented_as_they_are_taken(module: types.ModuleType, spec_of: t.Any) -> None:
    spec = spec_of(module)
    assert list(differences(documented(module)["options"], spec["argument_spec"])) == []
    assert spec["supports_check_mode"] is True


def test_the_comparison_sees_a_difference() -> None:
    said: Spec = {
        "a": {"type": "str", "description": "x"},
        "b": {"type": "dict", "description": "x", "suboptions": {"c": {}}},
    }
    taken: Spec = {"a": {"type": "int"}, "b": {"type": "dict"}, "d": {}}
    assert sorted(differences(said, taken)) == [
        "a: type is 'str', and 'int' is taken",
        "b.c is only on one side",
        "d is only on one side",
    ]


@each_module
def test_examples_use_options_that_exist(module: types.ModuleType) -> None:
    options = documented(module)["options"]
    tasks = yaml.safe_load(module.EXAMPLES)
    used = [task[f"virt.backup.{short(module)}"] for task in tasks if f"virt.backup.{short(module)}" in task]
    assert used
    for arguments in used:
        _known(arguments or {}, options)


def _known(arguments: dict[str, t.Any], options: Spec) -> None:
    assert arguments.keys() <= options.keys()
    for name, value in arguments.items():
        below = options[name].get("suboptions")
        for entry in value if isinstance(value, list) else [value]:
            if below and isinstance(entry, dict):
                _known(entry, below)


@each_module
def test_every_return_value_is_described_and_has_a_sample(module: types.ModuleType) -> None:
    assert list(_incomplete(yaml.safe_load(module.RETURN))) == []


def _incomplete(values: Spec, where: str = "") -> t.Iterator[str]:
    for name, value in values.items():
        if not value.get("description") or "type" not in value or "returned" not in value:
            yield f"{where}{name}"
        if "sample" not in value and "contains" not in value:
            yield f"{where}{name} has no sample"
        yield from _incomplete(value.get("contains", {}), f"{where}{name}.")


@each_module
def test_names_begin_with_the_module(module: types.ModuleType) -> None:
    document = documented(module)
    assert document["module"] == short(module)
    assert document["version_added"]
    assert document["short_description"]
