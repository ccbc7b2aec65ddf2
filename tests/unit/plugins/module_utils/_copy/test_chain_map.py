# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading a chain by its map: letters stand for clusters, and where they lie in the images."""

from __future__ import annotations

import os
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy.chain_map import (
    MappedReader,
    MappedSource,
    ReadError,
    open_image,
)
from ansible_collections.virt.backup.plugins.module_utils._model.errors import ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK, CLUSTER
from ansible_collections.virt.backup.plugins.module_utils._qemu import MapExtent

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.virt.backup.plugins.module_utils._copy.chain_map import ImageFile

KIB4 = 4096


class Served:
    """Stands in for QEMU: what it reads are question marks."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def start_read(self, into: memoryview, offset: int) -> list[int]:
        self.asked.append((offset, len(into)))
        into[:] = b"?" * len(into)
        return [7]

    def finish_read(self, cookies: list[int]) -> None:
        assert cookies == [7] * len(cookies)


@pytest.fixture
def images(tmp_path: Path) -> t.Iterator[list[ImageFile]]:
    """Two images: in the top one each cluster is a capital, in the one below a small letter."""
    files = []
    for name, first in (("top", "A"), ("full", "a")):
        content = b"".join(bytes([ord(first) + number]) * CLUSTER for number in range(20))
        (tmp_path / name).write_bytes(content)
        files.append(open_image(str(tmp_path / name)))
    yield files
    for file in files:
        os.close(file.fd)


def read_all(
    extents: t.Sequence[MapExtent], size: int, files: t.Sequence[ImageFile], served: Served | None = None
) -> bytes:
    """Return what the tasks read; memory is used again, so it holds something else before."""
    source = MappedSource(extents, size, CLUSTER)
    reader = MappedReader(source, files, served)
    found = bytearray(size)
    for task in source.tasks():
        for start, end in task.reads:
            buffer = memoryview(bytearray(b"!" * (end - start)))
            half = min(CLUSTER, end - start)
            for first, last in ((0, half), (half, end - start)):
                if first < last:
                    reader.finish_read(reader.start_read(buffer[first:last], start + first))
            found[start:end] = buffer
    assert source._of_block == {}
    return bytes(found)


def picture(content: bytes) -> str:
    """Return a letter for each 4 KiB."""
    assert all(len(set(content[at : at + KIB4])) == 1 for at in range(0, len(content), KIB4))
    return "".join(chr(content[at] or ord("-")) for at in range(0, len(content), KIB4))


def test_pieces_of_two_images_with_a_gap(images: list[ImageFile]) -> None:
    extents = [
        MapExtent(0, CLUSTER, 1, False, 2 * CLUSTER),
        MapExtent(CLUSTER, CLUSTER, 0, False, 0),
        MapExtent(2 * CLUSTER, CLUSTER, 0, True, -1),
        MapExtent(3 * CLUSTER, 2 * CLUSTER, 1, False, 5 * CLUSTER),
    ]
    whole = picture(read_all(extents, 5 * CLUSTER, images))
    assert whole == "c" * 16 + "A" * 16 + "-" * 16 + "f" * 16 + "g" * 16


def test_what_is_less_than_a_cluster_and_an_odd_end(images: list[ImageFile]) -> None:
    """A run is grown to whole clusters: what it did not hold is zero, whatever the memory held."""
    extents = [
        MapExtent(0, 2 * KIB4, 0, True, -1),
        MapExtent(2 * KIB4, 3 * KIB4, 1, False, CLUSTER),
        MapExtent(5 * KIB4, CLUSTER, 0, True, -1),
        MapExtent(5 * KIB4 + CLUSTER, KIB4, 0, False, 3 * CLUSTER),
    ]
    whole = picture(read_all(extents, 6 * KIB4 + CLUSTER, images))
    assert whole == "--bbb" + "-" * 16 + "D"


def test_a_long_piece_over_many_blocks(tmp_path: Path) -> None:
    content = os.urandom(3 * BLOCK + CLUSTER)
    (tmp_path / "a").write_bytes(b"x" * 512 + content)
    file = open_image(str(tmp_path / "a"))
    extents = [MapExtent(0, CLUSTER, 0, True, -1), MapExtent(CLUSTER, len(content), 0, False, 512)]
    assert read_all(extents, CLUSTER + len(content), [file])[CLUSTER:] == content
    os.close(file.fd)


def test_what_only_qemu_can_read(images: list[ImageFile]) -> None:
    extents = [
        MapExtent(0, CLUSTER, 0, False, -1),
        MapExtent(CLUSTER, KIB4, 0, False, 0),
        MapExtent(CLUSTER + KIB4, KIB4, 1, False, -1),
    ]
    size = CLUSTER + 2 * KIB4
    served = Served()
    assert picture(read_all(extents, size, images, served)) == "?" * 16 + "A?"
    assert served.asked == [(0, CLUSTER), (CLUSTER + KIB4, KIB4)]
    with pytest.raises(ToolError, match="does not tell where the content at 0 is"):
        read_all(extents, size, images)


def test_beyond_the_end_of_an_image_is_zero(images: list[ImageFile]) -> None:
    extents = [MapExtent(0, 2 * CLUSTER, 0, False, 19 * CLUSTER)]
    assert picture(read_all(extents, 2 * CLUSTER, images)) == "T" * 16 + "-" * 16


@pytest.mark.parametrize(
    ("extents", "said"),
    [
        ([MapExtent(0, CLUSTER, 0, False, 0)], "ended at 65536 of 131072 bytes"),
        ([MapExtent(CLUSTER, CLUSTER, 0, False, 0)], "left out what is between 0 and 65536"),
        ([], "ended at 0 of 131072 bytes"),
    ],
)
def test_a_map_with_a_hole_is_refused(images: list[ImageFile], extents: list[MapExtent], said: str) -> None:
    with pytest.raises(ToolError, match=said):
        read_all(extents, 2 * CLUSTER, images)


def test_an_image_that_can_not_be_opened_or_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("missing", "link"):
        with pytest.raises(ReadError, match=f"{name} can't be opened"):
            open_image(str(tmp_path / name))
    file = open_image(str(tmp_path))
    with pytest.raises(ReadError, match=r"can't be read at byte 512 \(Is a directory\)"):
        read_all([MapExtent(0, CLUSTER, 0, False, 512)], CLUSTER, [file])
    os.close(file.fd)
