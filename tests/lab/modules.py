# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module of the collection as Ansible would: its own process, arguments as JSON, the result as JSON.

This file is both sides: the caller, and (as a script) what runs in the module's process.
"""

from __future__ import annotations

import json
import os
import pathlib
import runpy
import subprocess
import sys
import typing as t

COLLECTION = "ansible_collections.virt.backup"
LINK = pathlib.Path(__file__).resolve().parents[2] / "build" / "link"
"""Where the checkout is importable as a collection."""

Result = dict[str, t.Any]


def run_module(
    name: str,
    arguments: t.Mapping[str, t.Any] | None = None,
    *,
    check: bool = False,
    diff: bool = False,
    timeout: float = 120,
    env: t.Mapping[str, str] | None = None,
) -> Result:
    """Run a module and return its result, failed or not; ``AssertionError`` when it printed no result at all."""
    settings = {"_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_module_name": f"virt.backup.{name}"}
    payload = json.dumps({**(arguments or {}), **settings})
    done = subprocess.run(
        [sys.executable, __file__, name],
        input=payload,
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(LINK), **(env or {})},
    )
    try:
        result: Result = json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"{name} printed no result\n{done.stdout}\n{done.stderr}") from None
    result.setdefault("failed", False)
    return result


def run_ok(name: str, arguments: t.Mapping[str, t.Any] | None = None, **options: t.Any) -> Result:
    """Run a module that has to succeed."""
    result = run_module(name, arguments, **options)
    assert not result["failed"], f"{name}: {result.get('msg')}\n{result.get('exception', '')}"
    return result


def run_failed(name: str, arguments: t.Mapping[str, t.Any] | None = None, **options: t.Any) -> Result:
    """Run a module that has to fail, with a sentence and not with a traceback."""
    result = run_module(name, arguments, **options)
    assert result["failed"], f"{name} succeeded: {result}"
    assert "Traceback" not in str(result.get("exception", "")), result["exception"]
    return result


def _inside(name: str) -> None:
    """Be the module: its arguments come from standard input, what it prints goes to standard output."""
    from ansible.module_utils.testing import patch_module_args

    del sys.path[0]  # this folder: its "modules" and "guest" are nobody else's
    with patch_module_args(json.load(sys.stdin)):
        runpy.run_module(f"{COLLECTION}.plugins.modules.{name}", run_name="__main__")


if __name__ == "__main__":
    _inside(sys.argv[1])
