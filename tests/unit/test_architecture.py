# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rooms of the collection: who may import whom, who may touch the world, how long things may be.

The import statements are read, nothing is run. At the end of the file each rule is shown a file that breaks it.
"""

from __future__ import annotations

import ast
import typing as t
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
OURS = "ansible_collections.virt.backup.plugins."

# Which rooms a room may use, besides itself. Arrows point down; a gateway is a single file and a room of its own.
ARROWS = {
    "modules": {"_argspec", "_model", "_module", "_respawn", "_run"},
    "action": {"_decide", "_model"},
    "filter": {"_decide", "_model"},
    "doc_fragments": set(),
    "_module": {"_model", "_run"},
    "_argspec": {"_model"},
    "_respawn": set(),
    "_run": {
        "_copy",
        "_deadman",
        "_detach",
        "_decide",
        "_durable",
        "_libvirt",
        "_model",
        "_nbd",
        "_qemu",
        "_store",
        "_watchdog",
        "_xml",
    },
    "_copy": {"_durable", "_model", "_nbd", "_qemu"},
    "_store": {"_decide", "_durable", "_model"},
    "_decide": {"_model"},
    "_xml": {"_model"},
    "_libvirt": {"_model", "_respawn"},
    "_nbd": {"_model", "_respawn"},
    "_qemu": {"_model"},
    "_detach": {"_model"},
    "_deadman": set(),
    "_watchdog": {"_model"},
    # What both rooms that write need, and neither may take from the other; it syncs, so it is no part of the model.
    "_durable": set(),
    "_model": set(),
}

# What only some rooms may import, and why.
OWNERS = {
    # The dead man's switch is a program of its own: it runs on when all of ours has ended.
    "libvirt": {"_deadman", "_libvirt"},
    "libvirt_qemu": {"_libvirt"},
    "nbd": {"_nbd"},
    "lxml": {"_xml"},
    # _qemu starts the tools of QEMU; _watchdog what thaws a guest when the module is killed, _detach what outlives it.
    "subprocess": {"_detach", "_qemu", "_watchdog"},
    # Everything else works without Ansible, and is tested without it.
    "ansible": {"_argspec", "_module", "_respawn", "action", "doc_fragments", "filter", "modules"},
}

# Rooms that answer the same for the same question: no file, no clock, no chance. What they may use is listed here.
PURE_ROOMS = {"_decide", "_model", "_xml"}
PURE_MODULES = {
    "__future__", "bisect", "collections", "dataclasses", "datetime", "enum", "fnmatch", "functools", "ipaddress",
    "itertools", "math",
    "operator", "posixpath", "re", "string", "typing", "unicodedata", "urllib.parse",
}  # fmt: skip
IMPURE_CALLS = {"input", "now", "open", "print", "today", "utcnow"}

# Ways around subprocess and around AnsiballZ, which packs only what it sees imported.
FORBIDDEN_CALLS = {
    "__import__", "eval", "exec", "execv", "execve", "execvp", "fork", "import_module", "popen", "posix_spawn", "spawnv", "system",
}  # fmt: skip

# Who may all the same, and why: preflight asks the kernel as another user, which only a process of its own can become.
EXCUSED_CALLS = {"module_utils._run.preflight": {"fork"}}

MODULE_LINES = 120
FILE_LINES = 400
FUNCTION_LINES = 60


class Source(t.NamedTuple):
    """One file: its name below plugins, in dots, and its text."""

    name: str
    text: str

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if parts[0] == "module_utils" else parts[0]


def read_sources() -> list[Source]:
    files = sorted(path for path in PLUGINS.rglob("*.py") if path.name != "__init__.py")
    return [
        Source(".".join(path.relative_to(PLUGINS).with_suffix("").parts), path.read_text("utf-8")) for path in files
    ]


def imported(tree: ast.AST) -> set[str]:
    """Return the full names of all imported modules; ``from package import x`` counts as package.x when it is ours."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names |= {f"{base}.{alias.name}" if base.startswith(OURS.rstrip(".")) else base for alias in node.names}
    return names


def called(tree: ast.AST) -> set[str]:
    """Return the last names of all called functions and methods."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {function.id for function in functions if isinstance(function, ast.Name)}
    return names | {function.attr for function in functions if isinstance(function, ast.Attribute)}


def code_lines(node: ast.AST) -> int:
    """Return the number of lines with code: neither blank nor comment nor documentation."""
    lines: set[int] = set()
    for inner in ast.walk(node):
        if isinstance(inner, (ast.expr, ast.stmt)) and not is_text(inner):
            lines |= {inner.lineno} if isinstance(inner, ast.stmt) else {inner.lineno, inner.end_lineno or 0}
    return len(lines)


def is_text(node: ast.AST) -> bool:
    """Whether this is a docstring, or one of the documentation blocks of a module."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    value = node.value if isinstance(node, ast.Expr) else node
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def arrow_faults(source: Source) -> t.Iterator[str]:
    for name in imported(ast.parse(source.text)):
        if name.startswith("."):
            yield f"relative import {name}"
        elif name.startswith(OURS):
            room = Source(name[len(OURS) :], "").room
            if room != source.room and room not in ARROWS.get(source.room, set()):
                yield f"{source.room} may not import {room}"


def owner_faults(source: Source) -> t.Iterator[str]:
    for name in imported(ast.parse(source.text)):
        top = name.partition(".")[0]
        if top in OWNERS and source.room not in OWNERS[top]:
            yield f"only {', '.join(sorted(OWNERS[top]))} may import {top}"


def purity_faults(source: Source) -> t.Iterator[str]:
    if source.room not in PURE_ROOMS:
        return
    tree = ast.parse(source.text)
    for name in imported(tree):
        known = name in PURE_MODULES or name.partition(".")[0] in PURE_MODULES
        if not known and not name.startswith(OURS) and source.room not in OWNERS.get(name.partition(".")[0], set()):
            yield f"{source.room} may not import {name}"
    for name in called(tree) & IMPURE_CALLS:
        yield f"{source.room} may not call {name}"


def call_faults(source: Source) -> t.Iterator[str]:
    for name in called(ast.parse(source.text)) & FORBIDDEN_CALLS - EXCUSED_CALLS.get(source.name, set()):
        yield f"nobody may call {name}"


def size_faults(source: Source) -> t.Iterator[str]:
    tree = ast.parse(source.text)
    limit = MODULE_LINES if source.room == "modules" else FILE_LINES
    if code_lines(tree) > limit:
        yield f"{code_lines(tree)} lines of code, more than {limit}: look for the missing noun"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and code_lines(node) > FUNCTION_LINES:
            yield f"{node.name}() has {code_lines(node)} lines of code, more than {FUNCTION_LINES}"


Rule = t.Callable[[Source], t.Iterator[str]]
RULES: tuple[Rule, ...] = (arrow_faults, owner_faults, purity_faults, call_faults, size_faults)


@pytest.mark.parametrize("rule", RULES)
def test_the_rooms_keep_to_the_rule(rule: Rule) -> None:
    assert [f"{source.name}: {fault}" for source in read_sources() for fault in rule(source)] == []


def test_every_file_is_in_a_known_room() -> None:
    sources = read_sources()
    assert {source.room for source in sources} <= set(ARROWS)
    assert len(sources) > 60


def test_no_arrow_leads_back() -> None:
    """A room that may be used by another may not use it in turn, over any number of steps."""

    def below(room: str) -> set[str]:
        return ARROWS[room] | {lower for used in ARROWS[room] for lower in below(used)}

    assert [room for room in ARROWS if room in below(room)] == []


def test_no_package_runs_code_when_imported() -> None:
    """An __init__.py would be packed and run on every host; beside modules, and below module_utils, none is needed."""
    assert [str(path) for path in PLUGINS.rglob("__init__.py") if path.read_text("utf-8").strip()] == []


BREAKERS: tuple[tuple[Rule, str, str], ...] = (
    (arrow_faults, "module_utils._model.bad", f"from {OURS}module_utils._run.backup import start"),
    (arrow_faults, "module_utils._decide.bad", f"from {OURS}module_utils import _libvirt"),
    (arrow_faults, "module_utils._store.bad", f"import {OURS}module_utils._copy.engine"),
    (arrow_faults, "module_utils._xml.bad", "from ..errors import BackupError"),
    (arrow_faults, "modules.bad", f"from {OURS}module_utils._store.layout import x"),
    (owner_faults, "module_utils._run.bad", "import libvirt"),
    (owner_faults, "module_utils._run.bad", "def f():\n    from subprocess import run"),
    (owner_faults, "module_utils._copy.bad", "import nbd as n"),
    (owner_faults, "module_utils._run.bad", "from lxml import etree"),
    (owner_faults, "module_utils._store.bad", "from ansible.module_utils.basic import AnsibleModule"),
    (purity_faults, "module_utils._decide.bad", "import os"),
    (purity_faults, "module_utils._model.bad", "from pathlib import Path"),
    (purity_faults, "module_utils._xml.bad", "text = open('/etc/passwd').read()"),
    (purity_faults, "module_utils._decide.bad", "import datetime\nnow = datetime.datetime.now()"),
    (call_faults, "module_utils._run.bad", "import os\nos.system('qemu-img info x')"),
    (call_faults, "module_utils._run.bad", "import importlib\nimportlib.import_module('nbd')"),
    (size_faults, "modules.bad", "\n".join(f"x{number} = {number}" for number in range(MODULE_LINES + 1))),
    (size_faults, "module_utils._run.bad", "def f():\n" + "    x = 1\n" * (FUNCTION_LINES + 1)),
)


@pytest.mark.parametrize(("rule", "name", "text"), BREAKERS)
def test_each_rule_catches_its_breaker(rule: Rule, name: str, text: str) -> None:
    assert list(rule(Source(name, text))) != []


def test_documentation_does_not_count_as_code() -> None:
    text = 'DOCUMENTATION = r"""\n' + "line\n" * 500 + '"""\n\n# comment\nx = 1\n'
    assert list(size_faults(Source("modules.good", text))) == []
