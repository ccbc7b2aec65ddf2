# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a chain, from headers that are right, and from some that mean harm."""

from __future__ import annotations

import os
import struct
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy.chain_paths import ChainUnreadable, layers_of
from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2_format import header

if t.TYPE_CHECKING:
    import pathlib


def image(path: pathlib.Path, backing_file: str = "", backing_format: str = "qcow2") -> pathlib.Path:
    """Write the first cluster of an image, of which the rest does not matter here."""
    place = {"size": 1 << 20, "l1_offset": 65536, "l1_entries": 1, "refcount_offset": 131072, "refcount_clusters": 1}
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(header(**place, backing_file=backing_file, backing_format=backing_format))
    return path


def patch(path: pathlib.Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def found(path: pathlib.Path, image_format: str = "qcow2") -> list[tuple[str, str]]:
    return [
        (os.path.relpath(layer.path, path.parents[1]), layer.format) for layer in layers_of(str(path), image_format)
    ]


def test_the_lowest_comes_first_and_names_count_from_their_image(tmp_path: pathlib.Path) -> None:
    (tmp_path / "raw").write_bytes(b"anything")
    image(tmp_path / "1" / "vda.qcow2", "../raw", "raw")
    image(tmp_path / "2" / "vda.qcow2", "../1/vda.qcow2")
    top = image(tmp_path / "3" / "vda.qcow2", str(tmp_path / "2" / "vda.qcow2"))
    chain = [("1/../raw", "raw"), ("1/vda.qcow2", "qcow2"), ("2/vda.qcow2", "qcow2"), ("3/vda.qcow2", "qcow2")]
    assert found(top) == [(os.path.normpath(path), kind) for path, kind in chain]
    assert found(top, "raw") == [("3/vda.qcow2", "raw")]


def test_version_2(tmp_path: pathlib.Path) -> None:
    image(tmp_path / "a" / "base")
    top = image(tmp_path / "a" / "top")
    name = b"base"
    extension = struct.pack(">II", 0xE2792ACA, 5) + b"qcow2\0\0\0" + struct.pack(">II", 0, 0)
    patch(top, 4, struct.pack(">IQI", 2, 72 + len(extension), len(name)))
    patch(top, 72, extension + name)
    assert found(top) == [("a/base", "qcow2"), ("a/top", "qcow2")]


def test_an_unknown_extension_before_it_is_passed(tmp_path: pathlib.Path) -> None:
    base, top = image(tmp_path / "a" / "base"), image(tmp_path / "a" / "top", "base")
    before = top.read_bytes()
    (offset,) = struct.unpack_from(">Q", before, 8)
    other = struct.pack(">II", 0x6803F857, 3) + b"abc\0\0\0\0\0"
    top.write_bytes(before[:112] + other + before[112:])
    patch(top, 8, struct.pack(">Q", offset + len(other)))
    assert found(top)[0] == ("a/base", "qcow2")
    assert base.is_file()


def on_itself(top: pathlib.Path) -> None:
    image(top, top.name)


def on_each_other(top: pathlib.Path) -> None:
    image(top, "other")
    image(top.with_name("other"), f"../{top.parent.name}/{top.name}")


def on_what_is_not_there(top: pathlib.Path) -> None:
    image(top, "nothing")


def on_a_folder(top: pathlib.Path) -> None:
    image(top, "..")


def on_a_pipe(top: pathlib.Path) -> None:
    image(top, "pipe", "raw")
    os.mkfifo(top.with_name("pipe"))


def on_a_host(top: pathlib.Path) -> None:
    image(top, "nbd://localhost/x", "raw")


def on_a_description(top: pathlib.Path) -> None:
    image(top, 'json:{"driver":"null-co"}')


def on_a_name_with_a_null(top: pathlib.Path) -> None:
    image(top, "a\0b")


def of_a_format_that_is_not_said(top: pathlib.Path) -> None:
    image(top, "other", "")


def of_a_format_that_is_not_ours(top: pathlib.Path) -> None:
    image(top, "other", "vmdk")


def of_another_version(top: pathlib.Path) -> None:
    patch(image(top), 4, struct.pack(">I", 4))


def cut_short(top: pathlib.Path) -> None:
    top.write_bytes(image(top, "other").read_bytes()[:60])


def name_beyond_all_bounds(top: pathlib.Path) -> None:
    patch(image(top, "other"), 8, struct.pack(">Q", 1 << 63))


def name_too_long(top: pathlib.Path) -> None:
    patch(image(top, "other"), 16, struct.pack(">I", 1 << 30))


def header_beyond_the_file(top: pathlib.Path) -> None:
    patch(image(top, "other"), 100, struct.pack(">I", 1 << 31))


BROKEN = {
    on_itself: "builds on itself",
    on_each_other: "builds on itself",
    on_what_is_not_there: "No such file",
    on_a_folder: "is no file",
    on_a_pipe: "is no file",
    on_a_host: "which is no path",
    on_a_description: "which is no path",
    on_a_name_with_a_null: "which is no path",
    of_a_format_that_is_not_said: "the format ''",
    of_a_format_that_is_not_ours: "the format 'vmdk'",
    of_another_version: "is no qcow2 image",
    cut_short: "which is no path",
    name_beyond_all_bounds: "which qcow2 does not allow",
    name_too_long: "which qcow2 does not allow",
    header_beyond_the_file: "the format ''",
}


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.__name__)
def test_what_can_be_no_chain(tmp_path: pathlib.Path, case: t.Callable[[pathlib.Path], None]) -> None:
    top = tmp_path / "a" / "top"
    image(top)
    case(top)
    with pytest.raises(ChainUnreadable, match=BROKEN[case]):
        layers_of(str(top), "qcow2")
