# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore that can't be, by the role: one clear error, and not a byte, a name or a definition is another afterwards.

Each wish is a host of one play, so that all are refused in the time of a few.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import typing as t

import pytest
from integration import instant_kit, playbook
from integration.protection import Protection
from lab.disks import MIB, Disk
from lab.domains import Domains
from lab.tools import call, file_hash, virsh, virsh_names

_FATAL = re.compile(r"^(?:fatal|failed): \[(\w+)\]:? (?:FAILED!|\(item=\w+\)) => (\{.*\})$", re.MULTILINE)


class Scene:
    """A running domain with restore points, its neighbour that is off, and places of all kinds."""

    def __init__(self, domains: Domains, folder: pathlib.Path) -> None:
        self.folder = folder
        self.domain = domains(Disk("vda", size=8 * MIB))
        self.neighbour = domains(Disk("vda", size=8 * MIB), start=False)
        protection = Protection(self.domain, folder / "repository")
        for number in range(2):
            self.domain.write("vda", number * MIB, 4 * MIB, pattern=0x10 + number)
            protection.backup()
        self.base, self.tip = (point.tip("vda") for point in protection.points)
        self.repository = protection.repository
        for name in ("here", "full"):
            (folder / name).mkdir()
        (folder / "here/taken.qcow2").write_bytes(b"somebody's")

    def damaged(self, name: str, image: pathlib.Path, *, cut: bool) -> tuple[str, str]:
        """Return a copy of the repository with a part missing, and the name of what is damaged."""
        copy = self.folder / name
        call("cp", "-a", self.repository, copy)
        broken = copy / image.relative_to(self.repository)
        if cut:
            os.truncate(broken, broken.stat().st_size - 512)
        else:
            broken.unlink()
        return str(copy), str(broken)

    def wishes(self, device: str) -> dict[str, tuple[dict[str, t.Any], str]]:
        """Return what is asked by name, and words of the only possible answer."""
        cut, cut_file = self.damaged("cut", self.tip, cut=True)
        gone, gone_file = self.damaged("gone", self.base, cut=False)
        theirs, mine = str(self.neighbour.disks["vda"].image), str(self.domain.disks["vda"].image)
        instant = {"restore_mode": "instant", "restore_state": "running"}
        here = {"restore_dir": str(self.folder / "here")}
        overwritten = {"restore_overwrite": True}
        in_use = f"is used by domain '{self.domain.name}'"
        return {
            "cut": ({**instant, **here, "restore_repository": cut}, cut_file),
            "gone": ({**instant, **here, "restore_repository": gone}, gone_file),
            "cut_copied": ({**here, "restore_repository": cut}, cut_file),
            "taken": ({**instant, **_at(self.folder / "here/taken.qcow2")}, "set overwrite to replace it"),
            "theirs": ({**instant, **overwritten, **_at(theirs)}, f"is used by domain '{self.neighbour.name}'"),
            "theirs_copied": ({**overwritten, **_at(theirs)}, f"is used by domain '{self.neighbour.name}'"),
            "mine": ({**instant, **overwritten, **_at(mine)}, in_use),
            "mine_copied": ({**overwritten, **_at(mine)}, in_use),
            "small": ({**instant, **overwritten, **_at(device, format="raw")}, "has room for 4194304 bytes"),
            "itself": ({**instant, **overwritten, "restore_as": ""}, "it is running; shut it down first"),
            "name": ({**instant, **here, "restore_as": self.neighbour.name}, "the name is taken by another domain"),
            "written": ({**instant, **here, "restore_overlay_dir": str(self.folder)}, "holds what a guest wrote"),
            "full": ({"restore_dir": str(self.folder / "full")}, "No space left on device"),
        }

    def ask(self, wishes: t.Mapping[str, tuple[dict[str, t.Any], str]]) -> dict[str, list[str]]:
        """Play all of them at once; return what each failed with."""
        usual = {"restore_domain": self.domain.uuid, "restore_repository": str(self.repository)}
        hosts = {name: {**usual, "restore_as": f"as-{name}", **wish} for name, (wish, _words) in wishes.items()}
        text = instant_kit.PLAY.replace("  gather_facts", "  strategy: free\n  gather_facts")
        argv, environment = playbook.command(self.folder, hosts, text=text)
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=600, env=environment)
        assert "Traceback" not in done.stdout
        said: dict[str, list[str]] = {name: [] for name in wishes}
        for name, result in _FATAL.findall(done.stdout):
            said[name].append(str(json.loads(result)["msg"]))
        assert {name for name, sentences in said.items() if not sentences} == set(), done.stdout[-5000:]
        return said

    def look(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return every file with its content, and every domain with its definition and state."""
        folders = (self.folder, self.domain.folder, self.neighbour.folder, pathlib.Path("/run/virt-backup"))
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        domains = virsh_names("list", "--all", "--name")
        ours = ("play.yml", "inventory.json")
        return (
            {str(path): file_hash(path) for path in files if path.name not in ours and "tmp" not in path.parts},
            {name: virsh("domstate", name) + virsh("dumpxml", name) for name in domains},
        )


def _at(dest: pathlib.Path | str, **more: str) -> dict[str, t.Any]:
    return {"restore_disks": [{"name": "vda", "dest": str(dest), **more}]}


@pytest.fixture
def scene(domains: Domains, workdir: pathlib.Path) -> t.Iterator[Scene]:
    scene = Scene(domains, workdir)
    call("mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "none", workdir / "full")
    yield scene
    call("umount", workdir / "full")


@pytest.mark.timeout(600)
def test_it_is_said_and_nothing_is_touched(scene: Scene, workdir: pathlib.Path) -> None:
    small = workdir / "small.raw"
    small.write_bytes(bytes(4 * MIB))
    (workdir / "as-written-vda.overlay").write_bytes(bytes(MIB))
    device = call("losetup", "--find", "--show", str(small)).strip()
    try:
        wishes = scene.wishes(device)
        before = scene.look()
        said = scene.ask(wishes)
        assert scene.look() == before
    finally:
        call("losetup", "--detach", device)
    for name, (_wish, words) in wishes.items():
        (sentence,) = said[name]
        assert words in sentence, (name, sentence)
        assert "\n" not in sentence.strip(), sentence
    assert scene.domain.state == "paused"
