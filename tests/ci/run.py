# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the steps, fastest first, one line each: run.py full|quick [STEP...].

The first red step ends the run, unless KEEP_GOING is set.
"""

from __future__ import annotations

import os
import sys
import time
import tomllib
import traceback
import typing as t

import paths
import process
import steps_ansible
import steps_code
import steps_package
import steps_real
from guard import Red

Step = t.Callable[[process.Commands], str]

QUICK: dict[str, Step] = {
    "ruff": steps_code.ruff,
    "vermin": steps_code.vermin,
    "types": steps_code.types,
    "architecture": steps_code.architecture,
    "unit": steps_code.quick_unit,
}
FULL: dict[str, Step] = {
    **QUICK,
    "unit": steps_code.unit,
    "changelog": steps_ansible.changelog,
    "environment": steps_ansible.environment,
    "docs": steps_ansible.docs,
    "ansible-lint": steps_ansible.ansible_lint,
    "sanity": steps_ansible.sanity,
    "package": steps_package.package,
    "integration": steps_real.integration,
    "debian13": steps_real.debian13,
    "demo": steps_real.demo,
    "molecule": steps_real.molecule,
}


def main(arguments: list[str]) -> int:
    """Run the named steps, or all of the set."""
    steps = {"full": FULL, "quick": QUICK}[arguments[0]]
    unknown = sorted(set(arguments[1:]) - set(steps))
    if unknown:
        print(f"No step is called {', '.join(unknown)}; there are: {' '.join(steps)}", file=sys.stderr)
        return 2
    minimums = tomllib.loads((paths.CI / "minimums.toml").read_text(encoding="utf-8"))
    process.adopt_orphans()
    process.hear_signals()
    begun = time.monotonic()
    names = [name for name in steps if name in arguments[1:] or not arguments[1:]]
    results: list[bool] = []
    for name in names:
        results.append(run_step(name, steps[name], minimums.get(name, {})))
        if not results[-1] and not os.environ.get("KEEP_GOING"):
            break
    print(f"{time.monotonic() - begun:.0f} s in all; the logs are in {paths.LOGS.relative_to(paths.ROOT)}")
    print(f"steps: {results.count(True)} passed, {results.count(False)} failed, {len(names) - len(results)} skipped")
    return 0 if all(results) else 1


def run_step(name: str, step: Step, minimum: t.Mapping[str, t.Any]) -> bool:
    """Run one step and print its line; when it is red, print the end of its log too."""
    commands = process.Commands(name, minimum)
    begun = time.monotonic()
    try:
        told, red = step(commands), False
    except Red as reason:
        told, red = str(reason), True
    except Exception as fault:  # a fault of these steps: red like any other, with its place
        told, red = "".join(traceback.format_exception(fault)), True
    if red:
        print(f"---- the end of {commands.log.relative_to(paths.ROOT)}:\n{commands.tail()}\n----")
    print(f"{'RED ' if red else 'ok  '} {name:<14}{time.monotonic() - begun:7.1f} s  {told}", flush=True)
    return not red


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
