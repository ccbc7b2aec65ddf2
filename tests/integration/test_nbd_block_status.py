# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both ways to ask for extents give the same: with 32-bit lengths (libnbd 1.14) and with 64-bit ones (since 1.18).

Where the library has only the first, the second is its answer in the shape of the newer one; where it has both, each is
the library's own.
"""

from __future__ import annotations

import random
import threading
import types
import typing as t

import nbd as libnbd
import pytest

from ansible_collections.virt.backup.plugins.module_utils import _nbd
from ansible_collections.virt.backup.plugins.module_utils._model.extent import Extent
from ansible_collections.virt.backup.plugins.module_utils._nbd import Connection
from ansible_collections.virt.backup.tests.integration import without_hypervisor
from ansible_collections.virt.backup.tests.integration.model_disk import ModelDisk, odd_manners
from ansible_collections.virt.backup.tests.integration.nbd_fake import ALLOCATION, BITMAP, Disk, FakeServer

if t.TYPE_CHECKING:
    from pathlib import Path

lab_host = without_hypervisor.lab_host


class Narrow:
    """libnbd as it was before 64-bit lengths."""

    def __init__(self) -> None:
        self._handle = libnbd.NBD()
        self.used = 0

    def __getattr__(self, name: str) -> t.Any:
        if name == "aio_block_status_64":
            raise AttributeError(name)
        return getattr(self._handle, name)

    def aio_block_status(self, *args: t.Any) -> t.Any:
        self.used += 1
        return self._handle.aio_block_status(*args)


class Wide:
    """libnbd with 64-bit lengths, and without the older call."""

    def __init__(self) -> None:
        self._handle = libnbd.NBD()
        self.used = 0

    def __getattr__(self, name: str) -> t.Any:
        if name == "aio_block_status":
            raise AttributeError(name)
        return getattr(self._handle, name)

    def aio_block_status_64(self, length: int, offset: int, extent: t.Callable[..., int], *rest: t.Any) -> t.Any:
        self.used += 1
        if hasattr(self._handle, "aio_block_status_64"):
            return self._handle.aio_block_status_64(length, offset, extent, *rest)

        def pairs(name: str, start: int, flat: list[int], error: t.Any) -> int:
            return extent(name, start, list(zip(flat[::2], flat[1::2])), error)

        return self._handle.aio_block_status(length, offset, pairs, *rest)


def asked(place: Path, disk: Disk, chance: random.Random, ranges: list[tuple[int, int]]) -> list[list[Extent]]:
    with FakeServer(place, disk, odd_manners(chance)) as fake:
        connection = Connection(fake.server.uri(), (ALLOCATION, BITMAP), 10.0, threading.Event())
        found = [
            merged(connection.extents(context, start, end)) for start, end in ranges for context in (ALLOCATION, BITMAP)
        ]
        assert connection._nbd.used > 0
        connection.close()
    return found


def merged(extents: t.Iterable[Extent]) -> list[Extent]:
    """Join neighbours of the same flags: how a server cuts them says nothing."""
    found: list[Extent] = []
    for extent in extents:
        if found and found[-1].flags == extent.flags:
            assert found[-1].offset + found[-1].length == extent.offset
            found[-1] = found[-1]._replace(length=found[-1].length + extent.length)
        else:
            found.append(extent)
    return found


def truth(disk: Disk, context: str, start: int, end: int) -> list[Extent]:
    position, found = 0, []
    for length, flags in disk.contexts[context]:
        first, last = max(position, start), min(position + length, end)
        if first < last:
            found.append(Extent(first, last - first, flags))
        position += length
    return merged(found)


@pytest.mark.parametrize("seed", range(25))
def test_both_calls_give_the_same_extents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    size = chance.randrange(1, 3 * 2**20)
    model = ModelDisk(size, chance)
    model.begin_bitmap(chance.choice([512, 65536]))
    model.change(chance.randrange(1, 10))
    disk = model.served()
    starts = [chance.randrange(size) for _unused in range(3)]
    ranges = [(0, size), *((start, chance.randrange(start, size) + 1) for start in starts)]
    expected = [truth(disk, context, *limits) for limits in ranges for context in (ALLOCATION, BITMAP)]
    for kind in (Narrow, Wide):
        monkeypatch.setattr(_nbd, "nbd", types.SimpleNamespace(**{**vars(libnbd), "NBD": kind}))
        assert asked(tmp_path, disk, chance, ranges) == expected
