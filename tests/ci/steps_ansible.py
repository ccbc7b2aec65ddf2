# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps that hold the collection against the rules of Ansible's own tools."""

from __future__ import annotations

import guard
import paths
import stage
from process import Commands


def changelog(run: Commands) -> str:
    """Check the fragments and what became of earlier ones."""
    run("antsibull-changelog", "lint")
    run("antsibull-changelog", "lint-changelog-yaml", "changelogs/changelog.yaml")
    return f"{len(list((paths.ROOT / 'changelogs/fragments').glob('*.yml')))} fragment(s)"


def sanity(run: Commands) -> str:
    """Run every sanity test of ansible-test, without a single exception for one of our files."""
    ignored = sorted((paths.TESTS / "sanity").glob("ignore*"))
    if ignored:
        raise guard.Red(f"{ignored[0].name} exists: repair the file that it excuses instead")
    stage.update()
    output = run("ansible-test", "sanity", "--local", "--color", "no", cwd=paths.STAGED, limit=1800)
    return guard.check_sanity(output, run.minimum["tests"])


def ansible_lint(run: Commands) -> str:
    """Run ansible-lint at its strictest profile."""
    stage.update()
    output = run("ansible-lint", "--offline", "--profile", "production", "--nocolor")
    files = guard.find_number(output, r"in (\d+) files processed", "files")
    return f"{guard.require('linted files', files, run.minimum['files'])} files"


def docs(run: Commands) -> str:
    """Check the documentation of all plugins, modules and roles, and every reference in it."""
    stage.update()
    run(
        "antsibull-docs",
        "lint-collection-docs",
        "--plugin-docs",
        "--validate-collection-refs=all",
        "--disallow-unknown-collection-refs",
        "--check-extra-docs-refs",
        paths.STAGED,
    )
    return ""


def environment(run: Commands) -> str:
    """Let ansible-builder read what an execution environment needs."""
    stage.update()
    output = run("ansible-builder", "introspect", "--sanitize", paths.STAGE)
    if "openssh-clients" not in output:
        raise guard.Red("ansible-builder does not find the packages of meta/ee-bindep.txt")
    return ""
