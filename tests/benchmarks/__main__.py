# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``tests/benchmarks/run``: the command line, and the order of things."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from benchmarks import (
    machine,
    plot,
    report,
    scenes_domain,
    scenes_far,
    scenes_full,
    scenes_increment,
    scenes_many,
    scenes_restore,
)
from benchmarks.figures import Figures, figures
from benchmarks.measure import measure, require_space
from benchmarks.model import BenchError, Place, Plan

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/benchmarks.md"
PLANS: dict[str, Plan] = {
    **scenes_full.PLANS,
    **scenes_increment.PLANS,
    **scenes_far.PLANS,
    **scenes_many.PLANS,
    **scenes_restore.PLANS,
    **scenes_domain.PLANS,
}


def parse(arguments: t.Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="tests/benchmarks/run", description="Measure the data path against its peers."
    )
    parser.add_argument("--only", nargs="+", choices=PLANS, metavar="SCENE", help=f"of {' '.join(PLANS)}")
    parser.add_argument("--rounds", type=int, default=0, help="counted rounds after the warm-up (5; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="one round of each: a look, not a measurement")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="for sources and images, in memory")
    parser.add_argument("--disk", type=Path, default=ROOT / "build", help="for the durable scene, on a real disk")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    if options.write and options.only:
        parser.error("--write needs all scenes: the page holds all rows")
    return options


def run(options: argparse.Namespace) -> list[Figures]:
    """Set up each scene, measure it, tear it down."""
    rounds = options.rounds or (1 if options.quick else 5)
    found: list[Figures] = []
    for name in options.only or PLANS:
        plan, began = PLANS[name], time.monotonic()
        require_space(options.disk if plan.on_disk else options.folder, plan.needs)
        found += _run_scene(plan, options, rounds)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def _run_scene(plan: Plan, options: argparse.Namespace, rounds: int) -> list[Figures]:
    with (
        tempfile.TemporaryDirectory(dir=options.folder, prefix="bench-") as folder,
        tempfile.TemporaryDirectory(dir=options.disk, prefix="bench-") as disk,
        plan.open(Place(Path(folder), Path(disk))) as scene,
    ):
        spent = measure(scene, rounds)
        return [figures(row, spent) for row in scene.rows]


def main() -> int:
    """Measure and print; write the page when asked to."""
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    missing = [name for name in ("qemu-img", "qemu-nbd", "qemu-storage-daemon", "nbdcopy") if not shutil.which(name)]
    try:
        if missing:
            raise BenchError(f"{', '.join(missing)} is missing: run make setup.")
        found = run(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    _report(options, found)
    return 0


def _report(options: argparse.Namespace, found: list[Figures]) -> None:
    facts = machine.describe(options.folder, options.disk)
    text = "\n".join([*(f"- {line}" for line in facts), "", report.summary(found), "", report.table(found)])
    print(text)
    if options.write:
        PAGE.write_text(report.replace(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
        PAGE.with_suffix(".svg").write_text(plot.svg(found), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
