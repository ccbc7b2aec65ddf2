# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Extents of more than 4 GiB: in pieces up to libnbd 1.16 and QEMU 8.1, in one with extended headers after them."""

from __future__ import annotations

import threading
import typing as t
from pathlib import Path

import nbd as libnbd
import pytest

from ansible_collections.virt.backup.plugins.module_utils._nbd import ALLOCATION, BITMAP_PREFIX, Connection
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd

GIB = 1024 * 1024 * 1024
SIZE = 40 * GIB
NEAR, FAR = 5 * GIB + 65536, 39 * GIB
"""Where data is: what lies between them does not fit into 32 bits."""


@pytest.fixture
def server(tmp_path: Path) -> t.Iterator[nbd.Server]:
    """Serve a disk and its bitmap, which marks both places and a trim of 20 GiB between them."""
    disk = nbd.create(tmp_path / "disk.qcow2", SIZE)
    nbd.create(tmp_path / "base.qcow2", SIZE)
    nbd.qemu_io(disk, f"write -P 1 {10 * GIB} 64k")
    nbd.qemu_io(tmp_path / "base.qcow2", f"write -P 1 {10 * GIB} 64k")
    nbd.add_bitmap(disk, "b")
    nbd.qemu_io(disk, f"write -P 7 {NEAR} 64k", f"write -P 8 {FAR} 128k", f"write -z {8 * GIB} 1G")
    nbd.qemu_io(disk, *(f"write -z {start * GIB} 1G" for start in range(9, 28)))
    with nbd.qemu_nbd(disk, "-r", "-B", "b") as running:
        yield running


def extended(uri: str) -> bool:
    """Whether libnbd and the server agree on extended headers (libnbd 1.18, QEMU 8.2)."""
    handle = libnbd.NBD()
    if not hasattr(handle, "get_extended_headers_negotiated"):
        return False
    handle.set_uri_allow_local_file(True)
    handle.connect_uri(uri)
    negotiated: bool = handle.get_extended_headers_negotiated()
    handle.shutdown()
    return negotiated


def expected_extended() -> bool:
    """Whether both of this machine's versions have them."""
    version = nbd.run("qemu-nbd", "--version").split()[1]
    ours = tuple(int(part) for part in libnbd.NBD().get_version().split(".")[:2])
    return ours >= (1, 18) and tuple(int(part) for part in version.split(".")[:2]) >= (8, 2)


def test_extended_headers_are_used_where_both_ends_have_them(server: nbd.Server) -> None:
    assert extended(server.uri()) is expected_extended()
    most = SIZE if expected_extended() else 2 * GIB  # what fits into one question
    connection = Connection(server.uri(), (ALLOCATION, BITMAP_PREFIX + "b"), 10, threading.Event())
    for context in (ALLOCATION, BITMAP_PREFIX + "b"):
        questions = (connection.extents(context, start, start + most) for start in range(0, SIZE, most))
        lengths = [extent.length for extents in questions for extent in extents]
        assert sum(lengths) == SIZE
        assert (max(lengths) > 4 * GIB) is expected_extended()
    connection.close()


def test_a_full_copy_has_what_lies_beyond(server: nbd.Server, tmp_path: Path) -> None:
    copy = tmp_path / "copy.qcow2"
    result = nbd.run_module({"images": [{"uri": server.uri(), "dest": str(copy)}]}, tmp_path)
    assert result["images"][0]["bytes_copied"] == 3 * 65536
    nbd.identical(copy, tmp_path / "disk.qcow2")


def test_an_increment_has_what_became_zero_beyond(server: nbd.Server, tmp_path: Path) -> None:
    step = tmp_path / "step.qcow2"
    image = {"uri": server.uri(), "dest": str(step), "bitmap": "b", "backing_file": "base.qcow2"}
    result = nbd.run_module({"images": [image]}, tmp_path)
    assert result["images"][0]["bytes_copied"] == 3 * 65536
    assert result["images"][0]["bytes_zeroed"] == 20 * GIB
    nbd.identical(step, tmp_path / "disk.qcow2")
