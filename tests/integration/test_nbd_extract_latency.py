# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nbd_extract over long ways: nbdkit delays every read as a link of that round trip does, and lets through its bandwidth."""

from __future__ import annotations

import hashlib
import struct
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor

if t.TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
GBIT = 1_000_000_000

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host


def rate(folder: Path, connections: int, size: int) -> float:
    """Copy over a link of 1 Gbit/s and 100 ms, and return bits per second from connecting to the last sync."""
    link = ("--filter=delay", "--filter=rate", "pattern", f"size={size}", "rdelay=100ms")
    dest = folder / "out.raw"
    with nbd.nbdkit(folder, *link, f"rate={GBIT}", "burstiness=0.05") as server:
        request = ExtractRequest(
            images=(ImageRequest(server.uri(), str(dest), format="raw"),), connections=connections, checksum="none"
        )
        [result] = extract(request, check=False).result["images"]
    found, expected = hashlib.sha256(), hashlib.sha256()
    with dest.open("rb") as file:
        for start in range(0, size, MIB):
            found.update(file.read(MIB))
            # Each 8 bytes of nbdkit's pattern are their own offset.
            expected.update(struct.pack(f">{MIB // 8}Q", *range(start, start + MIB, 8)))
    dest.unlink()
    assert found.digest() == expected.digest()
    return float(size * 8 / result["seconds"])


@pytest.mark.parametrize("connections", [1, 4])
def test_a_long_link_is_filled(tmp_path: Path, connections: int) -> None:
    """Twelve blocks have to be on their way all the time; a fixed depth of four gets a third of the bandwidth.

    More than 90 % are reached on a machine that has nothing else to do, which this need not be.
    """
    assert rate(tmp_path, connections, 512 * MIB) >= 0.6 * GBIT
