# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scenes of servers that are far: TCP on the loopback, and links with a round trip."""

from __future__ import annotations

import contextlib
import typing as t

from benchmarks import programs, sources
from benchmarks.model import GIB, LINK_BYTES_PER_SECOND, Metric, Place, Plan, Row, Scene, Target
from benchmarks.proof import check
from benchmarks.scenes_full import DATA, SIZE
from benchmarks.servers import link, qemu_nbd

if t.TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def tcp(place: Place) -> Iterator[Scene]:
    """The sparse disk over TCP on the loopback."""
    folder, disk = place.folder, place.folder / "sparse.qcow2"
    sources.sparse(disk, SIZE, DATA)
    with qemu_nbd(disk, tcp=True) as server:
        runs = {
            "ours": programs.one(folder, "ours", server),
            "convert": programs.convert(folder, "convert", server),
            "raw": programs.one(folder, "ours", server, format="raw"),
            "nbdcopy": programs.nbdcopy_raw(folder, "nbdcopy", server),
        }
        rows = (
            Row("sparse over TCP → qcow2", "ours", "convert"),
            Row("sparse over TCP → raw", "raw", "nbdcopy"),
        )
        yield Scene(runs, rows, {name: check(disk, runs[name]) for name in ("ours", "raw")})


def _linked(place: Place, milliseconds: int, data: int = DATA) -> t.ContextManager[Scene]:
    @contextlib.contextmanager
    def scene() -> Iterator[Scene]:
        folder, disk = place.folder, place.folder / "sparse.qcow2"
        sources.sparse(disk, SIZE, data)
        with qemu_nbd(disk) as near, link(near, milliseconds / 1000, LINK_BYTES_PER_SECOND) as server:
            runs = {
                "ours": programs.one(folder, "ours", server),
                "nbdcopy": programs.nbdcopy_raw(folder, "nbdcopy", server),
            }
            target = Target(Metric.LINK_SHARE, 0.90, least=True)
            rows = (Row(f"1 Gbit/s, {milliseconds} ms → qcow2", "ours", "nbdcopy", (target,), link_bytes=data),)
            yield Scene(runs, rows, {"ours": check(disk, runs["ours"])}, steady=True)

    return scene()


def link_1(place: Place) -> t.ContextManager[Scene]:
    """A link of 1 ms."""
    return _linked(place, 1)


def link_10(place: Place) -> t.ContextManager[Scene]:
    """A link of 10 ms."""
    return _linked(place, 10)


def link_100(place: Place) -> t.ContextManager[Scene]:
    """A link of 100 ms, with 2 GiB, because to connect and to ask takes a second and more there."""
    return _linked(place, 100, 2 * DATA)


PLANS: dict[str, Plan] = {
    "tcp": Plan(tcp, 4 * GIB),
    "link-1": Plan(link_1, 4 * GIB),
    "link-10": Plan(link_10, 4 * GIB),
    "link-100": Plan(link_100, 6 * GIB),
}
