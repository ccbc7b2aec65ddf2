# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps that read our Python or run it without libvirt: the inner loop."""

from __future__ import annotations

import shutil
from pathlib import Path

import guard
import paths
from process import Commands

_PLUGINS = "ansible_collections.virt.backup.plugins"


def ruff(run: Commands) -> str:
    """Lint, and compare the format."""
    run("ruff", "check", ".")
    output = run("ruff", "format", "--check", ".")
    files = guard.find_number(output, r"(\d+) files? already formatted", "files")
    return f"{guard.require('Python files', files, run.minimum['files'])} files"


def vermin(run: Commands) -> str:
    """Find what Python 3.9, on which the modules run, does not have: syntax and standard library."""
    files = python_files("plugins")
    run("vermin", "--target=3.9-", "--violations", "--no-tips", *files)
    return f"{guard.require('Python files', len(files), run.minimum['files'])} files"


def types(run: Commands) -> str:
    """Check the types of the plugins and of what the tests run on; each file must be among what mypy read."""
    _forget_types_of_other_files()
    total = 0
    for folder, arguments in (
        ("plugins", ["-p", _PLUGINS]),
        ("tests/lab", ["--python-version=3.11", "-p", "lab"]),
        ("tests/demo", ["--python-version=3.11", "-p", "demo"]),
        ("tests/benchmarks", ["--python-version=3.11", "-p", "benchmarks"]),
        ("tests/debian13", ["--python-version=3.11", "-p", "debian13"]),
        ("tests/ci", ["--python-version=3.11", *python_files("tests/ci")]),
    ):
        output = run("mypy", *arguments)
        checked = guard.find_number(output, r"no issues found in (\d+) source file", "source files")
        total += guard.require(f"files of {folder}", checked, len(python_files(folder)))
    return f"{guard.require('typed files', total, run.minimum['files'])} files"


def _forget_types_of_other_files() -> None:
    """Drop mypy's cache when a file came or went: it remembers that ``from package import new_file`` failed."""
    cache = paths.BUILD / "cache/mypy"
    listing = "\n".join(python_files("plugins") + python_files("tests"))
    known = cache / "files"
    if not known.is_file() or known.read_text(encoding="utf-8") != listing:
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        known.write_text(listing, encoding="utf-8")


def architecture(run: Commands) -> str:
    """Read the imports: which room may use which."""
    return _pytest(run, "tests/unit/test_architecture.py")


def unit(run: Commands) -> str:
    """Run the unit tests."""
    return _pytest(run, "-n2", "tests/unit")


def quick_unit(run: Commands) -> str:
    """Run the unit tests but those that start processes or QEMU's tools: they take as long as all others together."""
    return _pytest(run, "-n2", "-m", "not slow", "tests/unit")


def _pytest(run: Commands, *arguments: str) -> str:
    report = run.log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    run("python", "-m", "pytest", "-q", f"--junitxml={report}", *arguments, limit=600)
    return guard.check_tests(guard.read_junit(report.read_text(encoding="utf-8")), run.minimum["tests"])


def python_files(folder: str) -> list[str]:
    """Return the Python files below a folder of the checkout, relative to the checkout."""
    found = (path.relative_to(paths.ROOT) for path in Path(paths.ROOT, folder).rglob("*.py"))
    return sorted(str(path) for path in found if "__pycache__" not in path.parts)
