# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The step that builds the artifact, judges it as Galaxy does and uses it as a user does."""

from __future__ import annotations

import json
import shutil
import typing as t
from pathlib import Path

import guard
import paths
import stage
from process import Commands

_ARTIFACT = paths.BUILD / "artifact"
_EMPTY = paths.BUILD / "installed"
_INSTALLED = _EMPTY / "ansible_collections/virt/backup"
# The rest of a collection is for readers and builders: it must run when only this is there.
_NEEDED = {"MANIFEST.json", "FILES.json", "meta", "plugins", "roles", "playbooks"}


def package(run: Commands) -> str:
    """Build, import, install to an empty path, read the documentation and run a module from there."""
    tarball = _build(run)
    _import(run, tarball)
    _install(run, tarball)
    counts = [_document(run, "module"), _document(run, "role"), _document(run, "filter"), _list_playbooks(run)]
    _run_module(run)
    return ", ".join(counts)


def _build(run: Commands) -> Path:
    stage.update()
    shutil.rmtree(_ARTIFACT, ignore_errors=True)
    run("ansible-galaxy", "collection", "build", "--output-path", _ARTIFACT, cwd=paths.STAGED)
    return next(_ARTIFACT.glob("virt-backup-*.tar.gz"))


def _import(run: Commands, tarball: Path) -> None:
    output = run("python", "-m", "galaxy_importer.main", tarball, cwd=_ARTIFACT)
    guard.check_silence(output)


def _install(run: Commands, tarball: Path) -> None:
    shutil.rmtree(_EMPTY, ignore_errors=True)
    run("ansible-galaxy", "collection", "install", "--offline", "-p", _EMPTY, tarball, ANSIBLE_COLLECTIONS_PATH=_EMPTY)
    for path in _INSTALLED.iterdir():
        if path.name not in _NEEDED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _document(run: Commands, kind: str) -> str:
    """Let ansible-doc show every plugin of a kind, and compare what it found with the files."""
    options = ("--type", kind, "--json")
    listed = json.loads(_quiet(run, "ansible-doc", *options, "--list", "virt.backup"))
    folder = _INSTALLED / ("roles" if kind == "role" else f"plugins/{kind}s" if kind == "module" else f"plugins/{kind}")
    expected = {f"virt.backup.{path.stem}" for path in folder.iterdir() if not path.name.startswith("_")}
    if expected != set(listed):
        raise guard.Red(f"ansible-doc and the files differ in the {kind}s {sorted(expected ^ set(listed))}")
    shown = json.loads(_quiet(run, "ansible-doc", *options, *sorted(listed)))
    return f"{guard.require(f'documented {kind}s', len(shown), run.minimum[f'{kind}s'])} {kind}s"


def _list_playbooks(run: Commands) -> str:
    names = sorted(path.stem for path in (_INSTALLED / "playbooks").glob("*.yml"))
    for name in names:
        # Warns about groups that the playbook itself makes while it runs.
        command = ("ansible-playbook", "-i", "localhost,", "--syntax-check", f"virt.backup.{name}")
        run(*command, cwd=_EMPTY, ANSIBLE_COLLECTIONS_PATH=_EMPTY)
    return f"{guard.require('playbooks', len(names), run.minimum['playbooks'])} playbooks"


def _run_module(run: Commands) -> None:
    """Make a repository twice with the installed module: changed, then not."""
    target = paths.BUILD / "scratch/repository"
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    for changed in (True, False):
        result = _ad_hoc(run, "backup_repository", path=str(target))
        if result.get("changed") is not changed:
            raise guard.Red(f"backup_repository of the artifact said changed={result.get('changed')}, not {changed}")


def _ad_hoc(run: Commands, module: str, **parameters: t.Any) -> dict[str, t.Any]:
    command = [
        "ansible",
        "-i",
        "localhost,",
        "-c",
        "local",
        "-m",
        f"virt.backup.{module}",
        "-a",
        json.dumps(parameters),
    ]
    command += ["-e", f"ansible_python_interpreter={paths.SYSTEM_PYTHON}", "all"]
    # The answer begins with the host and the word CHANGED or SUCCESS, then => and JSON.
    result: dict[str, t.Any] = json.loads(_quiet(run, *command).partition("=> ")[2])
    return result


def _quiet(run: Commands, *command: str) -> str:
    """Run with only the installed collection in sight, and return the output, which must be free of warnings."""
    output = run(*command, cwd=_EMPTY, ANSIBLE_COLLECTIONS_PATH=_EMPTY)
    guard.check_silence(output)
    return output
