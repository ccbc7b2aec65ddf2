# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ``restore``, by ansible-playbook: back to where it was, beside the original, and running at once."""

from __future__ import annotations

import pathlib
import re
import typing as t
import uuid

import pytest
from integration import virt_kit as kit
from integration.protection import FULL, INCREMENTAL, Protection
from integration.role_restore import Restoration
from integration.test_state_files import firmware
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import content_hash, file_hash, virsh, virsh_names


class Story:
    """A domain of two disks with two restore points, and plays of the role."""

    def __init__(self, domain: LabDomain, folder: pathlib.Path) -> None:
        self.domain, self.folder = domain, folder
        self.protection = Protection(domain, folder / "repository")
        self.role = Restoration(folder, self.protection.repository)
        for number in range(2):
            for disk in ("vda", "vdb"):
                domain.write(disk, number * MIB, 2 * MIB, pattern=0x10 + number)
            self.protection.backup()

    def play(self, *options: str, **variables: t.Any) -> tuple[int, str, kit.Result]:
        """Run the role for the domain."""
        return self.role.play(*options, **{"restore_domain": self.domain.name, **variables})

    def restore(self, *options: str, **variables: t.Any) -> tuple[int, kit.Result]:
        """Run the role, which has to succeed."""
        return self.role.restore(*options, **{"restore_domain": self.domain.name, **variables})

    def repository(self) -> dict[str, tuple[str, int]]:
        """Return every file of the repository with its hash and time."""
        files = [path for path in self.protection.repository.rglob("*") if path.is_file() and not path.is_symlink()]
        return {str(path): (file_hash(path), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def story(domains: Domains, workdir: pathlib.Path) -> Story:
    return Story(domains(Disk("vda", size=6 * MIB), Disk("vdb", size=6 * MIB)), workdir)


@pytest.fixture
def copy() -> t.Iterator[str]:
    """Return the name of a copy that is undefined after the test."""
    name = f"lab-copy-{uuid.uuid4().hex[:8]}"
    yield name
    if name in virsh_names("list", "--all", "--name"):
        virsh("destroy", name, check=False)
        virsh("undefine", name, "--nvram")


def sources(name: str, *options: str) -> dict[str, pathlib.Path]:
    found = re.findall(r"^ *(vd\w) +(\S+)$", virsh("domblklist", name, *options), re.MULTILINE)
    return {disk: pathlib.Path(path) for disk, path in found}


def test_one_disk_goes_back_to_where_it_was_and_only_it_is_full_again(story: Story) -> None:
    first = story.protection.points[0]
    story.domain.write("vda", 0, MIB, pattern=0xEE)
    story.domain.destroy()
    wish = {
        "restore_point": first.id,
        "restore_disks": [{"name": "vda"}],
        "restore_overwrite": True,
        "restore_state": "paused",
    }
    before = story.repository()

    planned, result = story.restore("--check", **wish)
    assert planned > 0
    assert content_hash(sources(story.domain.name)["vda"]) != first.truth["vda"]
    changed, result = story.restore(**wish)
    assert changed > 0
    assert (result["changed"], result["restore_point"], result["domain"]["state"]) == (True, first.id, "paused")
    assert sources(story.domain.name)["vda"] == story.domain.live_source("vda")
    assert file_hash(story.domain.frozen_copy("vda")) == first.truth["vda"]
    assert story.repository() == before

    story.domain.write("vda", 3 * MIB, MIB, pattern=0x77)
    changed, result = story.restore(**wish)
    assert (changed, result["changed"]) == (0, False)

    point = story.protection.backup()
    assert point.levels == {"vda": FULL, "vdb": INCREMENTAL}


def test_a_copy_beside_the_original(domains: Domains, workdir: pathlib.Path, copy: str) -> None:
    """It has disks and an NVRAM of its own, with what was in the original's when they were backed up."""
    story = Story(domains(Disk("vda", size=6 * MIB), Disk("vdb", size=6 * MIB), boot=firmware(workdir)), workdir)
    (story.folder / "variables.fd").write_bytes(b"written since")
    wish = {"restore_as": copy, "restore_dir": str(story.folder), "restore_state": "paused"}
    _changed, result = story.restore(**wish)
    assert result["domain"]["name"] == copy
    assert result["domain"]["uuid"] != story.domain.uuid
    (nvram,) = re.findall(r"<nvram.*>(.+)</nvram>", virsh("dumpxml", copy))
    assert pathlib.Path(nvram).read_bytes() == (story.protection.points[-1].path / "nvram").read_bytes()
    assert (story.folder / "variables.fd").read_bytes() == b"written since"
    virsh("destroy", copy)
    for disk, path in sources(copy, "--inactive").items():
        assert path == story.folder / f"{copy}-{disk}.qcow2"
        assert content_hash(path) == story.protection.points[-1].truth[disk]
    assert story.domain.state == "paused"


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_it_runs_at_once_and_its_disks_follow(story: Story, copy: str, form: str) -> None:
    before = story.repository()
    places = [{"name": name, "dest": str(story.folder / f"new-{name}"), "format": form} for name in ("vda", "vdb")]
    wish = {
        "restore_as": copy,
        "restore_disks": places,
        "restore_mode": "instant",
        "restore_state": "running",
        "restore_overlay_dir": str(story.folder),
    }
    changed, result = story.restore(**wish)
    assert changed > 0
    assert result["seconds_to_running"] > 0
    assert result["domain"]["state"] == "running"
    assert sources(copy) == sources(copy, "--inactive") == {p["name"]: pathlib.Path(p["dest"]) for p in places}

    changed, result = story.restore(**wish)
    assert (changed, result["changed"]) == (0, False)
    virsh("destroy", copy)
    for disk, path in sources(copy, "--inactive").items():
        assert content_hash(path) == story.protection.points[-1].truth[disk]
    assert list(story.folder.glob("*.overlay")) == []
    assert list(pathlib.Path("/run/virt-backup").iterdir()) == []
    assert story.repository() == before


REFUSED: tuple[tuple[kit.Result, str], ...] = (
    ({"restore_before": "2026-01-01", "restore_point": "20200101T000000Z-abcd"}, "both choose"),
    ({"restore_as": "other"}, "a copy needs a place for disk 'vda'"),
    ({"restore_mode": "instant"}, "set restore_state to running"),
    ({"restore_overwrite": True}, "is running"),
    (
        {"restore_as": "other", "restore_dir": "/srv", "restore_machine": "pc-q35-99.1"},
        "machine type pc-q35-99.1 is unknown to this host's QEMU",
    ),
)


def test_what_cannot_be_is_said_before_anything(story: Story) -> None:
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in story.domain.folder.rglob("*"))
    for wish, words in REFUSED:
        changed, output, _result = story.play(**wish)
        assert changed < 0, wish
        assert words in output.replace("\\'", "'"), (wish, output)
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in story.domain.folder.rglob("*")) == before
    assert story.domain.state == "paused"
