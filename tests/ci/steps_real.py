# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps on real libvirt: hypervisors of the lab, guests, and the roles that drive them."""

from __future__ import annotations

import re

import guard
import paths
import stage
from process import Commands

# Each worker of pytest lives in a hypervisor of its own.
_WORKERS = f"2*popen//python={paths.TESTS}/lab/enter --guest -- {paths.VENV}/bin/python"
_ROW = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}  vd")
_INVENTORY = paths.BUILD / "lab/inventory.yml"


def integration(run: Commands) -> str:
    """Run the integration tests, on two hypervisors that know nothing of each other."""
    report = run.log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    pytest = ("python", "-m", "pytest", "-v", "--timeout=300", "--dist=loadfile", "--tx", _WORKERS)
    run(*pytest, f"--junitxml={report}", "tests/integration", limit=2400)
    return guard.check_tests(guard.read_junit(report.read_text(encoding="utf-8")), run.minimum["tests"])


def demo(run: Commands) -> str:
    """Run the demo as a newcomer would, and read its table."""
    verified = [line.split()[-1] for line in run(paths.TESTS / "demo/run", limit=900).splitlines() if _ROW.match(line)]
    if verified.count("yes") < run.minimum["images"] or set(verified) != {"yes"}:
        raise guard.Red(f"the demo's table says {verified}")
    return f"{len(verified)} images verified"


def molecule(run: Commands) -> str:
    """Run every scenario of the roles (from the root of the collection: elsewhere molecule finds no hosts)."""
    scenarios = {path.parent.name for path in (paths.ROOT / "extensions/molecule").glob("*/molecule.yml")}
    if scenarios != set(run.minimum):
        raise guard.Red(f"minimums.toml and the scenarios differ in {sorted(scenarios ^ set(run.minimum))}")
    stage.update()
    hosts = (paths.TESTS / "lab/hosts", "run", "--hosts", "2", "--inventory", _INVENTORY, "--")
    output = run(*hosts, "molecule", "test", "--all", limit=2400)
    return guard.check_scenarios(output, run.minimum)
