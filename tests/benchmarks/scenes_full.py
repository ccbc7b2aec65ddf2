# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scenes of full copies: sparse, dense, fragmented, all zero, durable."""

from __future__ import annotations

import contextlib
import typing as t

from benchmarks import programs, sources
from benchmarks.model import GIB, KIB, MIB, TIB, Metric, Place, Plan, Row, Scene, Target, at_most
from benchmarks.proof import check
from benchmarks.servers import qemu_nbd

if t.TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 4 * GIB
DATA = GIB
_TO_CONVERT = at_most(wall=0.90, cpu=0.95)


@contextlib.contextmanager
def sparse(place: Place) -> Iterator[Scene]:
    """1 GiB of data in runs of 64 KiB to 4 MiB on a disk of 4 GiB."""
    folder, disk = place.folder, place.folder / "sparse.qcow2"
    sources.sparse(disk, SIZE, DATA)
    with qemu_nbd(disk) as server:
        runs = {
            "ours": programs.one(folder, "ours", server),
            "convert": programs.convert(folder, "convert", server),
            "raw": programs.one(folder, "ours", server, format="raw"),
            "nbdcopy": programs.nbdcopy_raw(folder, "nbdcopy", server),
            "sha256": programs.one(folder, "sha256", server, checksum="sha256"),
            "nbdcopy-qcow2": programs.nbdcopy_qcow2(folder, "nbdcopy", server, SIZE),
            "zstd": programs.one(folder, "zstd", server, compression="zstd"),
            "convert-zstd": programs.convert(folder, "convert-zstd", server, "-c", "-o", "compression_type=zstd"),
        }
        rows = (
            Row("sparse → qcow2", "ours", "convert", _TO_CONVERT),
            Row("sparse → qcow2", "ours", "nbdcopy-qcow2", at_most(wall=0.60)),
            Row("sparse → raw", "raw", "nbdcopy", at_most(wall=0.95)),
            Row("sparse → qcow2, zstd", "zstd", "convert-zstd", at_most(wall=0.55)),
            Row("sparse → qcow2, sha256", "sha256", "ours", at_most(wall=1.25)),
            Row("sparse → qcow2, sha256", "sha256", "convert"),
        )
        checked = ("ours", "raw", "sha256", "zstd")
        yield Scene(runs, rows, {name: check(disk, runs[name]) for name in checked})


@contextlib.contextmanager
def dense(place: Place) -> Iterator[Scene]:
    """A disk of 1 GiB that is all data."""
    folder, disk = place.folder, place.folder / "dense.qcow2"
    sources.dense(disk, DATA)
    with qemu_nbd(disk) as server:
        runs = {
            "ours": programs.one(folder, "ours", server),
            "convert": programs.convert(folder, "convert", server),
            "raw": programs.one(folder, "ours", server, format="raw"),
            "nbdcopy": programs.nbdcopy_raw(folder, "nbdcopy", server),
        }
        rows = (
            Row("dense → qcow2", "ours", "convert", _TO_CONVERT),
            Row("dense → raw", "raw", "nbdcopy", at_most(wall=0.95)),
        )
        yield Scene(runs, rows, {name: check(disk, runs[name]) for name in ("ours", "raw")})


def _fragmented(place: Place, data: int, piece: int) -> t.ContextManager[Scene]:
    @contextlib.contextmanager
    def scene() -> Iterator[Scene]:
        folder, disk, name = place.folder, place.folder / "fragmented.raw", f"every other {piece // KIB} KiB"
        sources.fragmented(disk, data, piece)
        with qemu_nbd(disk, image_format="raw") as server:
            runs = {
                "raw": programs.one(folder, "ours", server, format="raw"),
                "nbdcopy": programs.nbdcopy_raw(folder, "nbdcopy", server),
                "ours": programs.one(folder, "ours", server),
                "convert": programs.convert(folder, "convert", server),
            }
            rows = (
                Row(f"{name} → raw", "raw", "nbdcopy", at_most(wall=1.05)),
                Row(f"{name} → qcow2", "ours", "convert"),
            )
            yield Scene(runs, rows, {name: check(disk, runs[name]) for name in ("raw", "ours")})

    return scene()


def fragmented_64k(place: Place) -> t.ContextManager[Scene]:
    """1 GiB of data, every other 64 KiB of a raw disk."""
    return _fragmented(place, DATA, 64 * KIB)


def fragmented_4k(place: Place) -> t.ContextManager[Scene]:
    """256 MiB of data, every other 4 KiB of a raw disk."""
    return _fragmented(place, 256 * MIB, 4 * KIB)


@contextlib.contextmanager
def zero(place: Place) -> Iterator[Scene]:
    """1 GiB of zeroes that were written."""
    folder, disk = place.folder, place.folder / "zero.raw"
    sources.zeroes(disk, DATA)
    with qemu_nbd(disk, image_format="raw") as server:
        runs = {
            "ours": programs.one(folder, "ours", server),
            "convert": programs.convert(folder, "convert", server),
        }
        rows = (Row("all zero → qcow2", "ours", "convert"),)
        yield Scene(runs, rows, {"ours": check(disk, runs["ours"])})


@contextlib.contextmanager
def empty(place: Place) -> Iterator[Scene]:
    """A disk of 8 TiB without data: whole, and an increment in which nothing is dirty."""
    folder, disk, base = place.folder, place.folder / "empty.qcow2", place.folder / "base.qcow2"
    for image in (disk, base):
        sources.blank(image, 8 * TIB)
    sources.add_bitmap(disk, "nothing")
    with qemu_nbd(disk, "-B", "nothing") as server:
        runs = {
            "full": programs.one(folder, "full", server),
            "convert": programs.convert(folder, "convert", server),
            "increment": programs.one(folder, "increment", server, bitmap="nothing", backing_file=base.name),
        }
        rows = (
            Row("8 TiB without data → qcow2", "full", "convert"),
            Row("8 TiB, nothing dirty", "increment", targets=(Target(Metric.CPU_SECONDS, 1.0),)),
        )
        yield Scene(runs, rows, {name: check(disk, runs[name]) for name in ("full", "increment")})


@contextlib.contextmanager
def durable(place: Place) -> Iterator[Scene]:
    """Into a file system on a real disk, with the data on it at the end."""
    folder, disk = place.disk, place.folder / "sparse.qcow2"
    sources.sparse(disk, SIZE, DATA)
    with qemu_nbd(disk) as server:
        runs = {
            "ours": programs.one(folder, "ours", server),
            "convert-synced": programs.convert_synced(folder, "convert", server),
        }
        rows = (Row("sparse → qcow2, durable", "ours", "convert-synced", at_most(wall=0.80)),)
        yield Scene(runs, rows, {"ours": check(disk, runs["ours"])})


PLANS: dict[str, Plan] = {
    "sparse": Plan(sparse, 4 * GIB),
    "dense": Plan(dense, 4 * GIB),
    "fragmented-64k": Plan(fragmented_64k, 4 * GIB),
    "fragmented-4k": Plan(fragmented_4k, 2 * GIB),
    "zero": Plan(zero, 3 * GIB),
    "empty": Plan(empty, GIB),
    "durable": Plan(durable, 3 * GIB, on_disk=True),
}
