# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scenes of the way back: a chain out of a repository, against qemu-img on the same chain."""

from __future__ import annotations

import contextlib
import random
import typing as t
from pathlib import Path

from benchmarks import programs, sources
from benchmarks.model import GIB, KIB, Place, Plan, Row, Scene, at_most
from benchmarks.proof import check
from benchmarks.scenes_full import DATA, SIZE
from benchmarks.vault import Vault

if t.TYPE_CHECKING:
    from collections.abc import Iterator

_INCREMENTS = 4
_TO_CONVERT = at_most(wall=1.0)


def _scene(place: Place, disk: Path, vault: Vault, case: str) -> Scene:
    folder, top = place.folder, vault.images[-1]
    runs = {
        "ours": programs.restored(folder, "ours", vault.path),
        "convert": programs.convert_file(folder, "convert", top),
        "raw": programs.restored(folder, "ours", vault.path, format="raw"),
        "convert-raw": programs.convert_file(folder, "convert", top, image_format="raw"),
        "sha256": programs.restored(folder, "sha256", vault.path, checksum="sha256"),
    }
    rows = (
        Row(f"{case} → qcow2", "ours", "convert", _TO_CONVERT),
        Row(f"{case} → raw", "raw", "convert-raw", _TO_CONVERT),
        Row(f"{case} → qcow2, sha256", "sha256", "convert"),
    )
    return Scene(runs, rows, {name: check(disk, runs[name]) for name in ("ours", "raw", "sha256")})


@contextlib.contextmanager
def chain(place: Place) -> Iterator[Scene]:
    """A full of 1 GiB on a disk of 4 GiB, and four increments of 64 MiB in runs of 64 to 256 KiB."""
    disk = place.folder / "disk.qcow2"
    sources.sparse(disk, SIZE, DATA)
    vault = Vault(place.folder / "repository", disk, SIZE)
    vault.back_up()
    chance = random.Random(3)
    for number in range(_INCREMENTS):
        places = chance.sample(range(0, SIZE, 256 * KIB), 400)
        sources.write(disk, [f"write -P {number + 1} {at} {chance.randrange(1, 5) * 64 * KIB}" for at in places])
        vault.back_up()
    yield _scene(place, disk, vault, "restore, 4 increments")


@contextlib.contextmanager
def scattered(place: Place) -> Iterator[Scene]:
    """A full of 1 GiB, of which an increment holds every other 64 KiB: no two clusters in a row are in one file."""
    disk = place.folder / "disk.qcow2"
    sources.dense(disk, DATA)
    vault = Vault(place.folder / "repository", disk, DATA)
    vault.back_up()
    sources.write(disk, [f"write -P 7 {at} 64k" for at in range(0, DATA, 128 * KIB)])
    vault.back_up()
    yield _scene(place, disk, vault, "restore, every other 64 KiB in an increment")


PLANS: dict[str, Plan] = {
    "restore": Plan(chain, 6 * GIB),
    "restore-scattered": Plan(scattered, 5 * GIB),
}
