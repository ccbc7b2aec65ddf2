# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a request to the job: who takes part, at which level, and where the bytes go."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import (
    BackupFacts,
    BackupPlan,
    place_option,
    plan_backup,
    same_job,
)
from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import (
    BackupRequest,
    CheckpointRequest,
    DiskRequest,
)
from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint, CheckpointDisk
from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk, Domain
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob, JobDisk, Server
from ansible_collections.virt.backup.plugins.module_utils._model.level import BackupMode, Level

UUID = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"
AUTO, FULL, INCREMENTAL = BackupMode.AUTO, BackupMode.FULL, BackupMode.INCREMENTAL


def qcow2(name: str, **options: t.Any) -> Disk:
    return Disk(name, source=f"/images/{name}.qcow2", format="qcow2", virtual_size=1 << 30, **options)


def covering(name: str, *disks: str, lost: tuple[str, ...] = ()) -> Checkpoint:
    entries = [CheckpointDisk(disk, True, None if disk in lost else 4096) for disk in disks]
    return Checkpoint(name, disks=tuple(entries), measured=True)


DISKS = (qcow2("vda"), qcow2("vdb"), Disk("vdc", source="/images/vdc.raw"), Disk("sda", "cdrom", readonly=True))
DOMAIN = Domain("web", UUID, DISKS)
CHECKPOINTS = {
    "ck1": covering("ck1", "vda", "vdb", lost=("vdb",)),
    "ck2": covering("ck2", "vda", "vdb"),
    "ck3": covering("ck3", "vda"),
}
RAW = "the disk's format is raw"
FACTS = BackupFacts(DOMAIN, CHECKPOINTS, {"vda": "", "vdb": "", "vdc": RAW, "sda": "it is empty"})


def request(*disks: DiskRequest, **options: t.Any) -> BackupRequest:
    defaults: dict[str, t.Any] = {"uri": "qemu:///system", "domain": "web", "scratch_dir": "/scratch"}
    return BackupRequest(**{**defaults, "disks": disks or None, **options})


def plan(*disks: DiskRequest, facts: BackupFacts = FACTS, **options: t.Any) -> BackupPlan:
    return plan_backup(request(*disks, **options), facts)


def levels(made: BackupPlan) -> str:
    """Return the plan in short: ``vda=ck1 vdb=full``, those that take part only."""
    return " ".join(f"{disk.name}={disk.incremental or disk.level.value}" for disk in made.job.participating)


# Who takes part


def test_everything_that_can_be_backed_up_takes_part_and_each_other_disk_says_why_not() -> None:
    made = plan()
    assert levels(made) == "vda=full vdb=full vdc=full"
    assert made.skipped == {"sda": "the cdrom drive is empty"}
    assert [disk.name for disk in made.job.disks] == ["vda", "vdb", "vdc", "sda"]
    assert made.decisions.keys() == {"vda", "vdb", "vdc"}


def test_only_listed_disks_take_part() -> None:
    made = plan(DiskRequest("vdb"), DiskRequest("vdc", backup=False))
    assert levels(made) == "vdb=full"
    assert made.skipped == {
        "vda": "it is not listed under disks",
        "vdc": "backup is false for it",
        "sda": "it is not listed under disks",
    }


def test_excluded_disks_are_named_and_nothing_else() -> None:
    made = plan(DiskRequest("vda"))
    assert made.job.disks[1:] == tuple(JobDisk(name, participates=False) for name in ("vdb", "vdc", "sda"))


@pytest.mark.parametrize(
    ("disks", "word"), [((Disk("sda", "cdrom"),), "sda: the cdrom drive is empty"), ((), "it has no disks")]
)
def test_nobody_left(disks: tuple[Disk, ...], word: str) -> None:
    facts = dataclasses.replace(FACTS, domain=Domain("web", UUID, disks))
    with pytest.raises(InputError, match=word):
        plan(facts=facts)


# Levels: the job's settings, those of two disks, and what becomes of them.
LEVELS = [
    ({}, {}, {}, "vda=full vdb=full"),
    ({"incremental": "ck2"}, {}, {}, "vda=ck2 vdb=ck2"),
    ({"incremental": "ck1"}, {}, {}, "vda=ck1 vdb=full"),
    ({"incremental": "gone"}, {}, {}, "vda=full vdb=full"),
    ({"incremental": "ck2"}, {"backupmode": FULL}, {}, "vda=full vdb=ck2"),
    ({"incremental": "ck2"}, {}, {"incremental": "ck1"}, "vda=ck2 vdb=full"),
    ({"incremental": "ck2"}, {"incremental": "ck1"}, {}, "vda=ck1 vdb=ck2"),
    ({}, {"incremental": "ck1"}, {"incremental": "ck2"}, "vda=ck1 vdb=ck2"),
    ({}, {"incremental": "ck1"}, {}, "vda=ck1 vdb=full"),
    ({"backupmode": FULL}, {}, {}, "vda=full vdb=full"),
    ({"backupmode": FULL}, {"incremental": "ck2"}, {}, "vda=ck2 vdb=full"),
    ({"incremental": "ck2", "backupmode": INCREMENTAL}, {}, {}, "vda=ck2 vdb=ck2"),
    ({"incremental": "ck3", "backupmode": INCREMENTAL}, {}, {"backupmode": AUTO}, "vda=ck3 vdb=full"),
    ({"incremental": "ck3", "backupmode": INCREMENTAL}, {}, {"backupmode": FULL}, "vda=ck3 vdb=full"),
    ({}, {"backupmode": INCREMENTAL, "incremental": "ck1"}, {}, "vda=ck1 vdb=full"),
]


@pytest.mark.parametrize(("job", "vda", "vdb", "wanted"), LEVELS)
def test_levels(job: dict[str, t.Any], vda: dict[str, t.Any], vdb: dict[str, t.Any], wanted: str) -> None:
    assert levels(plan(DiskRequest("vda", **vda), DiskRequest("vdb", **vdb), **job)) == wanted


def test_a_raw_disk_stays_full_beside_incremental_ones() -> None:
    made = plan(incremental="ck2")
    assert levels(made) == "vda=ck2 vdb=ck2 vdc=full"
    assert made.decisions["vdc"].reason == RAW


def test_a_bitmap_that_libvirt_refused_makes_that_disk_full() -> None:
    made = plan(facts=dataclasses.replace(FACTS, refused={"vdb": "missing or broken"}), incremental="ck2")
    assert levels(made) == "vda=ck2 vdb=full vdc=full"
    assert "missing or broken" in made.decisions["vdb"].reason


# Demands that cannot be met: the options, the parameter in the sentence, and a word of it.
DEMANDS = [
    ((), {"incremental": "ck3", "backupmode": INCREMENTAL}, "backupmode", "disk 'vdb' from checkpoint 'ck3'"),
    ((DiskRequest("vdb"),), {"incremental": "ck1", "backupmode": INCREMENTAL}, "backupmode", "missing or broken"),
    ((DiskRequest("vda"),), {"incremental": "no", "backupmode": INCREMENTAL}, "incremental", "ck1, ck2, ck3"),
    (
        (DiskRequest("vda"), DiskRequest("vdb", incremental="ck3", backupmode=INCREMENTAL)),
        {},
        "disks[1].backupmode",
        "does not cover disk 'vdb'",
    ),
    ((DiskRequest("vda", incremental="no", backupmode=INCREMENTAL),), {}, "disks[0].incremental", "is no checkpoint"),
    ((DiskRequest("vdc", incremental="ck2", backupmode=INCREMENTAL),), {}, "disks[0].backupmode", RAW),
    ((DiskRequest("vdc", incremental="no", backupmode=INCREMENTAL),), {}, "disks[0].backupmode", RAW),
]


@pytest.mark.parametrize(("disks", "options", "parameter", "word"), DEMANDS)
def test_a_demand_that_cannot_be_met(
    disks: tuple[DiskRequest, ...], options: dict[str, t.Any], parameter: str, word: str
) -> None:
    with pytest.raises(InputError) as caught:
        plan(*disks, **options)
    assert caught.value.parameter == parameter
    assert word in caught.value.message


def test_a_demand_on_a_disk_that_was_added_later_is_libvirts_error_109() -> None:
    with pytest.raises(InputError, match="libvirt error 109") as caught:
        plan(incremental="ck3", backupmode=INCREMENTAL)
    assert caught.value.as_result()["libvirt_code"] == 109


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"backupmode": FULL}, "ck1"),
        ({"backupmode": FULL, "incremental": "ck3"}, "ck3"),
        ({"backupmode": FULL, "incremental": "no"}, ""),
        ({"backupmode": FULL, "disks": (DiskRequest("vdb"),)}, "ck2"),
        ({"backupmode": FULL, "disks": (DiskRequest("vdb"),), "incremental": "ck1"}, ""),
        ({"backupmode": FULL, "disks": (DiskRequest("vdc"),)}, ""),
        ({"disks": (DiskRequest("vda", backupmode=FULL), DiskRequest("vdb"))}, "ck1"),
        ({}, ""),
    ],
)
def test_a_needless_full(options: dict[str, t.Any], refused: str) -> None:
    wish = request(fail_if_incremental_possible=True, **{"disks": None, **options})
    if not refused:
        plan_backup(wish, FACTS)
        return
    with pytest.raises(StateError, match=f"could be incremental from checkpoint '{refused}'"):
        plan_backup(wish, FACTS)


def test_the_checkpoint_of_the_request_itself_makes_no_full_needless() -> None:
    """The second of two equal calls finds the job of the first, and the checkpoint that it made."""
    facts = dataclasses.replace(FACTS, checkpoints={"new": covering("new", "vda", "vdb")})
    assert levels(
        plan(facts=facts, checkpoint=CheckpointRequest("new"), backupmode=FULL, fail_if_incremental_possible=True)
    )


# Where the bytes go


def test_pull_derives_scratch_files_exports_and_the_socket() -> None:
    made = plan(DiskRequest("vda", incremental="ck2"), DiskRequest("vdb"))
    assert made.job.server == Server(socket=f"/run/virt-backup/libvirt-{UUID}.sock")
    vda, vdb = made.job.participating
    assert (vda.path, vda.exportname, vda.exportbitmap) == (
        f"/scratch/virt-backup-{UUID}-vda.qcow2",
        "vda",
        "backup-vda",
    )
    assert (vdb.path, vdb.exportname, vdb.exportbitmap) == (f"/scratch/virt-backup-{UUID}-vdb.qcow2", "vdb", "")
    assert {disk.driver for disk in (vda, vdb)} == {"qcow2"}


def test_what_is_named_is_taken() -> None:
    wish = DiskRequest(
        "vda", incremental="ck2", exportname="e", exportbitmap="b", storage="block", scratch="/dev/loop0"
    )
    (disk,) = plan(wish).job.participating
    wanted = JobDisk("vda", True, Level.INCREMENTAL, "ck2", "e", "b", "block", "/dev/loop0", "qcow2")
    assert disk == wanted


def test_push_derives_targets_and_exports_nothing() -> None:
    made = plan(DiskRequest("vda", incremental="ck2"), DiskRequest("vdb", driver="raw"), mode="push", target_dir="/t")
    assert made.job.server is None
    assert [(disk.path, disk.driver) for disk in made.job.participating] == [
        ("/t/vda.qcow2", "qcow2"),
        ("/t/vdb.raw", "raw"),
    ]
    assert {(disk.exportname, disk.exportbitmap) for disk in made.job.participating} == {("", "")}


@pytest.mark.parametrize(
    ("server", "wanted"),
    [
        (None, Server(socket=f"/run/virt-backup/libvirt-{UUID}.sock")),
        (Server(tls=True), Server(socket=f"/run/virt-backup/libvirt-{UUID}.sock", tls=True)),
        (Server(socket="/a.sock"), Server(socket="/a.sock")),
        (Server("tcp", name="::1", port=1), Server("tcp", name="::1", port=1)),
    ],
)
def test_server(server: Server | None, wanted: Server) -> None:
    assert plan(server=server).job.server == wanted


OWN = "/images/vda.qcow2"
DERIVED = f"/scratch/virt-backup-{UUID}-vdb.qcow2"
SHARED = [
    ((DiskRequest("vda", scratch=OWN),), {}, "disks[0].scratch", "source of disk 'vda' of the domain itself"),
    ((DiskRequest("vdb", scratch=OWN),), {}, "disks[0].scratch", "source of disk 'vda' of the domain itself"),
    ((DiskRequest("vda", target=OWN),), {"mode": "push"}, "disks[0].target", "source of disk 'vda'"),
    ((), {"mode": "push", "target_dir": "/images"}, "target_dir", "source of disk 'vda'"),
    (
        (DiskRequest("vdc", driver="raw"),),
        {"mode": "push", "target_dir": "/images"},
        "target_dir",
        "source of disk 'vdc'",
    ),
    ((DiskRequest("vda", scratch=DERIVED), DiskRequest("vdb")), {}, "scratch_dir", "where disk 'vda' writes already"),
    ((DiskRequest("vda", scratch="/a"),), {"server": Server(socket="/a")}, "disks[0].scratch", "the socket of the job"),
]


@pytest.mark.parametrize(("disks", "options", "parameter", "word"), SHARED)
def test_two_writers_in_one_place(
    disks: tuple[DiskRequest, ...], options: dict[str, t.Any], parameter: str, word: str
) -> None:
    with pytest.raises(InputError) as caught:
        plan(*disks, **options)
    assert caught.value.parameter == parameter
    assert word in caught.value.message


@pytest.mark.parametrize(
    ("wish", "option"),
    [
        (request(), "scratch_dir"),
        (request(DiskRequest("vdb", scratch="/a")), "scratch_dir"),
        (request(DiskRequest("vdb"), DiskRequest("vda", scratch="/a")), "disks[1].scratch"),
        (request(mode="push", target_dir="/t"), "target_dir"),
        (request(DiskRequest("vda", target="/t"), mode="push"), "disks[0].target"),
    ],
)
def test_place_option(wish: BackupRequest, option: str) -> None:
    assert place_option(wish, "vda") == option


# The checkpoint


@pytest.mark.parametrize(
    ("disks", "checkpoint", "wanted"),
    [
        ((), None, None),
        ((), CheckpointRequest("new"), "vda vdb"),
        ((DiskRequest("vda"),), CheckpointRequest("new"), "vda"),
        ((DiskRequest("vdc"),), CheckpointRequest("new"), None),
        ((DiskRequest("vda"),), CheckpointRequest("new", disks=(("vdb", True), ("vda", False))), "vdb"),
    ],
)
def test_checkpoint_disks(
    disks: tuple[DiskRequest, ...], checkpoint: CheckpointRequest | None, wanted: str | None
) -> None:
    made = plan(*disks, checkpoint=checkpoint).checkpoint_disks
    assert (made is None) is (wanted is None)
    if made is not None and wanted is not None:
        assert list(made) == ["vda", "vdb", "vdc", "sda"]
        assert [name for name, bitmap in made.items() if bitmap] == wanted.split()


# The same job, or another


def active(*disks: DiskRequest, **options: t.Any) -> BackupJob:
    return plan(*disks, **options).job


VDA = DiskRequest("vda")
SAME = [
    (request(VDA), active(VDA), True),
    (request(VDA, incremental="ck2"), active(VDA, incremental="ck2"), True),
    (request(VDA), active(VDA, DiskRequest("vdb")), False),
    (request(VDA, DiskRequest("vdb")), active(VDA), False),
    (request(VDA), active(VDA, server=Server(socket="/b.sock")), False),
    (request(VDA), active(VDA, server=Server(tls=True)), False),
    (request(VDA), active(VDA, scratch_dir="/other"), False),
    (request(VDA), active(VDA, mode="push", target_dir="/t"), False),
    (request(VDA), active(DiskRequest("vda", exportname="e")), False),
    (request(DiskRequest("vda", exportname="e")), active(DiskRequest("vda", exportname="e")), True),
    # levels: auto takes what it would have made of it, or the full that libvirt's refusal made; a demand takes its own
    (request(VDA, incremental="ck2"), active(VDA), True),
    (request(VDA, incremental="ck2"), active(VDA, incremental="ck1"), False),
    (request(VDA), active(VDA, incremental="ck1"), False),
    (request(VDA, incremental="ck2", backupmode=INCREMENTAL), active(VDA), False),
    (request(VDA, incremental="ck2", backupmode=INCREMENTAL), active(VDA, incremental="ck2"), True),
    (request(VDA, backupmode=FULL), active(VDA, incremental="ck2"), False),
    (request(VDA, backupmode=FULL), active(VDA), True),
    # the bitmap's name only matters to who named one, and where there is one
    (
        request(DiskRequest("vda", incremental="ck2", exportbitmap="b")),
        active(DiskRequest("vda", incremental="ck2", exportbitmap="b")),
        True,
    ),
    (request(DiskRequest("vda", incremental="ck2", exportbitmap="b")), active(VDA, incremental="ck2"), False),
    (request(DiskRequest("vda", exportbitmap="b")), active(VDA), True),
    (
        request(DiskRequest("vda", target="/t/a", driver="raw"), mode="push"),
        active(DiskRequest("vda", target="/t/a"), mode="push"),
        False,
    ),
    (request(VDA, mode="push", target_dir="/t"), active(VDA, mode="push", target_dir="/t"), True),
]


@pytest.mark.parametrize(("wish", "running", "same"), SAME)
def test_same_job(wish: BackupRequest, running: BackupJob, same: bool) -> None:
    assert same_job(plan_backup(wish, FACTS), wish, running) is same
