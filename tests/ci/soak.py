# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The long run: three domains are written to, rebuilt, killed and backed up at random, and every backup is compared.

It ends after so many backups, or after so much time when that is given. The seed that it prints repeats it.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import typing as t

import guard
import paths
from process import Commands

BACKUPS = 100
_PER_BACKUP = 60.0
"""Seconds; ten times what it takes on a quiet machine."""
_SLACK = 1800.0
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def to_seconds(text: str) -> float:
    """Return the seconds of ``90``, ``90s``, ``10m`` or ``2h``."""
    found = re.fullmatch(r"(\d+)([smh]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; use seconds, or a number with m or h, such as 10m")
    return float(found[1]) * _UNITS[found[2]]


def parse(arguments: t.Sequence[str]) -> argparse.Namespace:
    """Read the command line; what is empty counts as not given, since make hands on what it was not given as that."""
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--time", type=to_seconds)
    parser.add_argument("--backups", type=int)
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    options = parser.parse_args([word for word in arguments if not word.endswith("=")])
    if options.time is None and options.backups is None:
        options.backups = BACKUPS
    return options


def main(arguments: t.Sequence[str]) -> int:
    """Run it, say what came of it, and tell whether all was right."""
    options = parse(arguments)
    variables = {"VIRT_BACKUP_SEED": options.seed}
    if options.backups is not None:
        variables["VIRT_BACKUP_SOAK_BACKUPS"] = str(options.backups)
    if options.time is not None:
        variables["VIRT_BACKUP_SOAK_SECONDS"] = str(options.time)
    limit = options.time if options.backups is None else options.backups * _PER_BACKUP
    run = Commands("soak", {})
    print(f"seed {options.seed}; what is done is in build/logs/soak-actions.log", flush=True)
    pytest = (paths.VENV / "bin/python", "-m", "pytest", "-s", "tests/integration/test_soak.py")
    try:
        output = run(paths.TESTS / "lab/enter", "--", *pytest, limit=limit + _SLACK, **variables)
    except guard.Red as red:
        print(f"{run.tail()}\nsoak: {red}", file=sys.stderr)
        return 1
    print(next(line for line in output.splitlines() if "all right" in line))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
