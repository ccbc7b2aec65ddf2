# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ``verify``: a real guest boots from its backup, answers, and is gone again."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

import pytest
from integration import virt_kit as kit
from integration.playbook import EVERYWHERE, SETTINGS
from integration.protection import Protection
from lab.guest import Guest
from lab.tools import file_hash, virsh, virsh_names

PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.import_role:
            name: virt.backup.verify
      always:
        - ansible.builtin.copy:
            content: "{{ verify_result | to_json }}"
            dest: "{{ folder }}/result.json"
            mode: "0600"
          check_mode: false
          changed_when: false
"""
MOUNT = "mkdir -p /data && mount -t ext4 /dev/vda /data && cat /data/b"


def shell(name: str, script: str, **wanted: t.Any) -> kit.Result:
    return {"name": name, "command": ["/bin/sh", "-c", script], **wanted}


class Story:
    """A guest with a restore point, and plays of the role."""

    def __init__(self, guest: Guest, folder: pathlib.Path) -> None:
        guest.make_filesystem("vda", "/data")
        guest.sh("echo precious > /data/b; sync")
        virsh("suspend", guest.name)
        self.guest, self.folder = guest, folder
        self.protection = Protection(guest, folder / "repository")
        self.point = self.protection.backup()

    def play(self, *options: str, **variables: t.Any) -> tuple[bool, str, kit.Result]:
        """Run the role; return whether it succeeded, the output, and the result."""
        playbook, inventory = self.folder / "play.yml", self.folder / "inventory.json"
        playbook.write_text(PLAY, encoding="utf-8")
        given = {
            "verify_domain": self.guest.name,
            "verify_repository": str(self.protection.repository),
            "verify_overlay_dir": str(self.folder),
            "verify_timeout": 120,
            **variables,
        }
        hosts = {"hosts": {"hv": given}, "vars": {**EVERYWHERE, "folder": str(self.folder)}}
        inventory.write_text(json.dumps({"all": hosts}), encoding="utf-8")
        program = pathlib.Path(sys.executable).with_name("ansible-playbook")
        environment = {**os.environ, **SETTINGS, "HOME": str(self.folder)}
        argv = [str(program), "-i", str(inventory), str(playbook), *options]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=400, env=environment)
        result = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        return done.returncode == 0, done.stdout + done.stderr, result

    def stored(self) -> dict[str, tuple[str, int]]:
        """Return every file of the restore point but the record of drills, with its hash and time."""
        files = [path for path in self.point.path.iterdir() if path.name != "drilled.json"]
        return {path.name: (file_hash(path), path.stat().st_mtime_ns) for path in files}

    def drilled(self) -> t.Any:
        """Return what restore_point_info says of the last drill."""
        return self.protection.look()["latest"]["drilled"]

    def nothing_left(self) -> bool:
        """Whether no copy, overlay or server is there."""
        assert virsh_names("list", "--all", "--name") == [self.guest.name]
        assert list(self.folder.glob("*.overlay")) == []
        assert list(pathlib.Path("/run/virt-backup").iterdir()) == []
        return True


@pytest.fixture
def story(guest: Guest, workdir: pathlib.Path) -> Story:
    return Story(guest, workdir)


def test_a_copy_boots_answers_and_is_gone_and_the_next_run_has_nothing_to_do(story: Story) -> None:
    before = story.stored()
    tasks = story.folder / "own.yml"
    tasks.write_text(
        '- ansible.builtin.command: virsh domiflist "{{ verify_copy }}"\n'
        "  register: cards\n"
        "  changed_when: false\n"
        "- ansible.builtin.assert:\n"
        "    that: cards.stdout_lines | length <= 3\n",
        encoding="utf-8",
    )
    wish = {
        "verify_checks": [shell("the file is there", MOUNT, stdout="^precious$")],
        "verify_tasks": str(tasks),
        "verify_max_age": "1h",
    }
    passed, output, result = story.play("--check", **wish)
    assert passed, output
    assert (result["due"], story.drilled()) == (True, None)

    passed, output, result = story.play(**wish)
    assert passed, output
    assert (result["passed"], result["restore_point"]) == (True, story.point.id)
    assert 0 < result["seconds"] < 180
    assert re.search(r"it lived after \d+\.\d seconds", result["reason"])
    record = story.drilled()
    assert (record["passed"], record["problem"]) == (True, "")
    assert record["checks"] == [{"name": "the file is there", "passed": True, "reason": ""}]
    assert record["milliseconds"] == round(result["seconds"] * 1000)
    assert story.nothing_left()
    assert story.stored() == before
    assert kit.run("restore_point_verify", repository=str(story.protection.repository), domain_uuid=story.guest.uuid)

    passed, output, result = story.play(**wish)
    assert passed, output
    assert re.search(r"changed=0 ", output)
    assert not result["due"]
    assert f"a drill of {story.point.id} passed" in result["reason"]


def test_a_check_that_fails_fails_the_play_and_says_which(story: Story) -> None:
    checks = [
        shell("the disk is there", "test -b /dev/vda"),
        shell("the other is", "test -b /dev/vdz && exit 0; exit 3"),
    ]
    passed, output, result = story.play(verify_checks=checks)
    assert not passed
    sentence = (
        f"The drill of {story.guest.name} from restore point {story.point.id} failed: the other is: it returned 3"
    )
    assert sentence in output
    assert [check["passed"] for check in result["checks"]] == [True, False]
    record = story.drilled()
    assert not record["passed"]
    assert "the other is: it returned 3 instead of 0" in record["problem"]
    assert story.nothing_left()
    question = {"repository": str(story.protection.repository), "domain_uuid": story.guest.uuid, "max_age": "30d"}
    assert kit.run("restore_point_drill", **question)["due"]


def test_a_line_of_the_console_is_a_sign_of_life_and_its_absence_none(story: Story) -> None:
    wish = {"verify_agent": False, "verify_console": "never said by any guest", "verify_timeout": 5}
    passed, output, result = story.play(**wish)
    assert not passed
    assert "no line of the console matched 'never said by any guest' within 5 seconds" in output
    assert not result["passed"]
    assert story.nothing_left()


BAD: tuple[tuple[kit.Result, str], ...] = (
    ({"agent": False}, "leaves nothing to wait for"),
    ({"agent": False, "console": "x", "checks": [shell("x", "true")]}, "leaves nobody to run checks"),
    ({"console": "("}, "is no regular expression"),
    ({"timeout": 0}, "timeout: 0 is no time"),
    ({"check_timeout": -1}, "check_timeout: -1 is no time"),
    ({"screenshot": "x.png"}, "is not an absolute path"),
    ({"checks": [{"name": "x", "command": []}]}, "checks[0].command: [] is empty"),
    ({"checks": [{"name": " ", "command": ["/bin/true"]}]}, "checks[0].name"),
    ({"checks": [shell("x", "true", stdout="[")]}, "checks[0].stdout: '[' is no regular expression"),
)


def test_bad_input_is_one_sentence(story: Story) -> None:
    for options, words in BAD:
        assert words in kit.refusal("virt_drill", domain=story.guest.name, **options), options
    place = {"repository": str(story.protection.repository), "domain_uuid": story.guest.uuid}
    assert "max_age: '-1' is no length of time" in kit.refusal("restore_point_drill", **place, max_age="-1")
    point = {"restore_point": str(story.point.path), "state": "absent"}
    assert "an original is never removed" in kit.refusal("virt_restore", **point)
    gone = kit.run("virt_restore", **point, **{"as": "nobody"})
    assert (gone["changed"], gone["reason"]) == (False, "no 'nobody' is there")
