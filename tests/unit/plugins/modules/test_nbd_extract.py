# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nbd_extract refuses bad input with one sentence that names parameter, value and remedy, before it touches anything."""

from __future__ import annotations

import dataclasses
import json
import socket
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest, Record
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import (
    EncryptionRequest,
    read_encryption,
)
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.plugins.modules import nbd_extract

if t.TYPE_CHECKING:
    from pathlib import Path

URI = "nbd://localhost:1/vda"
BITMAP = {"bitmap": "b", "backing_file": "base.qcow2"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with all that the table below names. QEMU's answer is canned: ``bad*`` is no image."""

    def info(path: str, image_format: str = "") -> _qemu.ImageInfo:
        if "/bad" in path:
            raise ToolError("qemu-img info failed with status 1: Image is not in qcow2 format.")
        return _qemu.ImageInfo(image_format, 512)

    monkeypatch.setattr(_qemu, "info", info)
    for name in ("base.qcow2", "bad.qcow2", "there.qcow2", "plain"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.qcow2").symlink_to("nowhere")
    (tmp_path / "foreign.json").write_text('{"of": "somebody else"}')
    (tmp_path / "listed.digests").write_text("of somebody else")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "socket"))
    bound.close()
    return tmp_path


def record(**changes: t.Any) -> Record:
    known = Record(
        source_id="monday",
        export="vda",
        level=Level.FULL,
        format="qcow2",
        bitmap="",
        backing_file="",
        backing_format="",
        compression="none",
        size=1024,
        bytes_copied=512,
        bytes_zeroed=512,
        bytes_stored=4096,
        file_bytes=3,
        extents=1,
        seconds=0.5,
        digest="sha256:00",
    )
    return dataclasses.replace(known, **changes)


# One row a fault: image parameters, parameters of the call, and how the sentence begins and what it must say.
TABLE: list[tuple[dict[str, t.Any], dict[str, t.Any], str, str]] = [
    ({"dest": "out.qcow2"}, {}, "images[0].dest: 'out.qcow2'", "is relative; give an absolute path"),
    ({"dest": ""}, {}, "images[0].dest: ''", "is relative"),
    ({"dest": "{0}/none/out.qcow2"}, {}, "images[0].dest: ", "does not exist; create the directory first"),
    ({"dest": "{0}/sub"}, {}, "images[0].dest: ", "is a directory; name the file in it"),
    ({"dest": "{0}/sub/"}, {}, "images[0].dest: ", "is a directory"),
    ({"dest": "{0}/plain/out"}, {}, "images[0].dest: ", "directory that does not exist"),
    ({"dest": "{0}/link.qcow2"}, {}, "images[0].dest: ", "is no regular file"),
    ({"dest": "{0}/out.json"}, {}, "images[0].dest: ", "has the name of a record"),
    ({"dest": "{0}/out.digests"}, {}, "images[0].dest: ", "has the name of a record or of digests"),
    ({"dest": "{0}/listed.qcow2"}, {}, "images[0].dest: ", "would put its digests at "),
    ({"dest": "{0}/a\nb"}, {}, "images[0].dest: ", "holds a newline or another control character"),
    ({"dest": "{0}/a\u2028b"}, {}, "images[0].dest: ", "another control character"),
    ({"uri": "nbd://host/v\u2029da"}, {}, "images[0].uri: ", "another control character"),
    ({"source_id": "a\x85b"}, {}, "images[0].source_id: ", "another control character"),
    ({"dest": "{0}/" + "x" * 240}, {}, "images[0].dest: ", "name too long"),
    ({"dest": "{0}/there.qcow2"}, {}, "images[0].dest: ", "exists without a record"),
    ({"dest": "{0}/foreign.qcow2"}, {}, "images[0].dest: ", "where another file is; remove that file, or set force"),
    ({"uri": "http://host/vda"}, {}, "images[0].uri: 'http://host/vda'", "has a scheme other than nbd"),
    ({"uri": "/run/x.sock"}, {}, "images[0].uri: '/run/x.sock'", "write it like nbd+unix:///vda?socket="),
    ({"uri": ""}, {}, "images[0].uri: ''", "has a scheme other than"),
    ({"uri": "nbd:///vda"}, {}, "images[0].uri: ", "names no host"),
    ({"uri": "nbd://[::1/vda"}, {}, "images[0].uri: ", "is no URI"),
    ({"uri": "nbd://host/v\tda"}, {}, "images[0].uri: ", "holds a newline or another control character"),
    ({"uri": "nbd+unix:///vda"}, {}, "images[0].uri: ", "names no socket"),
    ({"uri": "nbd+unix:///vda?socket=x.sock"}, {}, "images[0].uri: ", "names a relative socket"),
    ({"uri": "nbd+unix:///vda?socket=/" + "x" * 107}, {}, "images[0].uri: ", "longer than 107 bytes"),
    ({"uri": "nbd+unix:///vda?socket={0}/none"}, {}, "images[0].uri: ", "does not exist; start the NBD server first"),
    ({"uri": "nbd+unix:///vda?socket={0}/plain"}, {}, "images[0].uri: ", "is no socket"),
    ({"cluster_size": 4096}, {}, "images[0].cluster_size: 4096", "use one of 65536, 131072, 262144, 524288, 1048576"),
    ({"cluster_size": 2097152}, {}, "images[0].cluster_size: 2097152", "use one of 65536"),
    ({"cluster_size": 131072, "format": "raw"}, {}, "images[0].cluster_size: 131072", "nothing to a raw image"),
    ({"bitmap": "b"}, {}, "images[0].bitmap: 'b'", "without backing_file"),
    ({**BITMAP, "format": "raw"}, {}, "images[0].bitmap: 'b'", "use format qcow2"),
    ({**BITMAP, "bitmap": "qemu:dirty-bitmap:b"}, {}, "images[0].bitmap: ", "give the bare name, such as 'b'"),
    ({**BITMAP, "bitmap": "b\x00"}, {}, "images[0].bitmap: ", "holds a newline or another control character"),
    ({"backing_file": "base.qcow2"}, {}, "images[0].backing_file: 'base.qcow2'", "without bitmap"),
    ({**BITMAP, "backing_file": "none.qcow2"}, {}, "images[0].backing_file: 'none.qcow2'", "is no file"),
    ({**BITMAP, "backing_file": "sub"}, {}, "images[0].backing_file: 'sub'", "is no file"),
    ({**BITMAP, "backing_file": "bad.qcow2"}, {}, "images[0].backing_file: 'bad.qcow2'", "no readable qcow2 image"),
    ({**BITMAP, "backing_file": "out.qcow2"}, {}, "images[0].backing_file: 'out.qcow2'", "is the dest itself"),
    ({**BITMAP, "backing_file": "sub/../out.qcow2"}, {}, "images[0].backing_file: ", "is the dest itself"),
    ({**BITMAP, "backing_file": "nbd:x"}, {}, "images[0].backing_file: 'nbd:x'", "for a protocol; begin it with './'"),
    ({**BITMAP, "backing_file": "./" * 600 + "base.qcow2"}, {}, "images[0].backing_file: ", "longer than 1023 bytes"),
    ({}, {"connections": 0}, "connections: 0", "is out of range; use 1 to 16"),
    ({}, {"connections": 17}, "connections: 17", "is out of range"),
    ({}, {"rate_limit": -1}, "rate_limit: -1", "is negative"),
    ({"dest": "nbd://host/vda", "format": "raw"}, {"direct": True}, "direct: True ", "use false, or a file or block"),
    ({}, {"timeout": 0}, "timeout: 0", "is too short; use at least 1 second"),
    ({"format": "raw"}, {"compression": "zstd"}, "compression: 'zstd'", "use none, or format qcow2"),
    ({}, {"status_file": "status.json"}, "status_file: 'status.json'", "is relative"),
    ({}, {"status_file": "{0}/none/status.json"}, "status_file: ", "create the directory first"),
    ({}, {"status_file": "{0}/sub"}, "status_file: ", "is a directory"),
    ({}, {"status_file": "{0}/out.qcow2"}, "status_file: ", "is an image, its record or its digests"),
    ({}, {"status_file": "{0}/out.json"}, "status_file: ", "is an image, its record or its digests"),
    ({}, {"status_file": "{0}/out.digests"}, "status_file: ", "is an image, its record or its digests"),
    ({}, {"owner": "nobody-by-this-name"}, "owner: 'nobody-by-this-name'", "is no user"),
    ({}, {"group": "nobody-by-this-name"}, "group: 'nobody-by-this-name'", "is no group"),
    ({}, {"mode": "rw"}, "mode: 'rw'", "write it as a string such as '0600'"),
    ({}, {"mode": "0999"}, "mode: '0999'", "is no octal mode"),
    ({}, {"mode": 0o10000}, "mode: 4096", "is no octal mode"),
    ({}, {"mode": True}, "mode: True", "is no octal mode"),
]


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
@pytest.mark.parametrize(("image", "call", "begins", "says"), TABLE, ids=lambda value: str(value)[:40])
def test_bad_input(
    folder: Path, image: dict[str, t.Any], call: dict[str, t.Any], begins: str, says: str, check: bool
) -> None:
    def filled(values: dict[str, t.Any]) -> dict[str, t.Any]:
        return {
            name: value.replace("{0}", str(folder)) if isinstance(value, str) else value
            for name, value in values.items()
        }

    before = sorted(path.name for path in folder.rglob("*"))
    asked = ImageRequest(**{"uri": URI, "dest": f"{folder}/out.qcow2", **filled(image)})
    with pytest.raises(InputError) as caught:
        extract(ExtractRequest(images=(asked,), **filled(call)), check=check)
    sentence = str(caught.value)
    assert sentence.startswith(begins)
    assert says in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_no_images() -> None:
    with pytest.raises(InputError, match=r"^images: \[\] is empty; name at least one image\.$"):
        extract(ExtractRequest(images=()), check=False)


@pytest.mark.parametrize("second", ["a.qcow2", "a.raw", "sub/../a.qcow2"])
def test_two_images_may_not_share_a_file_or_a_record(folder: Path, second: str) -> None:
    images = (ImageRequest(URI, f"{folder}/a.qcow2"), ImageRequest(URI, f"{folder}/{second}"))
    with pytest.raises(InputError, match=r"^images\[1\]\.dest: .* as images\[0\]; give each image a name of its own"):
        extract(ExtractRequest(images=images), check=False)


def existing(folder: Path, known: Record) -> ImageRequest:
    """Lay an image and its record where the next call will want its own."""
    for name, content in (("vda.qcow2", "abc"), ("vda.json", json.dumps(known.as_dict()))):
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    return ImageRequest(URI, f"{folder}/vda.qcow2", source_id="monday")


@pytest.mark.parametrize("check", [True, False])
def test_an_image_of_the_same_moment_is_unchanged_without_its_server(folder: Path, check: bool) -> None:
    image = existing(folder, record())
    outcome = extract(ExtractRequest(images=(image,)), check=check)
    assert not outcome.changed
    assert outcome.before == outcome.after
    assert outcome.result["images"][0]["digest"] == "sha256:00"
    assert outcome.result["images"][0]["bytes_stored"] == 4096


@pytest.mark.parametrize(
    "difference",
    [
        {"source_id": "tuesday"},
        {"source_id": ""},
        {"export": "vdb"},
        {"format": "raw"},
        {"level": Level.INCREMENTAL, "bitmap": "b"},
        {"backing_file": "../other/vda.qcow2"},
        {"file_bytes": 4},
    ],
    ids=str,
)
def test_any_other_image_is_an_error_without_force(folder: Path, difference: dict[str, t.Any]) -> None:
    image = existing(folder, record(**difference))
    with pytest.raises(InputError, match=r"^images\[0\]\.dest: .* exists and is .*; choose another name, or set force"):
        extract(ExtractRequest(images=(image,)), check=False)
    assert (folder / "vda.qcow2").read_text() == "abc"


def test_without_source_id_nothing_is_ever_unchanged(folder: Path) -> None:
    image = dataclasses.replace(existing(folder, record(source_id="")), source_id="")
    with pytest.raises(InputError, match="without source_id nothing tells whether it is the same"):
        extract(ExtractRequest(images=(image,)), check=False)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"record_format": 2}', '{"record_format": 1}', "\x00"])
def test_a_record_that_says_nothing_is_no_record(folder: Path, content: str) -> None:
    image = existing(folder, record())
    (folder / "vda.json").write_text(content)
    with pytest.raises(InputError, match="exists without a record"):
        extract(ExtractRequest(images=(image,)), check=False)


def test_mode_of_an_unchanged_image_is_put_right(folder: Path) -> None:
    image = existing(folder, record())
    (folder / "vda.digests").touch(mode=0o600)
    request = ExtractRequest(images=(image,), mode="0640")
    for check, mode in ((True, 0o600), (False, 0o640)):
        assert extract(request, check=check).changed
        assert (folder / "vda.qcow2").stat().st_mode & 0o7777 == mode
        assert (folder / "vda.json").stat().st_mode & 0o7777 == mode
        assert (folder / "vda.digests").stat().st_mode & 0o7777 == mode
    assert not extract(request, check=False).changed


@pytest.mark.parametrize(("given", "mode"), [("0640", 0o640), ("640", 0o640), ("0o640", 0o640), (0o640, 0o640)])
def test_modes(folder: Path, given: object, mode: int) -> None:
    image = existing(folder, record())
    extract(ExtractRequest(images=(image,), mode=given), check=False)
    assert (folder / "vda.qcow2").stat().st_mode & 0o7777 == mode


def test_the_spec_is_the_request() -> None:
    """Every parameter reaches the use case, with the same default. All images of a call are encrypted, or none."""
    spec = nbd_extract.argument_spec()
    images, encryption = spec["images"]["options"], spec["encryption"]["options"]
    kinds = (
        (ExtractRequest, spec, set()),
        (ImageRequest, images, {"encryption", "place"}),
        (EncryptionRequest, encryption, set()),
    )
    for kind, options, derived in kinds:
        fields = {field.name: field for field in dataclasses.fields(kind)}
        assert set(fields) - derived == set(options)
        for name, option in options.items():
            if not option.get("required"):
                assert fields[name].default == option.get("default")


def test_no_text_of_a_request_shows_the_secret() -> None:
    encryption = EncryptionRequest(secret="Kq9x0x7")
    read = read_encryption(encryption)
    assert read is not None
    assert read.secret == b"Kq9x0x7"
    assert "Kq9x0x7" not in f"{ExtractRequest(images=(), encryption=encryption)} {encryption} {read}"


def test_a_secret_file_is_taken_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_bytes(b"word\n")
    read = read_encryption(EncryptionRequest(secret_file=str(path)))
    assert read is not None
    assert read.secret == b"word\n"


def test_an_image_in_the_clear_is_not_the_encrypted_one(folder: Path) -> None:
    image = existing(folder, record())
    encrypted = dataclasses.replace(image, encryption="luks")
    request = ExtractRequest(images=(encrypted,), encryption=EncryptionRequest(secret="Kq9x0x7"))
    with pytest.raises(InputError, match=r"exists and is another image \(full qcow2, source_id 'monday'"):
        extract(request, check=False)
