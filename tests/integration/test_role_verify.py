# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ``verify``: a real guest boots from its backup, answers, and is gone again."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import typing as t
from xml.etree import ElementTree

import pytest
from integration import virt_kit as kit
from integration.playbook import EVERYWHERE, SETTINGS
from integration.protection import Protection
from integration.test_state_files import TPM, firmware
from lab.disks import MIB, Disk
from lab.domains import IMAGES, Domains, LabDomain
from lab.guest import CONSOLE, Guest
from lab.tools import call, file_hash, virsh, virsh_names
from lab.wait import until

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
            dest: "{{ folder }}/{{ inventory_hostname }}.json"
            mode: "0600"
          check_mode: false
          changed_when: false
"""
MOUNT = "mkdir -p /data && mount -t ext4 /dev/vda /data && cat /data/b"


def shell(name: str, script: str, **wanted: t.Any) -> kit.Result:
    return {"name": name, "command": ["/bin/sh", "-c", script], **wanted}


# What a copy must not have, and a screen for its picture.
TIES = (
    "<interface type='user'><mac address='52:54:00:00:00:99'/></interface>"
    "<filesystem type='mount'><source dir='/srv'/><target dir='srv'/></filesystem>"
    "<video><model type='vga'/></video>"
)


class Story:
    """A guest with a restore point, and plays of the role."""

    def __init__(self, guest: Guest, folder: pathlib.Path) -> None:
        guest.make_filesystem("vda", "/data")
        guest.sh("echo precious > /data/b; sync")
        virsh("suspend", guest.name)
        self.guest, self.folder, self.copy = guest, folder, f"{guest.name}-drill-{guest.uuid[:8]}"
        self.protection = Protection(guest, folder / "repository")
        self.point = self.protection.backup()
        self.before = self.stored()
        self.place = {
            "verify_repository": str(self.protection.repository),
            "verify_overlay_dir": str(folder),
            "verify_timeout": 120,
        }
        self.definition = virsh("dumpxml", guest.name)

    def command(self, *options: str, **hosts: kit.Result) -> tuple[list[str], dict[str, str]]:
        """Return command and environment of a play of the role on these hosts, each with its variables."""
        playbook, inventory = self.folder / "play.yml", self.folder / "inventory.json"
        playbook.write_text(PLAY, encoding="utf-8")
        given = {name: {"verify_domain": self.guest.name, **self.place, **own} for name, own in hosts.items()}
        everybody = {"hosts": given, "vars": {**EVERYWHERE, "folder": str(self.folder)}}
        inventory.write_text(json.dumps({"all": everybody}), encoding="utf-8")
        program = pathlib.Path(sys.executable).with_name("ansible-playbook")
        environment = {**os.environ, **SETTINGS, "HOME": str(self.folder)}
        return [str(program), "-i", str(inventory), str(playbook), *options], environment

    def play(self, **hosts: kit.Result) -> tuple[str, dict[str, kit.Result]]:
        """Run the role on these hosts; return the output, and the result of each."""
        argv, environment = self.command(**hosts)
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=800, env=environment)
        files = {name: self.folder / f"{name}.json" for name in hosts}
        return done.stdout + done.stderr, {
            name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()
        }

    def playbook(self, *options: str, units: t.Mapping[str, kit.Result], **variables: t.Any) -> tuple[bool, str]:
        """Run the playbook on one hypervisor; return whether it succeeded, and the output."""
        (argv, environment), inventory = self.command(), self.folder / "several.json"
        hypervisors = {"hosts": {"hv": {**EVERYWHERE, **self.place, **variables}}}
        inventory.write_text(
            json.dumps({"all": {"hosts": units, "children": {"hypervisors": hypervisors}}}), encoding="utf-8"
        )
        argv = [argv[0], "-i", str(inventory), "virt.backup.verify", *options]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=800, env=environment)
        return done.returncode == 0, done.stdout + done.stderr

    def kill_a_drill(self) -> None:
        """Begin a drill that waits for ever, and kill all of it with -9 when its copy runs."""
        argv, environment = self.command(hv={"verify_agent": False, "verify_console": "never said by any guest"})
        nowhere = subprocess.DEVNULL
        with subprocess.Popen(argv, stdout=nowhere, stderr=nowhere, env=environment, start_new_session=True) as playing:
            try:
                until(f"{self.copy} runs", self._copy_runs, 120, step=0.1)
            finally:
                os.killpg(playing.pid, signal.SIGKILL)

    def _copy_runs(self) -> bool:
        return self.copy in virsh_names("list", "--name", "--state-running")

    def stored(self) -> dict[str, tuple[str, int]]:
        """Return every file of the restore point but the records about it, with its hash and time."""
        files = [path for path in self.point.path.iterdir() if path.name not in ("drilled.json", "verified.json")]
        return {path.name: (file_hash(path), path.stat().st_mtime_ns) for path in files}

    def drilled(self) -> t.Any:
        """Return what restore_point_info says of the last drill."""
        return self.protection.look()["latest"]["drilled"]

    def check_left(self) -> None:
        """Insist that no copy, overlay or server is there, and all else is as it was."""
        assert virsh_names("list", "--all", "--name") == [self.guest.name]
        assert list(self.folder.glob("*.overlay")) == []
        assert list(pathlib.Path("/run/virt-backup").iterdir()) == []
        assert self.stored() == self.before
        assert virsh("dumpxml", self.guest.name) == self.definition


@pytest.fixture(scope="module")
def story() -> t.Iterator[Story]:
    folder = IMAGES / "work-role-verify"
    folder.mkdir()
    folder.chmod(0o777)
    try:
        with Guest("web", Disk("vda", size=256 * MIB), devices=TIES) as guest:
            guest.define()
            guest.start()
            guest.wait_for_agent()
            yield Story(guest, folder)
    finally:
        shutil.rmtree(folder)


@pytest.mark.timeout(900)
def test_after_a_drill_that_was_killed_the_next_clears_it_boots_asks_and_leaves_nothing(story: Story) -> None:
    """The guest passes; of a machine without a system the firmware lives, and a task of its owner fails."""
    story.kill_a_drill()
    assert story.copy in virsh_names("list", "--name")
    assert len(list(story.folder.glob("*.overlay"))) == 1

    firmware = LabDomain("db", Disk("vda", size=MIB), boot="<bios useserial='yes'/>", devices=CONSOLE)
    with firmware:
        firmware.define()
        firmware.start()
        point = Protection(firmware, story.protection.repository).backup()
        wish = _several(story)
        passed, output = story.playbook("--check", **wish)
        assert passed, output
        assert f"web@hv: a drill is due, no drill of this domain passed within 1h ({story.point.id})" in output
        assert (story.drilled(), story.copy in virsh_names("list", "--name")) == (None, True)

        passed, output = story.playbook(**wish)
        assert not passed
        assert f"db@hv: FAILED, Ask the owner: not well ({point.id})" in output
        assert f"The drill of db from restore point {point.id} failed: Ask the owner: not well." in output
        assert re.search(rf"web@hv: came back in \d+\.\d seconds, 1 check passed \({story.point.id}\)", output), output
        _check_passed(story)
        assert sorted(virsh_names("list", "--all", "--name")) == ["db", story.guest.name]

        silent = {"verify_domain": "db", "verify_agent": False, "verify_console": "never said", "verify_timeout": 2}
        output, results = story.play(hv={"verify_max_age": "30d"}, other=silent)
    assert re.search(r"^hv +: ok=\d+ +changed=0 +unreachable=0 +failed=0 ", output, re.MULTILINE)
    assert (results["hv"]["due"], results["hv"]["passed"]) == (False, True)
    assert f"a drill of {story.point.id} passed" in results["hv"]["reason"]
    sentence = f"The drill of db from restore point {point.id} failed: no line of the console matched 'never said'"
    assert f"{sentence} within 2 seconds." in output
    assert (results["other"]["passed"], results["other"]["changed"]) == (False, True)
    story.check_left()
    assert kit.run("restore_point_verify", repository=str(story.protection.repository), domain_uuid=story.guest.uuid)


def _several(story: Story) -> kit.Result:
    """Return what the playbook is told: both copies together have more memory than they may."""
    look = f"virsh dumpxml {{{{ verify_copy }}}} >{story.folder}/copy.xml; virsh dominfo {{{{ verify_copy }}}}"
    own, fails = story.folder / "own.yml", story.folder / "fails.yml"
    own.write_text(f'- ansible.builtin.shell: "{look} >{story.folder}/copy.txt"\n', encoding="utf-8")
    fails.write_text("- name: Ask the owner\n  ansible.builtin.fail:\n    msg: not well\n", encoding="utf-8")
    check = shell("the file is there", MOUNT, stdout="^precious$")
    return {
        "units": {
            "web@hv": {"verify_checks": [check], "verify_tasks": str(own)},
            "db@hv": {"verify_agent": False, "verify_console": "SeaBIOS|iPXE", "verify_tasks": str(fails)},
        },
        "verify_max_age": "1h",
        "verify_screenshot_dir": str(story.folder),
        "verify_memory_limit": "180M",
        "verify_memory_wait": 600,
    }


def _check_passed(story: Story) -> None:
    record = story.drilled()
    assert (record["passed"], record["problem"], record["milliseconds"] > 0) == (True, "", True)
    assert record["checks"] == [{"name": "the file is there", "passed": True, "reason": ""}]
    (picture,) = story.folder.glob(f"{story.copy}.p*")
    assert picture.read_bytes()[:2] == {".png": b"\x89P", ".ppm": b"P6"}[picture.suffix]
    _check_copy(story)


def _check_copy(story: Story) -> None:
    """Look at what the copy was: transient, reading the backup over NBD, and reaching nothing else."""
    assert re.search(r"^Persistent: +no$", (story.folder / "copy.txt").read_text(encoding="utf-8"), re.MULTILINE)
    copy = ElementTree.parse(story.folder / "copy.xml").getroot()
    assert [copy.findall(f"devices/{tag}") for tag in ("interface", "filesystem")] == [[], []]
    assert [disk.find("source").get("file") for disk in copy.iterfind("devices/disk")] == [  # type: ignore[union-attr]
        str(story.folder / f"{story.copy}-vda.overlay")
    ]
    assert [source.get("protocol") for source in copy.iterfind("devices/disk/backingStore/source")] == ["nbd"]
    assert str(story.protection.repository) not in ElementTree.tostring(copy, encoding="unicode")
    live = ElementTree.fromstring(story.definition)
    assert {node.text for node in copy.iterfind("uuid")}.isdisjoint({node.text for node in live.iterfind("uuid")})


def test_what_a_check_answers(story: Story) -> None:
    """They run in the guest itself, which goes on for a moment."""
    checks = [
        shell("it prints", "echo one; echo two", stdout="^two$"),
        shell("it fails", "echo bad >&2; exit 4"),
        shell("it never ends", "sleep 1000"),
        {"name": "there is such a program", "command": ["/bin/nothing"]},
    ]
    result = kit.run("virt_drill", domain=story.guest.name, checks=checks, check_timeout=2)
    virsh("suspend", story.guest.name)
    assert (result["alive"], result["passed"]) == (True, False)
    assert [check["passed"] for check in result["checks"]] == [True, False, False, False]
    reasons = [check["reason"] for check in result["checks"]]
    assert reasons[:3] == ["", "it returned 4 instead of 0: bad", "it did not end within 2 seconds"]
    assert "/bin/nothing" in reasons[3]
    assert result["problem"].startswith("it fails: it returned 4 instead of 0: bad; it never ends: it did not end")
    story.check_left()


def test_a_machine_that_never_says_anything(story: Story) -> None:
    quiet = LabDomain("quiet", devices="<serial type='null'/>")
    with quiet:
        quiet.define()
        quiet.start()
        result = kit.run("virt_drill", domain="quiet", timeout=1)
        assert (result["alive"], result["passed"], quiet.state) == (False, False, "running")
        assert result["problem"] == "its agent did not answer within 1 seconds"
        problem = kit.run("virt_drill", domain="quiet", agent=False, console="login:", timeout=60)["problem"]
        assert problem.startswith("Reading the serial console of domain 'quiet' failed")
        quiet.destroy()
        assert "'quiet' is off; a drill needs it started" in kit.refusal("virt_drill", domain="quiet")
    story.check_left()


def test_no_more_memory_than_the_limit_and_no_network_but_one_for_drills(story: Story) -> None:
    """The copies are started by the module, paused, each on an empty overlay; the guest has 160 MiB."""
    restore = {
        "restore_point": str(story.point.path),
        "isolated": True,
        "transient": True,
        "state": "paused",
        "memory_limit": "200M",
        "missing_devices": "remove",
    }

    def started(name: str, **options: t.Any) -> kit.Result:
        image = story.folder / f"{name}.qcow2"
        call("qemu-img", "create", "-q", "-f", "qcow2", image, "1M")
        disks = [{"name": "vda", "source": str(image)}]
        return {**restore, "as": name, "disks": disks, **options}

    one, two = started("one"), started("two")
    assert "its 160.0 MiB of memory are more than the limit of 100.0 MiB for all drills" in kit.refusal(
        "virt_restore", **{**one, "memory_limit": "100M"}
    )
    assert kit.run("virt_restore", **one)["waited_seconds"] < 60
    assert "one had 160.0 MiB" in kit.refusal("virt_restore", **two)
    pid, reading = kit.start_child(kit.work_of("virt_restore", **two, memory_wait=120))
    with open(reading, encoding="utf-8") as printed:
        assert kit.run("virt_restore", **{"restore_point": restore["restore_point"], "as": "one", "state": "absent"})[
            "changed"
        ]
        assert kit.result_in(printed.read())["domain"]["state"] == "paused"
    os.waitpid(pid, 0)
    assert virsh_names("list", "--all", "--name") == [story.guest.name, "two"]
    virsh("destroy", "two")
    story.check_left()
    with network("drills", "<forward mode='bridge'/>"):
        sentence = kit.refusal("virt_restore", **one, network="drills")
        assert "network drills leads out of the host (forward mode bridge)" in sentence
    with network("drills", ""):
        card = "<interface type='network'><source network='drills'/></interface>"
        with LabDomain("neighbour", devices=card) as neighbour:
            neighbour.define()
            sentence = kit.refusal("virt_restore", **one, network="drills")
            assert "network drills is that of domain 'neighbour' too" in sentence
        asleep = {**one, "state": "restored", "transient": False}
        planned = kit.run("virt_restore", check=True, **asleep, network="drills")
        assert '<source network="drills"/>' in planned["xml"]


def test_nothing_of_a_transient_copy_stays_but_its_disks(domains: Domains, workdir: pathlib.Path) -> None:
    """Its NVRAM and the state of its TPM go with it, also when it ended by itself; the original's stay."""
    domain = domains(Disk("vda", size=MIB), boot=firmware(workdir), devices=TPM.format(kind="emulator", inside=""))
    point = Protection(domain, workdir / "repository").backup()
    call("qemu-img", "create", "-q", "-f", "qcow2", workdir / "look.qcow2", "1M")
    wish = {"disks": [{"name": "vda", "source": str(workdir / "look.qcow2")}], "isolated": True, "transient": True}
    place = {"restore_point": str(point.path), "as": "look"}

    def left(made: kit.Result) -> list[bool]:
        return [os.path.lexists(made[name]) for name in ("nvram", "tpm")]

    made = kit.run("virt_restore", **place, **wish, state="paused")
    assert (left(made), "look" in virsh_names("list", "--transient", "--name")) == ([True, True], True)
    assert kit.run("virt_restore", check=True, **place, state="absent")["changed"]
    assert left(made) == [True, True]
    assert kit.run("virt_restore", **place, state="absent")["reason"] == "it was there"
    assert left(made) == [False, False]

    made = kit.run("virt_restore", **place, **wish, state="paused")
    virsh("destroy", "look")
    gone = kit.run("virt_restore", **place, state="absent")
    assert gone["reason"] == f"no 'look' is there, only its NVRAM {made['nvram']} was"
    assert left(made) == [False, False]
    assert not kit.run("virt_restore", **place, state="absent")["changed"]
    assert (workdir / "variables.fd").exists()


@contextlib.contextmanager
def network(name: str, inner: str) -> t.Iterator[None]:
    """Give libvirt a network."""
    path = pathlib.Path(f"/tmp/{name}.xml")
    path.write_text(f"<network><name>{name}</name>{inner}<bridge name='vbr-{name}'/></network>", encoding="ascii")
    virsh("net-define", path)
    try:
        yield
    finally:
        virsh("net-undefine", name)
        path.unlink()


BAD: tuple[tuple[kit.Result, str], ...] = (
    ({"agent": False}, "leaves nothing to wait for"),
    ({"agent": False, "console": "x", "checks": [shell("x", "true")]}, "leaves nobody to run checks"),
    ({"console": "("}, "is no regular expression"),
    ({"timeout": 0}, "timeout: 0 is no time"),
    ({"check_timeout": -1}, "check_timeout: -1 is no time"),
    ({"screenshot": "x.png"}, "is not an absolute path"),
    ({"screenshot": "/nowhere/x"}, "is in no directory that exists"),
    ({"checks": [{"name": "x", "command": []}]}, "checks[0].command: [] is empty"),
    ({"checks": [{"name": " ", "command": ["/bin/true"]}]}, "checks[0].name"),
    ({"checks": [shell("x", "true", stdout="[")]}, "checks[0].stdout: '[' is no regular expression"),
)


COPY = {"as": "copy", "isolated": True}
BAD_COPIES: tuple[tuple[kit.Result, str], ...] = (
    ({"state": "absent"}, "an original is never removed"),
    ({"isolated": True}, "isolated: True is for a copy"),
    ({"transient": True}, "transient: True is for a copy"),
    ({**COPY, "transient": True}, "is nothing for a domain that is off"),
    ({"as": "copy", "memory_limit": "1G"}, "counts isolated copies only"),
    ({**COPY, "memory_limit": "much"}, "memory_limit: 'much' is no size"),
    ({**COPY, "memory_wait": -1}, "memory_wait: -1 is negative"),
)


def test_bad_input_is_one_sentence(story: Story) -> None:
    for options, words in BAD:
        assert words in kit.refusal("virt_drill", domain=story.guest.name, **options), options
    place = {"repository": str(story.protection.repository), "domain_uuid": story.guest.uuid}
    assert "max_age: '-1' is no duration" in kit.refusal("restore_point_drill", **place, max_age="-1")
    point = {"restore_point": str(story.point.path)}
    for options, words in BAD_COPIES:
        assert words in kit.refusal("virt_restore", **point, **options), options
    gone = kit.run("virt_restore", **point, **{"as": "nobody", "state": "absent"})
    assert (gone["changed"], gone["reason"]) == (False, "no 'nobody' is there")
    story.check_left()
