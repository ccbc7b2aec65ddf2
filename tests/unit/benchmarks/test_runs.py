# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of the benchmark that could make a measurement wrong: the link, the clock of servers, the sources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import measure, sources
from benchmarks.link import Lane
from benchmarks.model import GIB, KIB, MIB, BenchError, Program, Scene
from benchmarks.proof import same

pytestmark = pytest.mark.slow

BURN = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
"""0.3 seconds of CPU, however long that takes."""


def test_a_lane_takes_turns_and_delays() -> None:
    lane = Lane(delay=0.5, bytes_per_second=100)
    assert lane.arrival(100, now=10.0) == 11.5
    assert lane.arrival(100, now=10.0) == 12.5  # behind the first
    assert lane.arrival(50, now=20.0) == 21.0  # the lane is free again


def test_a_run_is_measured_with_its_children_and_leaves_no_output(tmp_path: Path) -> None:
    output = tmp_path / "image.raw"
    stale = output.with_suffix(".json")
    stale.write_text("of an earlier run")
    words = ("sh", "-c", f"test ! -e {stale} && '{sys.executable}' -c '{BURN}' && : > {output}")
    spent = measure.spend(Program((words,), (output,), ()))
    assert 0.25 < spent.cpu < 2.0
    assert spent.wall > 0.25
    assert spent.memory > 4
    assert output.exists()
    measure.remove((output,))
    assert not output.exists()


SERVER = f"""
for turn in range(2):
    open("go").close()
    {BURN.replace("while", "    while")}
    open("done", "w").close()
"""


def test_the_cpu_of_servers_belongs_to_the_run(tmp_path: Path) -> None:
    for name in ("go", "done"):
        os.mkfifo(tmp_path / name)
    ask = ("sh", "-c", f"cd '{tmp_path}' && : > go && : < done")  # ends when the server has worked
    with subprocess.Popen([sys.executable, "-c", SERVER], cwd=tmp_path) as server:
        served = measure.spend(Program((ask,), (), (server.pid,)))
        alone = measure.spend(Program((ask,), (), ()))
    assert alone.cpu < 0.2 < served.cpu
    assert alone.others > 0


def test_a_command_that_fails_ends_the_measurement_with_its_words() -> None:
    with pytest.raises(BenchError, match="no such thing"):
        measure.spend(Program((("sh", "-c", "echo no such thing >&2; exit 3"),), (), ()))


def test_each_round_runs_all_and_the_first_is_checked_but_not_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    programs = {name: Program((("sh", "-c", f"echo {name} >> {log}"),), (), ()) for name in "ab"}
    checked: list[str] = []
    spent = measure.measure(Scene(programs, (), {"b": lambda: checked.append("b")}), rounds=2)
    assert {name: len(runs) for name, runs in spent.items()} == {"a": 2, "b": 2}
    assert checked == ["b"]
    assert log.read_text().split() == ["a", "b", "b", "a", "a", "b"]  # each round begins with another
    log.write_text("")
    spent = measure.measure(Scene(programs, (), {"b": lambda: checked.append("b")}, steady=True), rounds=2)
    assert {name: len(runs) for name, runs in spent.items()} == {"a": 1, "b": 1}
    assert checked == ["b", "b"]
    assert log.read_text().split() == ["a", "b"]


def test_too_little_room_is_one_sentence(tmp_path: Path) -> None:
    measure.require_space(tmp_path, 0)
    with pytest.raises(BenchError, match=r"has room for .* GiB, and 1073741824 are needed: name another with --folder"):
        measure.require_space(tmp_path, GIB * GIB)


def extents(image: Path) -> list[tuple[int, bool]]:
    words = ["qemu-img", "map", "--output=json", "-f", image.suffix[1:], str(image)]
    told = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    return [(extent["length"], extent["data"]) for extent in told]


def test_a_sparse_disk_has_the_data_it_says(tmp_path: Path) -> None:
    sources.sparse(tmp_path / "a.qcow2", 64 * MIB, 8 * MIB)
    told = extents(tmp_path / "a.qcow2")
    assert sum(length for length, data in told if data) == 8 * MIB
    sources.sparse(tmp_path / "b.qcow2", 64 * MIB, 8 * MIB)
    same(tmp_path / "a.qcow2", tmp_path / "b.qcow2")  # alike each time


def test_many_extents_are_really_there(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    sources.many_extents(disk, 3000)
    assert extents(disk)[:4] == [(4 * KIB, True), (4 * KIB, False)] * 2
    assert sum(data for unused, data in extents(disk)) >= 3000
    assert disk.stat().st_size < MIB


def test_each_bitmap_tells_what_leads_from_its_base_to_the_disk(tmp_path: Path) -> None:
    base, disk = tmp_path / "base.qcow2", tmp_path / "disk.qcow2"
    for image in (base, disk):
        sources.sparse(image, 64 * MIB, 8 * MIB)
    before = sources.dirtied(disk, 64 * MIB, base, {"few": MIB, "many": 4 * MIB})
    assert before["many"] == base
    for image in before.values():
        with pytest.raises(BenchError, match=r"disk\.qcow2 is not a copy of"):
            same(image, disk)
    told = subprocess.run(
        ["qemu-img", "info", "--output=json", str(disk)], check=True, stdout=subprocess.PIPE, text=True
    )
    assert '"name": "many"' in told.stdout


def test_another_size_is_no_copy(tmp_path: Path) -> None:
    for name, size in (("a", MIB), ("b", 2 * MIB)):
        (tmp_path / f"{name}.raw").write_bytes(bytes(size))
    with pytest.raises(BenchError, match="size mismatch"):
        same(tmp_path / "a.raw", tmp_path / "b.raw")
