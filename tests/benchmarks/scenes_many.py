# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scenes of many: disks in one call, extents of one disk."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

from benchmarks import programs, sources
from benchmarks.model import GIB, MIB, Check, Metric, Place, Plan, Program, Row, Scene, Target, at_most
from benchmarks.proof import check, same
from benchmarks.servers import Server, qemu_nbd, storage_daemon, virtual_size

if t.TYPE_CHECKING:
    from collections.abc import Iterator

_DISKS = 16
_DATA = 96 * MIB
_SIZE = 512 * MIB
_MILLION = 1_000_000
_FOUR = at_most(wall=0.85, cpu=1.00)


@contextlib.contextmanager
def disks(place: Place) -> Iterator[Scene]:
    """4 and 16 disks in one call, against one call for each, from one pull-shaped server as libvirt runs it."""
    images = [place.folder / f"source{index}.qcow2" for index in range(_DISKS)]
    for image in images:
        sources.sparse(image, _SIZE, _DATA)
    with storage_daemon(place.folder, images) as server:
        runs: dict[str, Program] = {}
        for count in (4, _DISKS):
            runs[f"{count} at once"] = _at_once(place.folder, server, count)
            calls = [programs.one(place.folder, f"single{index}", server, f"disk{index}") for index in range(count)]
            runs[f"{count} in turn"] = programs.in_turn(calls)
        memory = Target(Metric.MEMORY, 256)
        rows = (
            Row("4 disks in one call", "4 at once", "4 in turn", _FOUR),
            Row("16 disks in one call", "16 at once", "16 in turn", (memory,)),
        )
        yield Scene(runs, rows, {name: _check(images, run) for name, run in runs.items()})


def _at_once(folder: Path, server: Server, count: int) -> Program:
    images = [
        {"uri": server.uri(f"disk{index}"), "dest": str(folder / f"together{index}.qcow2")} for index in range(count)
    ]
    return programs.ours(folder, f"together-{count}", images, server)


def _check(images: list[Path], program: Program) -> Check:
    def all_same() -> None:
        for image, output in zip(images, program.outputs, strict=False):
            same(image, output)

    return all_same


@contextlib.contextmanager
def extents(place: Place) -> Iterator[Scene]:
    """A disk of a million runs of data with as many holes between them: what its description takes in memory.

    The data are zeroes, so that what is right can be compared in seconds. No peer: it is not about time.
    """
    folder, disk, blank = place.folder, place.folder / "extents.qcow2", place.folder / "blank.qcow2"
    sources.many_extents(disk, _MILLION)
    sources.blank(blank, virtual_size(disk))
    with qemu_nbd(disk) as server:
        runs = {"ours": programs.one(folder, "ours", server)}
        rows = (Row("1 million extents → qcow2", "ours", targets=(Target(Metric.MEMORY, 64),)),)
        yield Scene(runs, rows, {"ours": check(blank, runs["ours"])}, steady=True)


PLANS: dict[str, Plan] = {
    "disks": Plan(disks, 6 * GIB),
    "extents": Plan(extents, GIB),
}
