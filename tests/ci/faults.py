# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run every test in which something breaks or dies, each cell of the kill matrix among them, and write what came of it.

The table in ``docs/reliability.md`` is made from the report of that run and from nothing else.
"""

from __future__ import annotations

import collections
import os
import re
import sys
import typing as t
from xml.etree import ElementTree

import guard
import paths
from process import Commands
from steps_real import WORKERS

TRIED = "tried"
PAGE = paths.ROOT / "docs/reliability.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

STORE = "unit/plugins/module_utils/_store"
VICTIMS = {
    "module": "the module is killed (SIGKILL)",
    "module-sigterm": "the module is told to end (SIGTERM)",
    "module-sighup": "the connection to the hypervisor is closed (SIGHUP)",
    "playbook": "the playbook or its controller is gone",
    "qemu": "QEMU is killed (SIGKILL)",
    "libvirtd": "libvirtd is killed (SIGKILL) and starts again",
}
MATRIX = ("test_kill_matrix", "test_kill_freeze")
INSTANT = "an instant restore, in which the playbook, QEMU, libvirtd or the backup's server dies"
HOSTILE = "an enemy has changed the repository, or chooses names and XML"
FILES = {
    "integration/test_kill_playbook": "the playbook is killed, cut off or hangs, with the real role over SSH",
    "integration/test_chains_failures": "a run dies or meets another; libvirt forgets; the host loses its power",
    "integration/test_concurrency": "several runs, domains and removals at the same time",
    "integration/test_dead_man": "nobody is left to end the job",
    "integration/test_doctor": "leftovers, forgotten checkpoints and broken bitmaps are repaired",
    "integration/test_role_failures": "the role fails, or has lost its lock",
    "integration/test_nbd_extract_faults": "the NBD server stalls, dies or errs; a call that writes fails",
    "integration/test_nbd_extract_manners": "the NBD server lies about sizes, extents or flags, or cuts its replies",
    "integration/test_storage_faults": "the repository is full or its disk fails; the source fails in the middle",
    "integration/test_power_cut": "the repository loses its power after each system call that changes it",
    "integration/test_verify": "bit rot, truncated, missing and swapped images",
    "integration/test_clean_samples": "a bitmap does not tell the truth",
    "integration/test_guest_guard": "scratch space runs out under a guest",
    "integration/test_role_guest": "the guest goes off, or scratch space runs low, in the middle of a backup",
    "integration/test_restore_disks_failures": "a restore fails in the middle",
    "integration/test_kill_instant": INSTANT,
    "integration/test_instant_guest": INSTANT,
    "integration/test_restore_refusals": "a restore can't be: damaged, taken, too small, in use, full",
    "integration/test_restore_elsewhere": "the hypervisor is gone; its guest lives again on another one",
    "integration/test_hostile_repository": HOSTILE,
    "integration/test_hostile_doctor": HOSTILE,
    "integration/test_hostile_domains": HOSTILE,
    "integration/test_nbd_extract_lies": HOSTILE,
    "unit/properties/test_hostile_files": HOSTILE,
    "unit/properties/test_hostile_names": HOSTILE,
    "unit/properties/test_hostile_xml": HOSTILE,
    "integration/test_soak": "a long run of 100 backups, in which all of this comes at random",
    f"{STORE}/test_kill": "a change of the repository is killed before each system call",
    f"{STORE}/test_bad_storage": "a system call of a change of the repository fails: full, broken, read-only",
}
"""By test file: every file of the suite in which something is broken."""
_CELL = re.compile(r"\[(?P<number>\d+)-(?P<step>\w+)-(?P<when>before|after)-(?P<victim>[\w-]+)\]$")


class Row(t.NamedTuple):
    """One line of the table."""

    fault: str
    tried: int
    failed: int


def rows(junit: str) -> list[Row]:
    """Return the lines of the table from a JUnit report: the matrix by victim, everything else by file."""
    tried: collections.Counter[str] = collections.Counter()
    failed: collections.Counter[str] = collections.Counter()
    for case in ElementTree.fromstring(junit).iter("testcase"):
        fault = _fault(case.get("classname", ""), case.get("name", ""))
        if fault:
            tried[fault] += _tries(case)
            failed[fault] += any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
    known = [*(_matrix_words(victim) for victim in VICTIMS), *dict.fromkeys(FILES.values())]
    return [Row(fault, tried[fault], failed[fault]) for fault in known]


def _tries(case: ElementTree.Element) -> int:
    """Return how often a test broke something; one that does so many times says it in a property."""
    told = [found.get("value", "") for found in case.iterfind("properties/property") if found.get("name") == TRIED]
    return int(told[0]) if told else 1


def _fault(classname: str, name: str) -> str:
    path = classname.removeprefix("tests.").replace(".", "/")
    if path.rpartition("/")[2] in MATRIX:
        cell = _CELL.search(name)
        return _matrix_words(cell["victim"]) if cell else ""
    return FILES.get(path, "")


def _matrix_words(victim: str) -> str:
    return f"{VICTIMS[victim]}, before and after each step of a backup"


def table(found: t.Sequence[Row]) -> str:
    """Return the table; a test that failed counts as data lost and a hand needed, whatever it was that failed."""
    lines = ["| fault | times tried | lost data | intervention needed |", "|---|---|---|---|"]
    lines += [f"| {row.fault} | {row.tried} | {row.failed} | {row.failed} |" for row in found]
    total = Row("**all**", sum(row.tried for row in found), sum(row.failed for row in found))
    return "\n".join([*lines, f"| {total.fault} | {total.tried} | {total.failed} | {total.failed} |"])


def write(page: str, text: str) -> str:
    """Return the page with another table between its markers."""
    before, _begin, rest = page.partition(BEGIN)
    _old, _end, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> int:
    """Run them all, write the page, and tell whether all held."""
    os.environ.update(VIRT_BACKUP_FAULTS="all", VIRT_BACKUP_SOAK_BACKUPS="100")
    run = Commands("faults", {})
    report = run.log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    tests = [f"tests/{name}.py" for name in (*(f"integration/{name}" for name in MATRIX), *FILES)]
    pytest = ("python", "-m", "pytest", "-v", "--timeout=900", "--dist=load", "--tx", WORKERS, f"--junitxml={report}")
    try:
        run(*pytest, *tests, limit=5400)
    except guard.Red as red:
        print(f"faults: {red}", file=sys.stderr)
    found = rows(report.read_text(encoding="utf-8"))
    PAGE.write_text(write(PAGE.read_text(encoding="utf-8"), table(found)), encoding="utf-8")
    print(table(found))
    return 1 if any(row.failed or not row.tried for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
