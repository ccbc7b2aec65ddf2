# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The start of a job against a daemon that answers from a script: what it is asked, and what is taken back."""

from __future__ import annotations

import contextlib
import types
import typing as t

import pytest
import yaml

from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import (
    BackupRequest,
    CheckpointRequest,
    DiskRequest,
)
from ansible_collections.virt.backup.plugins.module_utils._model.errors import (
    BackupError,
    InputError,
    LibvirtFailure,
    StateError,
)
from ansible_collections.virt.backup.plugins.module_utils._model.level import BackupMode
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run import backup_start
from ansible_collections.virt.backup.plugins.module_utils._xml.backup import parse_backup
from ansible_collections.virt.backup.plugins.modules import virt_backup

UUID = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"
DISK = "<disk type='file'><driver type='qcow2'/><source file='/{0}'/><target dev='{0}' bus='virtio'/></disk>"
DOMAIN = (
    f"<domain><name>web</name><uuid>{UUID}</uuid><devices>{DISK.format('vda')}{DISK.format('vdb')}</devices></domain>"
)
CHECKPOINT = """<domaincheckpoint><name>ck1</name><creationTime>1</creationTime><disks>
<disk name='vda' checkpoint='bitmap' size='65536'/><disk name='vdb' checkpoint='bitmap' size='0'/></disks></domaincheckpoint>"""


def refused(text: str, code: int = 109) -> LibvirtFailure:
    return LibvirtFailure("Starting the backup of domain 'web'", code, text)


class Daemon:
    """A hypervisor with one domain. ``answers`` are what each begin raises, in order; then it begins."""

    is_local = False
    uri = "qemu+ssh://elsewhere/system"
    name, uuid = "web", UUID

    def __init__(self, *answers: LibvirtFailure) -> None:
        self.answers = list(answers)
        self.begun: list[str] = []
        self.checkpoints = {"ck1": CHECKPOINT}
        self.job: str | None = None
        self.running = True
        self.vanishes = False
        self.keeps_checkpoint = False
        self.migrates = False
        self.number = 9_000_000
        self.preserved: list[bool] = []

    def version(self) -> int:
        return self.number

    def require_backups(self) -> None:
        pass

    def domain(self, _name: str) -> Daemon:
        return self

    def is_active(self) -> bool:
        return self.running

    def state(self) -> str:
        return "running" if self.running else "shutoff"

    def xml(self) -> str:
        return DOMAIN

    def capacity(self, _disk: str) -> int:
        return 1 << 30

    def checkpoint_xmls(self, *, measure: bool) -> list[str]:
        return list(self.checkpoints.values())

    def job_xml(self) -> str | None:
        return self.job

    def has_other_job(self) -> bool:
        return self.migrates

    def begin_backup(self, xml: str, checkpoint_xml: str | None, *, reuse_external: bool, preserve: bool) -> None:
        self.begun.append(xml)
        self.preserved.append(preserve)
        if self.answers:
            if self.keeps_checkpoint:
                self.checkpoints["new"] = CHECKPOINT
            raise self.answers.pop(0)
        self.job = None if self.vanishes else xml
        if checkpoint_xml:
            self.checkpoints["new"] = checkpoint_xml

    def abort_job(self) -> None:
        self.job = None

    def wait_until_job_ended(self, _timeout: float) -> bool:
        return self.job is None

    def delete_checkpoint(self, name: str) -> None:
        self.checkpoints.pop(name, None)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Outcome]:
    def start_on(daemon: Daemon, *, check: bool = False, **options: t.Any) -> Outcome:
        @contextlib.contextmanager
        def connect(_uri: str) -> t.Iterator[Daemon]:
            yield daemon

        monkeypatch.setattr(backup_start, "connect", connect)
        wish = {"incremental": "ck1", "scratch_dir": "/s", "checkpoint": CheckpointRequest("new"), **options}
        return backup_start.start_backup(BackupRequest(Daemon.uri, "web", **wish), check=check)

    return start_on


Start = t.Callable[..., Outcome]


def levels(outcome: Outcome) -> dict[str, str]:
    return {disk["name"]: disk["level"] for disk in outcome.result["disks"]}


@pytest.mark.parametrize("check", [True, False])
def test_another_job_is_refused_before_anything_is_frozen(start: Start, check: bool) -> None:
    daemon = Daemon()
    daemon.migrates = True
    with pytest.raises(StateError, match="held by another job"):
        start(daemon, check=check)
    assert daemon.begun == []


def test_check_says_what_the_run_sends(start: Start) -> None:
    daemon = Daemon()
    foreseen = start(daemon, check=True)
    assert daemon.begun == []
    done = start(daemon)
    assert daemon.begun == [foreseen.result["xml"]]
    assert daemon.checkpoints["new"] == foreseen.result["checkpoint_xml"]
    assert foreseen.result == done.result
    assert (foreseen.before, foreseen.after) == (done.before, done.after)
    again = start(daemon)
    assert (foreseen.changed, done.changed, again.changed) == (True, True, False)
    assert len(daemon.begun) == 1


@pytest.mark.parametrize("check", [True, False])
def test_the_result_has_what_is_documented(start: Start, *, check: bool) -> None:
    result = start(Daemon(), check=check).result
    documented = yaml.safe_load(virt_backup.RETURN)
    with_this_state = {name for name, value in documented.items() if "state=started" in value["returned"]}
    assert result.keys() == with_this_state
    assert {key for disk in result["disks"] for key in disk} == documented["disks"]["contains"].keys()


@pytest.mark.parametrize(("number", "preserved"), [(11_009_000, False), (11_010_000, True)])
def test_a_daemon_that_can_is_asked_to_keep_the_job_of_a_guest_that_shuts_down(
    start: Start, number: int, *, preserved: bool
) -> None:
    daemon = Daemon(refused("bitmap 'ck1' for disk 'vdb'"))
    daemon.number = number
    start(daemon)
    assert daemon.preserved == [preserved, preserved]


# libvirt's sentence in several languages, and the disk it means; disks and checkpoint may have the same words in them.
SENTENCES = [
    ("checkpoint inconsistent: missing or broken bitmap 'ck1' for disk 'vdb'", "vdb"),
    ("checkpoint inconsistent: missing or broken bitmap 'ck1' for disk 'vda'", "vda"),
    ("Prüfpunkt nicht stimmig: fehlende Bitmap »ck1« für Datenträger »vdb«.", "vdb"),
    ("point de contrôle incohérent : bitmap « ck1 » manquante pour le disque « vda »", "vda"),
    ("bitmap 'nightly-vda.1' for disk 'vdb'", "vdb"),
    ("チェックポイントが矛盾: ディスク vdb", "vdb"),
]


@pytest.mark.parametrize(("sentence", "disk"), SENTENCES)
def test_a_refused_bitmap_makes_that_disk_full_and_no_other(start: Start, sentence: str, disk: str) -> None:
    daemon = Daemon(refused(sentence))
    outcome = start(daemon)
    other = "vda" if disk == "vdb" else "vdb"
    assert levels(outcome) == {disk: "full", other: "incremental"}
    (reason,) = [entry["reason"] for entry in outcome.result["disks"] if entry["name"] == disk]
    assert sentence in reason
    assert len(daemon.begun) == 2
    assert outcome.result["xml"] == daemon.begun[1]
    assert "new" in daemon.checkpoints


def test_both_bitmaps_refused_one_after_the_other(start: Start) -> None:
    daemon = Daemon(refused("bitmap for 'vda'"), refused("bitmap for 'vdb'"))
    assert levels(start(daemon)) == {"vda": "full", "vdb": "full"}
    assert len(daemon.begun) == 3


@pytest.mark.parametrize(
    "answers",
    [
        (refused("no disk is named"),),
        (refused("bitmap for 'vda'"), refused("bitmap for 'vda'")),
        (refused("bitmap for 'vda'", code=1),),
        (refused("bitmap for 'vdaa'"),),
    ],
)
def test_what_is_no_refusal_of_one_more_disk_is_an_error(start: Start, answers: tuple[LibvirtFailure, ...]) -> None:
    daemon = Daemon(*answers)
    with pytest.raises(LibvirtFailure):
        start(daemon)
    assert len(daemon.begun) == len(answers)
    assert (daemon.job, list(daemon.checkpoints)) == (None, ["ck1"])


def test_a_demand_is_not_softened(start: Start) -> None:
    daemon = Daemon(refused("bitmap for 'vdb'"))
    with pytest.raises(InputError, match=r"cannot be had for disk 'vdb' .*libvirt error 109.*bitmap for 'vdb'"):
        start(daemon, backupmode=BackupMode.INCREMENTAL)
    assert (daemon.job, list(daemon.checkpoints)) == (None, ["ck1"])


def test_a_checkpoint_that_a_failed_begin_left_is_removed(start: Start) -> None:
    daemon = Daemon(refused("NBD server already has export named 'vda'", code=1))
    daemon.keeps_checkpoint = True
    with pytest.raises(LibvirtFailure):
        start(daemon)
    assert list(daemon.checkpoints) == ["ck1"]


def test_a_checkpoint_that_somebody_else_made_a_moment_ago_is_not(start: Start) -> None:
    daemon = Daemon(refused("operation failed: domain moment new already exists", code=9))
    daemon.keeps_checkpoint = True
    with pytest.raises(LibvirtFailure):
        start(daemon)
    assert list(daemon.checkpoints) == ["ck1", "new"]


def test_a_job_that_is_gone_at_once(start: Start) -> None:
    daemon = Daemon()
    daemon.vanishes = True
    with pytest.raises(StateError, match="ended as soon as it had begun"):
        start(daemon)
    assert list(daemon.checkpoints) == ["ck1"]


def test_trouble_while_cleaning_up_is_told_beside_the_first_error(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(refused("first", code=1))

    def delete(_self: Daemon, _name: str) -> None:
        raise refused("second", code=55)

    monkeypatch.setattr(Daemon, "delete_checkpoint", delete)
    with pytest.raises(LibvirtFailure, match="first") as caught:
        start(daemon)
    assert "While cleaning up" in caught.value.as_result()["msg"]
    assert "second" in caught.value.as_result()["msg"]


def test_a_foreign_job_is_left_alone_and_named(start: Start) -> None:
    daemon = Daemon()
    start(daemon)
    foreign = str(daemon.job)
    with pytest.raises(
        StateError, match=rf"another backup job active, the pull job that serves at /run/virt-backup/libvirt-{UUID}"
    ):
        start(daemon, disks=(DiskRequest("vda"),))
    assert daemon.job == foreign
    assert parse_backup(foreign).participating


def test_a_known_checkpoint_name(start: Start) -> None:
    daemon = Daemon()
    with pytest.raises(InputError, match=r"checkpoint\.name: 'ck1' is a checkpoint of domain 'web' already"):
        start(daemon, incremental="", checkpoint=CheckpointRequest("ck1"))
    assert daemon.begun == []


def test_a_domain_that_is_off(start: Start) -> None:
    daemon = Daemon()
    daemon.running = False
    with pytest.raises(StateError, match="domain: 'web' is not running, and a backup needs a running QEMU; start"):
        start(daemon)


def test_an_incremental_push_needs_to_know_the_backup_that_it_continues(start: Start) -> None:
    daemon = Daemon()
    with pytest.raises(InputError, match=r"backing_file: '' is not given, and the push of disk 'vda' is incremental"):
        start(daemon, mode="push", target_dir="/t", scratch_dir="")
    assert daemon.begun == []


def test_without_a_disk_that_can_carry_a_bitmap_there_is_no_checkpoint_and_a_warning(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon()
    daemon.checkpoints = {}
    monkeypatch.setattr(Daemon, "xml", lambda _self: DOMAIN.replace("qcow2", "raw"))
    outcome = start(daemon, incremental="")
    assert outcome.result["checkpoint_xml"] == ""
    assert outcome.warnings[0].startswith("No checkpoint 'new' is made")
    assert "new" not in daemon.checkpoints


def test_every_error_is_of_our_family(start: Start) -> None:
    for answer in (refused("a"), refused("b", code=68)):
        with pytest.raises(BackupError):
            start(Daemon(answer))


def test_the_daemon_of_these_tests_has_what_the_real_one_has() -> None:
    """A method that is renamed there must not live on here."""
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle, Hypervisor

    real = {name for kind in (DomainHandle, Hypervisor) for name in vars(kind)}
    ours = {name for name, value in vars(Daemon).items() if isinstance(value, types.FunctionType) and name[0] != "_"}
    assert ours <= real
