# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run programs and see what they cost: wall, CPU of clients, targets and servers, peak memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

from benchmarks.machine import available_memory, file_system
from benchmarks.model import GIB, BenchError, Command, Program, Scene, Spent

if t.TYPE_CHECKING:
    from benchmarks.figures import Rounds

_TICK = os.sysconf("SC_CLK_TCK")
_CORES = os.cpu_count() or 1


def measure(scene: Scene, rounds: int) -> Rounds:
    """Run all programs in turns, ``rounds`` times after one turn that warms up; outputs of the first are checked."""
    spent: dict[str, list[Spent]] = {name: [] for name in scene.programs}
    for turn in range(1 if scene.steady else rounds + 1):
        for name in _rotated(list(scene.programs), turn):
            program = scene.programs[name]
            cost = spend(program)
            if turn or scene.steady:
                spent[name].append(cost)
            if not turn and name in scene.checks:
                scene.checks[name]()
            remove(program.outputs)
    return spent


def _rotated(names: list[str], turn: int) -> list[str]:
    """Begin each round with another program: what runs after a heavy one pays for it."""
    first = turn % len(names)
    return names[first:] + names[:first]


def spend(program: Program) -> Spent:
    """Run a program's commands and measure them."""
    remove(program.outputs)
    busy, served, began = machine_seconds(), _served(program), time.monotonic()
    costs = [_run(command) for command in program.commands]
    wall = time.monotonic() - began
    cpu = sum(cost[0] for cost in costs) + _served(program) - served
    others = (machine_seconds() - busy - cpu) / (wall * _CORES)
    return Spent(wall, cpu, max(cost[1] for cost in costs), max(0.0, others))


def _run(command: Command) -> tuple[float, float]:
    """Run one command; return its CPU seconds and peak MiB, its children that it waited for included."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            _pid, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # whoever interrupts us wants no copy to go on
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise BenchError(f"{' '.join(command)} failed: {errors.read().decode(errors='replace').strip()[-600:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _served(program: Program) -> float:
    return sum(process_seconds(pid) for pid in program.servers)


def process_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and all its threads until now."""
    # After the name, which may hold anything in its brackets, utime and stime are fields 12 and 13 (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def machine_seconds() -> float:
    """Return the CPU seconds that the whole machine was busy since its start."""
    user, nice, system, _idle, _wait, irq, soft = _cpu_line()[:7]
    return (user + nice + system + irq + soft) / _TICK


def _cpu_line() -> list[int]:
    with open("/proc/stat", encoding="utf-8") as file:
        return [int(word) for word in file.readline().split()[1:]]


def remove(outputs: tuple[Path, ...]) -> None:
    """Remove what a program writes, and the records and digests beside our images."""
    for output in outputs:
        if output.is_dir():
            shutil.rmtree(output)
        output.unlink(missing_ok=True)
        for beside in (".json", ".digests"):
            output.with_suffix(beside).unlink(missing_ok=True)


def require_space(folder: Path, needed: int) -> None:
    """Refuse a folder that has not enough room."""
    free = shutil.disk_usage(folder).free
    if file_system(folder) == "tmpfs":
        free = min(free, available_memory())
    if free < needed:
        there, wanted = free / GIB, needed / GIB
        remedy = "name another with --folder (images in memory) or --disk"
        raise BenchError(f"{folder} has room for {there:.1f} GiB, and {wanted:.0f} are needed: {remedy}.")
