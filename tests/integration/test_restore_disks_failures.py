# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restores that fail: one sentence that names the file, and everything that was there before is there."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import typing as t

import pytest
from integration import virt_kit as kit
from integration.ends_kit import loop_device
from integration.restore_kit import ODD, Vault, holds
from integration.test_verify import flip, forge
from integration.virt_kit import Result
from lab.disks import MIB, Disk
from lab.domains import IMAGES, Domains
from lab.tools import call
from lab.wait import until

OLD = {"a.qcow2": "old a", "b.raw": "old b"}


@pytest.fixture(scope="module")
def vault(lab_host: str) -> t.Iterator[Vault]:
    domains, folder = Domains(), IMAGES / "failures-vault"
    folder.mkdir()
    try:
        made = Vault(domains(Disk("vda", size=8 * MIB), Disk("vdb", size=ODD)), folder)
        made.add({}, {})
        yield made
    finally:
        domains.close()
        call("rm", "-rf", folder)


class Ruin:
    """A copy of the repository to be damaged, and two old files that a restore would replace."""

    def __init__(self, vault: Vault, folder: pathlib.Path) -> None:
        self.vault, self.out = vault, folder / "out"
        self.repository = folder / "copy"
        self.domain = vault.copied(self.repository)
        self.first, self.last = (self.domain / point.id for point in vault.points)
        self.out.mkdir()
        for name, content in OLD.items():
            (self.out / name).write_text(content)

    def options(self, **more: t.Any) -> Result:
        disks = [
            {"name": "vda", "dest": str(self.out / "a.qcow2")},
            {"name": "vdb", "dest": str(self.out / "b.raw"), "format": "raw"},
        ]
        return {**self.vault.place, "repository": str(self.repository), "disks": disks, "overwrite": True, **more}

    def refused(self, *, check: bool = False, **more: t.Any) -> str:
        sentence = kit.refusal("restore_disks", check=check, **self.options(**more))
        self.untouched()
        return sentence

    def untouched(self) -> None:
        """Insist that the old files, and nothing else, are there."""
        assert {path.name: path.read_text() for path in self.out.iterdir()} == OLD

    def restored(self, **more: t.Any) -> None:
        """Insist that it works as soon as nothing is in the way."""
        kit.run("restore_disks", **self.options(**more))
        holds(self.vault.points[1], "vda", self.out / "a.qcow2", "qcow2")
        holds(self.vault.points[1], "vdb", self.out / "b.raw", "raw")
        hidden = {".a.qcow2.restored.json", ".b.raw.restored.json"}
        assert {path.name for path in self.out.iterdir()} == {*OLD, *hidden}


@pytest.fixture
def ruin(vault: Vault, tmp_path: pathlib.Path) -> Ruin:
    return Ruin(vault, tmp_path)


def remove(path: pathlib.Path) -> None:
    path.unlink()


def cut(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size - 65536)


def other_base(path: pathlib.Path) -> None:
    """Let it build on another image, in as many bytes."""
    size = path.stat().st_size
    call("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "../elsewhere/vdb.qcow2", path)
    assert path.stat().st_size == size


def garbage(path: pathlib.Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def elsewhere(path: pathlib.Path) -> None:
    """Replace it by a link out of the repository."""
    shutil.move(path, path.parents[3] / "moved")
    path.symlink_to(path.parents[3] / "moved")


@pytest.mark.parametrize("ruined", [remove, cut, other_base, garbage, elsewhere])
@pytest.mark.parametrize("which", ["first", "last"])
def test_a_chain_that_is_not_whole(ruin: Ruin, ruined: t.Callable[[pathlib.Path], None], which: str) -> None:
    """Before anything is touched, in check mode as well; the disk whose chain is whole still comes back."""
    point = getattr(ruin, which)
    ruined(point / "vdb.qcow2")
    for check in (True, False):
        sentence = ruin.refused(check=check)
        assert sentence.startswith(f"id: {ruin.last.name} can't be read back: ")
        assert str(point / "vdb.qcow2") in sentence
        assert "bring the file back from a copy" in sentence
    ruin.refused(id=ruin.last.name)
    one = ruin.options(disks=[{"name": "vda", "dest": str(ruin.out / "a.qcow2")}])
    assert kit.run("restore_disks", **one)["changed"]


def test_a_restore_point_in_the_middle_is_missing(ruin: Ruin) -> None:
    shutil.rmtree(ruin.first)
    assert f"the image of vda in {ruin.first.name}, on which {ruin.last.name} builds, is missing" in ruin.refused()


def test_a_manifest_that_was_changed(ruin: Ruin) -> None:
    """In its digest, or so that it can't be read: the latest is then refused, and no older one taken for it."""
    path = ruin.first / "manifest.json"
    good = path.read_text()
    path.write_text(good.replace('"run": "the tests"', '"run": "a test"'))
    for check in (True, False):
        sentence = ruin.refused(check=check)
        assert f"{path}: manifest.json is not the file that was stored: its SHA-256 differs" in sentence
    path.write_text(good)
    latest = ruin.last / "manifest.json"
    flip(latest, 0)
    assert f"id: {ruin.last.name} can't be used: {latest} is not readable JSON" in ruin.refused()
    assert "name an older restore point by id" in ruin.refused(before="2999-01-01")
    assert kit.run("restore_disks", check=True, **ruin.options(id=ruin.first.name))["changed"]


def test_a_damaged_list_of_digests_warns_and_is_an_error_with_verify(ruin: Ruin) -> None:
    flip(ruin.first / "SHA256SUMS", 5)
    assert f"{ruin.first}/SHA256SUMS: SHA256SUMS is missing or damaged" in ruin.refused(verify=True)
    result = kit.run("restore_disks", **ruin.options())
    assert any("SHA256SUMS is missing or damaged" in warning for warning in result["warnings"])


def test_one_flipped_bit_of_data(ruin: Ruin) -> None:
    """Found by the digest of the content while it is read, or before that with ``verify``; no file is replaced."""
    image = ruin.first / "vdb.qcow2"
    flip_data(image)
    sentence = ruin.refused()
    assert sentence.startswith("disks[1]: what ")
    assert f"'{ruin.last}/vdb.qcow2'" in sentence
    assert "is not the content of vdb that the restore point was published with; no file was replaced" in sentence
    for check in (True, False):
        sentence = ruin.refused(check=check, verify=True)
        assert f"{image}: vdb.qcow2 is not the file that was stored: its SHA-256 differs" in sentence
    one = ruin.options(disks=[{"name": "vda", "dest": str(ruin.out / "a.qcow2")}], verify=True)
    assert kit.run("restore_disks", **one)["changed"], "another disk's image is nothing to this one"


def test_a_wrong_content_with_the_right_digests(ruin: Ruin) -> None:
    """An image that was wrong before its digest was taken passes all checks but that of the content."""
    call("qemu-io", "-f", "qcow2", "-c", "write -P 0x77 2M 64k", ruin.first / "vda.qcow2")
    forge(ruin.first, "vda.qcow2")
    assert "disks[0]: what " in ruin.refused(verify=True)
    assert kit.run("restore_disks", **ruin.options(checksum="none"))["changed"]


def test_an_image_that_leads_elsewhere(ruin: Ruin, tmp_path: pathlib.Path) -> None:
    """It has all digests that it should have, but its content is a file of somebody else's choice."""
    image, secret = ruin.last / "vda.qcow2", tmp_path / "shadow"
    base = f"../{ruin.first.name}/vda.qcow2"
    layout = f"data_file={secret},data_file_raw=off"
    call("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", base, "-o", layout, image, str(8 * MIB))
    forge(ruin.last, "vda.qcow2")
    for check in (True, False):
        sentence = ruin.refused(check=check, checksum="none")
        assert sentence.startswith(f"id: {ruin.last.name} can't be read back: {image}: ")
        assert "another file, which no image of a repository does" in sentence


def test_no_room_in_the_middle(ruin: Ruin, tmp_path: pathlib.Path) -> None:
    """The second disk has no room: the first, which was complete, is not renamed either."""
    small = tmp_path / "small"
    small.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=1m", "none", small)
    try:
        (small / "b.raw").write_text("old")
        disks = ruin.options()["disks"]
        disks[1]["dest"] = str(small / "b.raw")
        sentence = ruin.refused(disks=disks)
        said = "No space left on device; no file was replaced."
        assert sentence == f"disks[1].dest: writing '{small}/b.raw' failed: {said}"
        assert [(path.name, path.read_text()) for path in small.iterdir()] == [("b.raw", "old")]
    finally:
        call("umount", small)
    ruin.restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_in_the_middle(ruin: Ruin, number: signal.Signals) -> None:
    """A signal leaves nothing; a kill leaves parts, which the next call removes before it needs their room."""
    options = ruin.options(rate_limit=MIB)
    pid, reading = kit.start_child(kit.work_of("restore_disks", **options))
    with open(reading, encoding="utf-8") as pipe:
        until("it writes", lambda: sum(".part-" in path.name for path in ruin.out.iterdir()) == 2, 30)
        os.kill(pid, number)
        said = pipe.read()
    os.waitpid(pid, 0)
    if number is signal.SIGTERM:
        assert kit.result_in(said)["msg"] == "The restore was ended by SIGTERM; no file was replaced."
        ruin.untouched()
    else:
        assert {path.name for path in ruin.out.iterdir()} > set(OLD)
        assert {name: (ruin.out / name).read_text() for name in OLD} == OLD
    ruin.restored()


def test_a_part_that_is_being_written_is_not_swept(ruin: Ruin) -> None:
    """Two restores to one new name: the second to come finds a file that it never looked at."""
    options = ruin.options(disks=[{"name": "vda", "dest": str(ruin.out / "new.qcow2")}])
    pid, reading = kit.start_child(kit.work_of("restore_disks", **options, rate_limit=MIB // 2))
    with open(reading, encoding="utf-8") as pipe:
        until("it writes", lambda: any(".part-" in path.name for path in ruin.out.iterdir()), 30)
        assert kit.run("restore_disks", **options)["changed"]
        said = pipe.read()
    os.waitpid(pid, 0)
    assert "was made by somebody else meanwhile" in kit.result_in(said)["msg"]
    holds(ruin.vault.points[1], "vda", ruin.out / "new.qcow2", "qcow2")


def test_a_device_that_fails_is_undefined_and_a_file_beside_it_is_not(ruin: Ruin, tmp_path: pathlib.Path) -> None:
    flip_data(ruin.first / "vdb.qcow2")
    (tmp_path / "device").write_bytes(b"\xa5" * ODD)
    with loop_device(tmp_path / "device") as device:
        disks = ruin.options()["disks"]
        disks[1]["dest"] = device
        sentence = ruin.refused(disks=disks)
    assert f"The content of '{device}' is undefined now." in sentence
    assert "a.qcow2" not in sentence


def flip_data(image: pathlib.Path) -> None:
    extents = json.loads(call("qemu-img", "map", "--output=json", image))
    flip(image, next(extent["offset"] for extent in extents if extent["data"]) + 13 * 1024)
