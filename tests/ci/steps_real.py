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
WORKERS = f"2*popen//python={paths.TESTS}/lab/enter --guest -- {paths.VENV}/bin/python"
_ON_DEBIAN_13 = (
    "unit/plugins/module_utils/test_nbd.py",
    "unit/plugins/module_utils/_copy",
    "integration/test_nbd*.py",
    "integration/test_virt_backup_1829829.py",
    "integration/test_virt_backup_info.py",
    "integration/test_chains.py",
    "integration/test_traps.py",
    "integration/test_random_chains_*.py",
    "integration/test_restore_disks.py",
    "integration/test_restore_point_export.py",
    "integration/test_virt_disk_copy.py",
    "integration/test_virt_restore.py",
)
# There is no guest to boot there.
_NOT_ON_DEBIAN_13 = "tests/integration/test_virt_restore.py::test_the_guest_of_a_copy_has_the_files_of_the_original"
# A dozen of each kind, and others than those of the step before.
_CHAINS_ON_DEBIAN_13 = ("VIRT_BACKUP_SEED=1000", "VIRT_BACKUP_CHAINS=12")
# The files that take longest, in this order: begun last, as pytest-xdist would some of them, they leave a worker idle.
_LONGEST = (
    "role_restore",
    "clean_samples",
    "nbd_extract",
    "kill_matrix",
    "role_failures",
    "role_encryption",
    "chains_failures",
    "chains",
    "state_files",
    "kill_playbook",
    "doctor",
    "random_chains_pull",
    "virt_restore",
    "verify",
    "nbd_extract_manners",
    "concurrency",
    "role_verify",
    "restore_disks",
    "nbd_extract_faults",
    "nbd_extract_encryption",
    "nbd_extract_qcow2",
    "role_backup",
    "virt_idempotence",
    "virt_backup_lifecycle",
    "random_chains_still",
    "dead_man",
)
_BY_FILE = ("--dist=loadfile", "--no-loadscope-reorder")
_ID = r"\d{8}T\d{6}Z-[0-9a-f]{4}"
_ROW = re.compile(rf"{_ID}  vd")
_WAY = re.compile(rf"(?P<way>second name|instant|drill) +{_ID} .* (?P<verified>\w+)$")
_INVENTORY = paths.BUILD / "lab/inventory.yml"


def integration(run: Commands) -> str:
    """Run the integration tests, on two hypervisors that know nothing of each other."""
    report = run.log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    pytest = ("python", "-m", "pytest", "-v", "--timeout=300", *_BY_FILE, "--tx", WORKERS)
    run(*pytest, f"--junitxml={report}", *_longest_first(), limit=3000)
    return guard.check_tests(guard.read_junit(report.read_text(encoding="utf-8")), run.minimum["tests"])


def debian13(run: Commands) -> str:
    """Run what depends on libnbd, and what libvirt's versions differ in, on Debian 13 (libnbd 1.22, libvirt 11.3)."""
    report = paths.BUILD / "debian13/build/debian13.xml"
    report.unlink(missing_ok=True)
    python = ("env", *_CHAINS_ON_DEBIAN_13, "/usr/bin/python3", "-m", "pytest")
    lab = "2*popen//python=tests/lab/enter -- /usr/bin/python3"
    pytest = (*python, "-v", "--timeout=300", "--dist=loadfile", "--tx", lab, f"--junitxml=build/{report.name}")
    tests = ("--deselect", _NOT_ON_DEBIAN_13, *_found(_ON_DEBIAN_13))
    run(paths.TESTS / "debian13/enter", "--", *pytest, *tests, limit=1500)
    return guard.check_tests(guard.read_junit(report.read_text(encoding="utf-8")), run.minimum["tests"])


def _longest_first() -> list[str]:
    """Return all integration tests, in the order in which they are to begin."""
    longest = _found(tuple(f"integration/test_{name}.py" for name in _LONGEST))
    return [*longest, *(path for path in _found(("integration/test_*.py",)) if path not in longest)]


def _found(patterns: tuple[str, ...]) -> list[str]:
    """Return the tests that the patterns name, relative to the checkout; each must name one."""
    found = {pattern: sorted(paths.TESTS.glob(pattern)) for pattern in patterns}
    if not all(found.values()):
        raise guard.Red(f"no test is called {[pattern for pattern, tests in found.items() if not tests]}")
    return [str(path.relative_to(paths.ROOT)) for tests in found.values() for path in tests]


def demo(run: Commands) -> str:
    """Run the demo as a newcomer would, and read its tables."""
    lines = run(paths.TESTS / "demo/run", limit=900).splitlines()
    verified = [line.split()[-1] for line in lines if _ROW.match(line)]
    if verified.count("yes") < run.minimum["images"] or set(verified) != {"yes"}:
        raise guard.Red(f"the demo's table says {verified}")
    ways = {found["way"]: found["verified"] for found in map(_WAY.match, lines) if found}
    if ways != dict.fromkeys(run.minimum["ways"], "yes"):
        raise guard.Red(f"the demo's ways back are {ways}")
    return f"{len(verified)} images and {len(ways)} ways back verified"


def molecule(run: Commands) -> str:
    """Run every scenario of the roles (from the root of the collection: elsewhere molecule finds no hosts)."""
    scenarios = {path.parent.name for path in (paths.ROOT / "extensions/molecule").glob("*/molecule.yml")}
    if scenarios != set(run.minimum):
        raise guard.Red(f"minimums.toml and the scenarios differ in {sorted(scenarios ^ set(run.minimum))}")
    stage.update()
    hosts = (paths.TESTS / "lab/hosts", "run", "--hosts", "2", "--inventory", _INVENTORY, "--")
    output = run(*hosts, "molecule", "test", "--all", limit=2400)
    return guard.check_scenarios(output, run.minimum)
