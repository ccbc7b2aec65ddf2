# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every virt_* module in check mode, run, in check mode and run again: foreseen, done, content, content."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from lab.disks import MIB, Disk, empty_cdrom
from lab.domains import IMAGES, Domains, LabDomain
from lab.tools import virsh

from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.virt_kit import KIB64

DISKS = [{"name": "vda", "checkpoint": "bitmap"}, {"name": "vdb", "checkpoint": "no"}]
DISKS_WORDS = {"vda": "bitmap", "vdb": "no", "sda": "no"}


@pytest.fixture(scope="module")
def machine() -> t.Iterator[LabDomain]:
    """Return one domain for all tests."""
    made = Domains()
    yield made(Disk("vda"), Disk("vdb"), empty_cdrom("sda"))
    made.close()


@pytest.fixture
def domain(machine: LabDomain) -> t.Iterator[LabDomain]:
    """Return the domain with ck1 on vda and vdb, and vda written to since."""
    kit.taken(machine, "ck1")
    machine.write("vda", MIB, KIB64)
    yield machine
    kit.end(machine)
    for name in reversed(machine.checkpoints()):
        kit.run("virt_checkpoint", domain=machine.name, name=name, state="absent")
    assert kit.nothing_left(machine)


class Four:
    """A task in check mode, run, in check mode again, and run again."""

    def __init__(self, domain: LabDomain, module: str, **options: t.Any) -> None:
        untouched = state_of(domain)
        self.foreseen = kit.run(module, check=True, domain=domain.name, **options)
        assert state_of(domain) == untouched, "check mode changed something"
        self.done = kit.run(module, domain=domain.name, **options)
        reached = state_of(domain)
        assert (reached != untouched) is self.done["changed"]
        self.later = kit.run(module, check=True, domain=domain.name, **options)
        self.again = kit.run(module, domain=domain.name, **options)
        assert state_of(domain) == reached, "the second run changed something"

    @property
    def changed(self) -> list[bool]:
        """Return what each of the four said of itself."""
        return [result["changed"] for result in (self.foreseen, self.done, self.later, self.again)]

    def foretold(self, *keys: str) -> bool:
        """Whether check mode told these keys of the result as the run did."""
        wrong = {key: (self.foreseen[key], self.done[key]) for key in keys if self.foreseen[key] != self.done[key]}
        assert not wrong, wrong
        return True


CHANGES, CONTENT = [True, True, False, False], [False] * 4


def state_of(domain: LabDomain) -> tuple[t.Any, ...]:
    """Return all that the modules may change, as virsh and the file system tell it."""
    files = sorted(str(path) for folder in (kit.SOCKETS, kit.SCRATCH, IMAGES) for path in folder.rglob("*"))
    definitions = [virsh("checkpoint-dumpxml", domain.name, name, "--no-domain") for name in domain.checkpoints()]
    return (domain.backup_xml(), definitions, files, virsh("dumpxml", domain.name))


def test_backup_started_and_stopped(domain: LabDomain) -> None:
    disks = [{"name": "vda"}, {"name": "vdb", "backupmode": "full"}]
    started = Four(domain, "virt_backup", incremental="ck1", disks=disks, checkpoint={"name": "ck2"})
    assert started.changed == CHANGES
    assert started.foretold("disks", "left_out", "xml", "checkpoint_xml", "server", "leftovers", "quiesced", "diff")
    for result in (started.later, started.again):
        assert kit.levels(result) == kit.levels(started.done)
        assert [disk["uri"] for disk in result["disks"]] == [disk["uri"] for disk in started.done["disks"]]
        assert (result["xml"], result["server"]) == (started.done["xml"], started.done["server"])
        assert [disk["reason"] for disk in result["disks"]] == [disk["reason"] for disk in started.done["disks"]]
    server = {"transport": "unix", "socket": f"/run/virt-backup/libvirt-{domain.uuid}.sock", "tls": False}
    levels = {
        "vda": {"level": "incremental", "incremental": "ck1"},
        "vdb": {"level": "full", "incremental": ""},
    }
    job = {"mode": "pull", "server": server, "disks": levels}
    assert started.done["diff"] == {"before": {"job": None}, "after": {"job": job}}
    assert started.again["diff"] == {"before": {"job": job}, "after": {"job": job}}

    stopped = Four(domain, "virt_backup", state="stopped")
    assert stopped.changed == CHANGES
    assert stopped.foretold("ended", "diff")
    assert stopped.done["diff"] == {"before": {"job": job}, "after": {"job": None}}
    assert stopped.again["diff"]["before"] == stopped.again["diff"]["after"]


def test_backup_of_all_disks_full(domain: LabDomain) -> None:
    started = Four(domain, "virt_backup")
    assert started.changed == CHANGES
    assert started.foretold("disks", "left_out", "xml", "checkpoint_xml", "server", "leftovers", "diff")


def test_backup_with_everything_named(domain: LabDomain, workdir: pathlib.Path) -> None:
    scratch = str(workdir / "scratch-of-vda")
    disk = {"name": "vda", "incremental": "ck1", "exportname": "root", "exportbitmap": "dirty", "scratch": scratch}
    checkpoint = {"name": "ck2", "description": "Monday's <backup> & more", "disks": [{"name": "vda"}]}
    server = {"socket": str(workdir / "job.sock")}
    job = {"disks": [disk, {"name": "vdb", "backup": False}], "server": server, "checkpoint": checkpoint}
    started = Four(domain, "virt_backup", **job)
    assert started.changed == CHANGES
    assert started.foretold("disks", "left_out", "xml", "checkpoint_xml", "server", "leftovers", "diff")
    assert kit.disk_of(started.done, "vda")["exportbitmap"] == "dirty"
    assert kit.checkpoints_of(domain)["ck2"]["description"] == "Monday's <backup> & more"
    stopped = Four(domain, "virt_backup", state="stopped", server=server)
    assert stopped.changed == CHANGES


def test_what_was_changed_about_a_running_job_makes_it_another_job(domain: LabDomain, workdir: pathlib.Path) -> None:
    kit.backup(domain, incremental="ck1", disks=[{"name": "vda"}], checkpoint={"name": "ck2"})
    for other in (
        {"disks": [{"name": "vda", "exportname": "root"}], "incremental": "ck1"},
        {"disks": [{"name": "vda", "scratch": str(workdir / "s")}], "incremental": "ck1"},
        {"disks": [{"name": "vda"}], "backupmode": "full"},
        {"disks": [{"name": "vda"}], "incremental": "ck1", "checkpoint": {"name": "ck3"}},
        {"disks": [{"name": "vda"}], "incremental": "ck1", "server": {"tls": True}},
        {"disks": [{"name": "vda"}], "incremental": "ck1", "server": {"socket": "/run/virt-backup/other.sock"}},
        {"disks": [{"name": "vda"}, {"name": "vdb"}], "incremental": "ck1"},
        {"mode": "push", "target_dir": str(workdir), "backupmode": "full"},
    ):
        sentence = kit.refusal("virt_backup", domain=domain.name, **other)
        assert "has another backup job active" in sentence, other
    assert domain.checkpoints() == ["ck1", "ck2"]


def test_checkpoint_present_and_absent(domain: LabDomain) -> None:
    wanted = {"name": "mine", "description": "before the upgrade", "disks": DISKS}
    present = Four(domain, "virt_checkpoint", **wanted)
    assert present.changed == CHANGES
    assert present.foretold("diff", "quiesced", "freeze_seconds")
    after = {"checkpoint": {"name": "mine", "description": "before the upgrade", "disks": DISKS_WORDS}}
    assert present.done["diff"] == {"before": {"checkpoint": None}, "after": after}
    assert present.again["diff"] == {"before": after, "after": after}
    made = present.done["checkpoint"]
    assert (made["name"], made["parent"], made["description"]) == ("mine", "ck1", "before the upgrade")
    assert made["creation_time"] > 0
    assert present.foreseen["checkpoint"]["disks"] == made["disks"]
    assert present.again["checkpoint"] == made
    assert present.again["xml"] == present.done["xml"]

    absent = Four(domain, "virt_checkpoint", name="mine", state="absent")
    assert absent.changed == CHANGES
    assert absent.foretold("diff", "checkpoint", "xml")
    assert absent.done["diff"] == {"before": after, "after": {"checkpoint": None}}


@pytest.mark.parametrize(
    ("wanted", "difference"),
    [
        ({"description": "another"}, "description is 'the first', not 'another'"),
        ({"disks": [{"name": "vdb"}]}, "disk 'vda' has a bitmap in it; disk 'vdb' has no bitmap in it"),
        ({"disks": [{"name": "vda", "checkpoint": "no"}, {"name": "vdb"}]}, "disk 'vdb' has no bitmap in it"),
    ],
)
def test_a_checkpoint_that_is_there_and_differs_is_an_error_that_shows_the_difference(
    domain: LabDomain, wanted: dict[str, t.Any], difference: str
) -> None:
    options = {"domain": domain.name, "name": "mine"}
    kit.run("virt_checkpoint", **options, description="the first", disks=[{"name": "vda"}])
    before = state_of(domain)
    for check in (True, False):
        sentence = kit.refusal("virt_checkpoint", check=check, **options, **wanted)
        assert sentence.startswith("name: checkpoint 'mine' exists and differs: ")
        assert difference in sentence
    assert not kit.run("virt_checkpoint", **options)["changed"]
    assert state_of(domain) == before


def test_checkpoint_redefined(domain: LabDomain) -> None:
    kit.taken(domain, "ck2", incremental="ck1")
    xml = kit.checkpoints_of(domain)["ck2"]["xml"]
    forgotten = Four(domain, "virt_checkpoint", name="ck2", state="absent", metadata_only=True)
    assert forgotten.changed == CHANGES
    redefined = Four(domain, "virt_checkpoint", name="ck2", redefine_xml=xml)
    assert redefined.changed == CHANGES
    assert redefined.foretold("diff", "checkpoint")
    assert kit.checkpoints_of(domain)["ck2"]["xml"] == xml
    other = xml.replace("<disk name='vdb' checkpoint='bitmap' bitmap='ck2'/>", "")
    assert other != xml
    sentence = kit.refusal("virt_checkpoint", domain=domain.name, name="ck2", redefine_xml=other)
    assert "checkpoint 'ck2' exists and differs" in sentence


def test_checkpoint_absent_with_children(domain: LabDomain) -> None:
    kit.taken(domain, "ck2", incremental="ck1")
    kit.taken(domain, "ck3", incremental="ck2")
    absent = Four(domain, "virt_checkpoint", name="ck2", state="absent", children=True)
    assert absent.changed == CHANGES
    assert domain.checkpoints() == ["ck1"]


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("virt_backup_info", {}),
        ("virt_backup_info", {"secure": True}),
        ("virt_backup_info", {"status_file": "/nonexistent/not-begun.json"}),
        ("virt_checkpoint_info", {}),
        ("virt_checkpoint_info", {"size": True}),
        ("virt_checkpoint_info", {"name": "ck1"}),
    ],
)
def test_looking_changes_nothing(domain: LabDomain, module: str, options: dict[str, t.Any]) -> None:
    looked = Four(domain, module, **options)
    assert looked.changed == CONTENT
    assert {**looked.done, "invocation": None} == {**looked.foreseen, "invocation": None}
    assert "diff" not in looked.done


def test_info_and_checkpoint_info_agree_with_virsh(domain: LabDomain) -> None:
    info = kit.run("virt_backup_info", domain=domain.uuid)
    (checkpoint,) = info["checkpoints"]
    sizes = {disk["name"]: disk["dirty_bytes"] for disk in checkpoint["disks"] if disk["checkpoint"] == "bitmap"}
    assert sizes == {name: domain.dirty_bytes("ck1", name) for name in ("vda", "vdb")} == {"vda": KIB64, "vdb": 0}
    assert info["domain"]["name"] == domain.name
    assert info["xml"] == virsh("dumpxml", domain.name, "--inactive").rstrip("\n") + "\n"
    everywhere = kit.run("virt_backup_info")
    assert [entry["uuid"] for entry in everywhere["domains"]] == [domain.uuid]
    assert everywhere["versions"]["libvirt"].count(".") == 2
    assert everywhere["features"]["incremental_backup"]
