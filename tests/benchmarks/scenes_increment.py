# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scenes of increments, and of the server that libvirt gives: pull-shaped."""

from __future__ import annotations

import contextlib
import shutil
import typing as t
from pathlib import Path

from benchmarks import programs, sources
from benchmarks.model import GIB, MIB, Place, Plan, Program, Row, Scene, at_most
from benchmarks.proof import check
from benchmarks.scenes_full import DATA, SIZE
from benchmarks.servers import Server, qemu_nbd, storage_daemon

if t.TYPE_CHECKING:
    from collections.abc import Iterator

_DIRTY = {
    "b5": ("5 MiB dirty (0.5 %)", 5, 0.0),
    "b20": ("20 MiB dirty", 20, 0.08),
    "b51": ("51 MiB dirty (5 %)", 51, 0.0),
    "b200": ("200 MiB dirty", 200, 0.25),
    "b512": ("512 MiB dirty (50 %)", 512, 0.0),
}
"""By bitmap: its name in the table, MiB, and the most of the wall time of a full qemu-img convert."""


Before = t.Mapping[str, Path]
"""By bitmap, the image of the disk when it was made."""


def _disks(folder: Path) -> tuple[Path, Before]:
    """Return the disk with its bitmaps, and what was there before each."""
    base, disk = folder / "base.qcow2", folder / "changed.qcow2"
    sources.sparse(base, SIZE, DATA)
    shutil.copyfile(base, disk)
    dirty = {name: mebibytes * MIB for name, (unused, mebibytes, bound) in _DIRTY.items()}
    return disk, sources.dirtied(disk, SIZE, base, dirty)


def _programs(folder: Path, server: Server, export: str, before: Before) -> dict[str, Program]:
    return {
        name: programs.one(folder, name, server, export, bitmap=name, backing_file=image.name)
        for name, image in before.items()
    }


@contextlib.contextmanager
def increments(place: Place) -> Iterator[Scene]:
    """Increments of several sizes on qemu-nbd, against a full copy of the same export."""
    disk, before = _disks(place.folder)
    with qemu_nbd(disk, *(word for name in _DIRTY for word in ("-B", name))) as server:
        runs = _programs(place.folder, server, "", before)
        checks = {name: check(disk, run) for name, run in runs.items()}
        runs["convert"] = programs.convert(place.folder, "convert", server)
        base = before["b20"].name
        runs["sampled"] = programs.one(
            place.folder, "sampled", server, bitmap="b20", backing_file=base, clean_samples=64
        )
        sampled = Row("increment, 20 MiB dirty, 64 clean samples", "sampled", "b20")
        yield Scene(runs, (*_rows("increment", _DIRTY), sampled), checks)


@contextlib.contextmanager
def pull(place: Place) -> Iterator[Scene]:
    """A full copy and increments from what libvirt serves: a scratch overlay over the disk, frozen by a job."""
    disk, before = _disks(place.folder)
    with storage_daemon(place.folder, [disk], list(_DIRTY)) as server:
        runs = _programs(place.folder, server, "disk0", {name: before[name] for name in ("b20", "b200")})
        runs["ours"] = programs.one(place.folder, "ours", server, "disk0")
        checks = {name: check(disk, run) for name, run in runs.items()}
        runs["convert"] = programs.convert(place.folder, "convert", server, export="disk0")
        full = Row("pull-shaped → qcow2", "ours", "convert", at_most(wall=0.55))
        yield Scene(runs, (full, *_rows("pull-shaped increment", ("b20", "b200"))), checks)


def _rows(case: str, names: t.Iterable[str]) -> tuple[Row, ...]:
    return tuple(Row(f"{case}, {_DIRTY[name][0]}", name, "convert", at_most(_DIRTY[name][2])) for name in names)


PLANS: dict[str, Plan] = {
    "increments": Plan(increments, 6 * GIB),
    "pull": Plan(pull, 6 * GIB),
}
