# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any image that the writer makes is what the specification says, read by a reader that shares nothing with it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given

from ansible_collections.virt.backup.tests.unit.properties.qcow2_cases import Case, cases, write
from ansible_collections.virt.backup.tests.unit.properties.qcow2_reader import Image

pytestmark = pytest.mark.slow


def image_of(case: Case) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.qcow2"
        write(case, path)
        return path.read_bytes()


@given(case=cases("none", "zlib"))
def test_every_image_keeps_to_the_specification_and_shows_what_was_written(case: Case) -> None:
    image = Image(image_of(case))
    contents = case.contents()
    assert image.header["size"] == -(-case.size // 512) * 512
    assert (image.backing_file, image.backing_format) == (case.backing, "qcow2" if case.backing else "")
    assert {number: image.read(number) for number in contents} == contents
    assert set(image.entries) == set(contents)


@given(case=cases("none"))
def test_zeroes_take_no_room(case: Case) -> None:
    """What the file holds is its metadata and the clusters with data, each once."""
    data = sum(count for _first, count, fill in case.placed if fill != "zeroes")
    tables = len({first // 8192 for first, _count, _fill in case.placed})
    clusters = len(image_of(case)) // 65536
    assert clusters == 1 + data + tables + 1 + 1 + 1  # header, L1 table, refcount table, refcount block


@pytest.mark.parametrize(
    ("offset", "what"), [(7, "version"), (79, "incompatible"), (47, "L1 table"), (55, "refcount table"), (31, "size")]
)
def test_the_reader_notices_a_field_that_is_wrong(offset: int, what: str) -> None:
    """The reader is worth something: it does not take every file."""
    data = bytearray(image_of(Case([], 3, 0, "", "none", 0)))
    Image(bytes(data))
    data[offset] ^= 1
    with pytest.raises(AssertionError):
        Image(bytes(data))


def test_the_reader_notices_a_refcount_that_is_wrong() -> None:
    data = bytearray(image_of(Case([], 3, 0, "", "none", 0)))
    table = int.from_bytes(data[48:56], "big")
    block = int.from_bytes(data[table : table + 8], "big")
    data[block + 1] ^= 3
    with pytest.raises(AssertionError):
        Image(bytes(data))
