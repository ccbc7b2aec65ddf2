# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of what was broken and what came of it, from a report of tests."""

from __future__ import annotations

import faults

JUNIT = """
<testsuites><testsuite>
  <testcase classname="tests.integration.test_kill_matrix" name="test_x[3-lock-before-module]"/>
  <testcase classname="tests.integration.test_kill_matrix" name="test_x[3-lock-after-module]"><failure/></testcase>
  <testcase classname="tests.integration.test_kill_matrix" name="test_x[9-copy-after-module-sigterm]"/>
  <testcase classname="tests.integration.test_doctor" name="test_y"><skipped/></testcase>
  <testcase classname="tests.unit.plugins.module_utils._store.test_kill" name="test_w">
    <properties><property name="tried" value="30"/></properties>
  </testcase>
  <testcase classname="tests.integration.test_readme" name="test_z"/>
</testsuite></testsuites>
"""


def test_what_was_tried_and_what_failed() -> None:
    found = {row.fault.partition(",")[0]: (row.tried, row.failed) for row in faults.rows(JUNIT)}
    assert found["the module is killed (SIGKILL)"] == (2, 1)
    assert found["the module is told to end (SIGTERM)"] == (1, 0)
    assert found["leftovers"] == (1, 1)
    assert found["QEMU is killed (SIGKILL)"] == (0, 0)
    assert found["a change of the repository is killed before each system call"] == (30, 0)
    assert sum(tried for tried, _failed in found.values()) == 34


def test_every_file_that_is_named_is_there() -> None:
    names = [*faults.FILES, *(f"integration/{name}" for name in faults.MATRIX)]
    assert [name for name in names if not (faults.paths.TESTS / f"{name}.py").is_file()] == []


def test_the_page_keeps_what_stands_around_the_table() -> None:
    page = f"before\n{faults.BEGIN}\nold\n{faults.END}\nafter\n"
    text = faults.table(faults.rows(JUNIT))
    assert faults.write(page, text) == f"before\n{faults.BEGIN}\n\n{text}\n\n{faults.END}\nafter\n"
    assert "| **all** | 34 | 2 | 2 |" in text
