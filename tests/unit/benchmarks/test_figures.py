# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the benchmark makes of what it measured: ratios, verdicts, table, plot."""

from __future__ import annotations

import ast
import typing as t
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from benchmarks import plot, report
from benchmarks.__main__ import PAGE, PLANS, parse
from benchmarks.figures import Figures, figures, median, ratio
from benchmarks.model import LINK_BYTES_PER_SECOND, Metric, Program, Row, Spent, Target, at_most
from benchmarks.programs import in_turn

OURS = [Spent(1.0, 1.5, 30), Spent(8.0, 1.8, 31), Spent(1.2, 1.2, 29)]
THEIRS = [Spent(2.0, 3.0, 40), Spent(16.0, 3.0, 41), Spent(2.0, 3.0, 40)]
ROUNDS = {"ours": OURS, "convert": THEIRS}


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1.0], [2.0], 0.5),
        ([1.0, 8.0, 1.2], [2.0, 16.0, 2.0], 0.5),  # the slow round was slow for both
        ([1.0, 3.0], [1.0, 1.0], 2.0),
        ([9.0, 1.0, 1.0], [1.0, 1.0, 1.0], 1.0),  # one round was slow for us alone
    ],
)
def test_the_ratio_is_the_median_of_the_ratios_of_each_round(
    ours: list[float], theirs: list[float], expected: float
) -> None:
    assert ratio(ours, theirs) == expected


def test_rounds_that_are_not_whole_have_no_ratio() -> None:
    with pytest.raises(AssertionError, match="whole"):
        ratio([1.0], [1.0, 2.0])
    with pytest.raises(AssertionError, match="whole"):
        ratio([], [])


def test_medians_are_of_each_figure_and_memory_is_the_most() -> None:
    assert median(OURS) == Spent(1.2, 1.5, 31)


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target(Metric.WALL, 0.9), 0.9, True),
        (Target(Metric.WALL, 0.9), 0.901, False),
        (Target(Metric.LINK_SHARE, 0.9, least=True), 0.9, True),
        (Target(Metric.LINK_SHARE, 0.9, least=True), 0.899, False),
    ],
)
def test_a_target_is_met_at_its_bound(target: Target, value: float, met: bool) -> None:
    assert target.met(value) is met


@pytest.mark.parametrize(
    ("targets", "verdict"),
    [
        ((), ""),
        (at_most(wall=0.5), "met"),
        (at_most(wall=0.49), "missed"),
        (at_most(wall=0.5, cpu=0.49), "missed"),  # one of two is not enough
        ((Target(Metric.MEMORY, 31),), "met"),
        ((Target(Metric.MEMORY, 30),), "missed"),  # the most of all rounds counts
        ((Target(Metric.CPU_SECONDS, 1.5),), "met"),
    ],
)
def test_a_row_is_met_when_all_its_targets_are(targets: tuple[Target, ...], verdict: str) -> None:
    assert figures(Row("case", "ours", "convert", targets), ROUNDS).verdict == verdict


def test_a_share_of_the_link_is_bytes_over_what_it_could_have_carried() -> None:
    row = Row("link", "ours", targets=(Target(Metric.LINK_SHARE, 0.9, least=True),), link_bytes=LINK_BYTES_PER_SECOND)
    found = figures(row, {"ours": [Spent(1.25, 1, 30)]})
    assert [value for unused, value in found.values] == [0.8]
    assert found.verdict == "missed"
    assert (found.theirs, found.wall) == (None, 0.0)


def one_row(targets: tuple[Target, ...] = (), theirs: str = "convert") -> Figures:
    return figures(Row("sparse → qcow2", "ours", theirs, targets), ROUNDS)


def test_the_table_has_one_line_for_each_row() -> None:
    lines = report.table([one_row(at_most(wall=0.9)), one_row(at_most(cpu=0.1)), one_row(theirs="")]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == (
        "| sparse → qcow2 | qemu-img convert -W | 0.50 | 0.50 | 1.20, 1.50, 31 | 2.00, 3.00, 41 | wall ≤ 0.9 (0.50) | met |"
    )
    assert lines[3].endswith("| CPU ≤ 0.1 (0.50) | **missed** |")
    assert lines[4] == "| sparse → qcow2 | - | - | - | 1.20, 1.50, 31 | - | - | - |"


def test_a_busy_machine_is_told() -> None:
    quiet = report.summary([one_row(at_most(wall=0.9))])
    assert quiet == "1 of 1 rows with a target met it."
    busy = figures(Row("case", "ours"), {"ours": [Spent(1, 1, 1, others=0.4)]})
    assert "40%" in report.summary([busy])


def test_the_page_keeps_what_is_outside_of_its_markers() -> None:
    page = f"# Title\n{report.BEGIN}\nold\n{report.END}\nLimits.\n"
    once = report.replace(page, "new")
    assert once.startswith("# Title\n")
    assert once.endswith("\nLimits.\n")
    assert "old" not in once
    assert report.replace(once, "new") == once
    with pytest.raises(AssertionError, match="markers"):
        report.replace("# Title", "new")


def test_the_page_has_its_markers() -> None:
    assert report.replace(PAGE.read_text(encoding="utf-8"), "x")


def test_the_plot_is_a_picture_with_a_bar_for_each_comparison() -> None:
    slow = figures(Row("slow & <wide>", "ours", "convert"), {"ours": [Spent(9, 1, 1)], "convert": [Spent(1, 1, 1)]})
    root = ET.fromstring(plot.svg([one_row(at_most(wall=0.9)), slow, one_row(theirs="")]))
    bars = [element for element in root.findall(".//{*}rect") if "class" in element.attrib]
    assert [rect.attrib["class"] for rect in bars] == ["met", "plain"]
    widths = [float(rect.attrib["width"]) for rect in bars]
    assert widths == [140.0, 420.0]  # 0.5 of 1.5, and what is slower than the edge ends there
    assert len([line for line in root.findall(".//{*}line") if line.attrib["class"] == "target"]) == 1
    assert "slow & <wide> / qemu-img convert -W" in [text.text for text in root.findall(".//{*}text")]


def test_programs_in_turn_are_all_their_commands_and_outputs() -> None:
    one, two = (Program((("true", name),), (Path(name),), (7,)) for name in "ab")
    assert in_turn([one, two]) == Program((("true", "a"), ("true", "b")), (Path("a"), Path("b")), (7,))


def test_the_command_line_names_the_scenes() -> None:
    assert parse(["--only", "sparse", "pull"]).only == ["sparse", "pull"]
    with pytest.raises(SystemExit):
        parse(["--only", "nothing"])
    with pytest.raises(SystemExit):
        parse(["--only", "sparse", "--write"])  # would take the other rows from the page
    assert {"sparse", "increments", "pull", "link-100", "disks", "extents", "durable"} <= set(PLANS)


def test_every_peer_has_a_name_for_people() -> None:
    scenes = "".join(path.read_text(encoding="utf-8") for path in Path(report.__file__).parent.glob("scenes_*.py"))
    calls = [node for node in ast.walk(ast.parse(scenes.replace("from __future__", "from future"))) if is_row(node)]
    peers = {call.args[2].value for call in calls if len(call.args) > 2 and isinstance(call.args[2], ast.Constant)}
    assert len(calls) > 20
    assert peers <= set(report.PEERS)


def is_row(node: ast.AST) -> t.TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Row"
