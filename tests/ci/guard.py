# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much a tool really did, read from its output: several tools are green when they ran nothing at all.

Every function here raises :class:`Red` with one sentence when that is too little.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import typing as t
from xml.etree import ElementTree


class Red(Exception):
    """A step failed; the text says why in one sentence."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a test runner reports in its JUnit file."""

    tests: int
    failed: int
    skipped: int

    @property
    def passed(self) -> int:
        """Return the tests that ran and held."""
        return self.tests - self.failed - self.skipped


@dataclasses.dataclass(frozen=True)
class Recap:
    """What a run of Ansible did, over all of its plays."""

    plays: int
    hosts: frozenset[str]
    tasks: int


def require(what: str, found: int, minimum: int) -> int:
    """Return what was found when it is enough."""
    if found < minimum:
        raise Red(f"only {found} {what} where at least {minimum} are known: something was not run")
    return found


def read_junit(text: str) -> Counts:
    """Sum up the suites of a JUnit file."""
    total: collections.Counter[str] = collections.Counter()
    for suite in ElementTree.fromstring(text).iter("testsuite"):
        total.update({name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")})
    return Counts(total["tests"], total["failures"] + total["errors"], total["skipped"])


def check_tests(counts: Counts, minimum: int) -> str:
    """Demand that enough tests passed, none failed and none was skipped; return the line for humans."""
    if counts.failed or counts.skipped:
        raise Red(f"{counts.failed} tests failed and {counts.skipped} were skipped; none may be")
    return f"{require('tests', counts.passed, minimum)} tests"


def find_number(output: str, pattern: str, what: str) -> int:
    """Return the number that a tool prints about itself; a tool that no longer prints it is not trusted."""
    found = re.search(pattern, output)
    if found is None:
        raise Red(f"the output does not tell the number of {what}")
    return int(found.group(1))


def check_sanity(output: str, wanted: t.Iterable[str]) -> str:
    """Demand that every wanted sanity test ran."""
    ran = re.findall(r'^Running sanity test "([^"]+)"', output, re.MULTILINE)
    missing = sorted(set(wanted) - set(ran))
    if missing:
        raise Red(f"ansible-test left out the sanity tests {', '.join(missing)}")
    return f"{len(set(ran))} sanity tests"


def read_recap(output: str) -> Recap:
    """Return what the recaps of all ansible-playbook runs in ``output`` add up to."""
    lines = re.findall(r"^(\S+)\s+: ok=(\d+)\s+changed=\d+\s+unreachable=\d+\s+failed=\d+", output, re.MULTILINE)
    plays = len(re.findall(r"^PLAY \[", output, re.MULTILINE))
    worked = {host: int(ok) for host, ok in lines if int(ok)}
    return Recap(plays, frozenset(worked), sum(int(ok) for _host, ok in lines))


def split_scenarios(output: str) -> dict[str, str]:
    """Return what molecule printed for each scenario, its actions after one another."""
    pieces = re.split(r"^\w+\s+\[(\S+) > \w+\] Executing\s*$", output, flags=re.MULTILINE)[1:]
    texts: dict[str, str] = collections.defaultdict(str)
    for name, text in zip(pieces[::2], pieces[1::2], strict=True):
        texts[name] += text
    return dict(texts)


def check_scenarios(output: str, minimums: t.Mapping[str, t.Mapping[str, int]]) -> str:
    """Demand of every known scenario that enough plays, hosts and tasks ran; return the line for humans."""
    texts = split_scenarios(output)
    told = [f"{name}: {check_recap(read_recap(texts.get(name, '')), minimum)}" for name, minimum in minimums.items()]
    return "; ".join(told)


def check_recap(recap: Recap, minimum: t.Mapping[str, int]) -> str:
    """Demand enough plays, hosts and tasks of an Ansible run; return the line for humans."""
    require("plays", recap.plays, minimum["plays"])
    require("hosts", len(recap.hosts), minimum["hosts"])
    require("tasks", recap.tasks, minimum["tasks"])
    return f"{recap.plays} plays, {len(recap.hosts)} hosts, {recap.tasks} tasks"


def check_silence(output: str) -> None:
    """Demand that no line is a warning or an error."""
    loud = [line for line in output.splitlines() if re.match(r"\W*(WARNING|ERROR|CRITICAL)\b", line)]
    if loud:
        raise Red(f"{len(loud)} warnings or errors, the first: {loud[0]}")
