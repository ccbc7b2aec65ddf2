# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests for a backup that are refused before a job is thought of, each beside a neighbour that is not."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.backup_request import (
    check_against_domain,
    check_request,
)
from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import (
    BackupRequest,
    CheckpointRequest,
    DiskRequest,
)
from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk, Domain
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.job import Server
from ansible_collections.virt.backup.plugins.module_utils._model.level import BackupMode

TCP = Server("tcp", name="127.0.0.1", port=10809)
FULL, INCREMENTAL = BackupMode.FULL, BackupMode.INCREMENTAL


def request(**options: t.Any) -> BackupRequest:
    return BackupRequest(**{"uri": "qemu:///system", "domain": "web", **options})


def push(**options: t.Any) -> BackupRequest:
    return request(mode="push", **options)


def disks(*wishes: DiskRequest, **options: t.Any) -> BackupRequest:
    return request(disks=wishes, **options)


def disk(**options: t.Any) -> DiskRequest:
    return DiskRequest("vda", **options)


def ck(*args: t.Any, **options: t.Any) -> CheckpointRequest:
    return CheckpointRequest(*args, **options)


TAKEN = [
    request(),
    request(incremental="ck1", backupmode=INCREMENTAL),
    request(backupmode=FULL),
    request(backupmode=FULL, incremental="ck1", fail_if_incremental_possible=True),
    request(server=Server()),
    request(server=Server(socket="/run/a.sock", tls=True)),
    request(server=TCP),
    request(scratch_dir="/scratch", scratch_min_free="0%"),
    request(scratch_min_free="100%", timeout=1),
    request(checkpoint=ck("new", "<why> & \"what\" 'ü'", (("vda", True), ("vdb", False)))),
    disks(disk()),
    disks(disk(), DiskRequest("vdb", backup=False)),
    disks(disk(incremental="ck1"), DiskRequest("vdb", incremental="ck2")),
    disks(disk(backupmode=INCREMENTAL), incremental="ck1"),
    disks(disk(backupmode=FULL), incremental="ck1"),
    disks(disk(exportname="<e> & ü", exportbitmap="b" * 1023)),
    disks(disk(storage="block", scratch="/dev/loop0")),
    disks(disk(exportname="vdb"), DiskRequest("vdb", exportname="vda")),
    disks(disk(exportname="x"), DiskRequest("vdb", backup=False, exportname="x")),
    push(target_dir="/t"),
    push(target_dir="/t", cancel=True),
    push(disks=(disk(target="/t/a", driver="raw"),)),
    push(disks=(disk(target="/t/a", incremental="ck1", backing_file="../old/a"),)),
    push(disks=(disk(storage="block", target="/dev/loop0"), DiskRequest("vdb", backup=False))),
]


@pytest.mark.parametrize("wish", TAKEN)
def test_taken(wish: BackupRequest) -> None:
    check_request(wish)


# The wish, the parameter that the refusal names, and a word of the reason.
REFUSED = [
    (request(uri=""), "uri", "is empty"),
    (request(uri="qemu:///\nsystem"), "uri", "newline"),
    (request(domain=""), "domain", "is empty"),
    (request(domain=" "), "domain", "is empty"),
    (request(domain="a\tb"), "domain", "control character"),
    (request(timeout=0), "timeout", "waiting time"),
    (request(timeout=-1), "timeout", "waiting time"),
    (request(scratch_min_free="101%"), "scratch_min_free", "percentage"),
    (request(scratch_min_free="-1%"), "scratch_min_free", "percentage"),
    (request(scratch_dir="scratch"), "scratch_dir", "not an absolute path"),
    (request(scratch_dir="/a\nb"), "scratch_dir", "newline"),
    # pull against push
    (push(target_dir="/t", server=TCP), "server", "in push mode"),
    (push(), "target_dir", "is not given"),
    (push(target_dir="t"), "target_dir", "not an absolute path"),
    (request(target_dir="/t"), "target_dir", "in pull mode"),
    (request(cancel=True), "cancel", "in pull mode"),
    (disks(disk(target="/t/a")), "disks[0].target", "in pull mode"),
    (disks(disk(driver="raw")), "disks[0].driver", "in pull mode"),
    (disks(disk(backing_file="a")), "disks[0].backing_file", "in pull mode"),
    (push(disks=(disk(scratch="/s/a", target="/t/a"),)), "disks[0].scratch", "in push mode"),
    (push(disks=(disk(exportname="a", target="/t/a"),)), "disks[0].exportname", "in push mode"),
    (push(disks=(disk(exportbitmap="a", target="/t/a"),)), "disks[0].exportbitmap", "in push mode"),
    (push(disks=(disk(),)), "disks[0].target", "is not given"),
    # levels
    (request(incremental="a b"), "incremental", "no valid checkpoint name"),
    (request(backupmode=FULL, incremental="ck1"), "incremental", "together with backupmode: full"),
    (request(backupmode=INCREMENTAL), "backupmode", "no checkpoint to start from"),
    (disks(disk(), backupmode=INCREMENTAL), "disks[0].backupmode", "no checkpoint to start from"),
    (disks(disk(backupmode=INCREMENTAL)), "disks[0].backupmode", "no checkpoint to start from"),
    (disks(disk(backupmode=FULL, incremental="ck1")), "disks[0].incremental", "together with backupmode: full"),
    (disks(disk(incremental="../a")), "disks[0].incremental", "no valid checkpoint name"),
    # server
    (request(server=Server(socket="a.sock")), "server.socket", "not an absolute path"),
    (request(server=Server(socket="/" + "a" * 107)), "server.socket", "108 bytes"),
    (request(server=Server(socket="/a\nb")), "server.socket", "newline"),
    (request(server=Server(name="localhost")), "server.name", "transport: unix"),
    (request(server=Server(port=10809)), "server.port", "transport: unix"),
    (request(server=Server("tcp", "/a.sock", "h", 1)), "server.socket", "transport: tcp"),
    (request(server=Server("tcp", port=10809)), "server.name", "is empty"),
    (request(server=Server("tcp", name="a_b", port=1)), "server.name", "no host name"),
    (request(server=Server("tcp", name="h")), "server.port", "no TCP port"),
    (request(server=Server("tcp", name="h", port=65536)), "server.port", "no TCP port"),
    (request(server=Server("tcp", name="h", port=-1)), "server.port", "no TCP port"),
    # disks
    (disks(), "disks", "is empty"),
    (disks(DiskRequest("")), "disks[0].name", "is empty"),
    (disks(disk(), disk()), "disks[].name", "given twice"),
    (disks(disk(backup=False)), "disks", "backup: false"),
    (disks(disk(), DiskRequest("vd\nb")), "disks[1].name", "newline"),
    (disks(disk(exportname="x"), DiskRequest("vdb", exportname="x")), "disks[].exportname", "given twice"),
    (disks(disk(exportname="vdb"), DiskRequest("vdb")), "disks[].exportname", "given twice"),
    (disks(disk(exportname="x" * 4097)), "disks[0].exportname", "longer than 4096 bytes"),
    (disks(disk(exportname="x\n")), "disks[0].exportname", "newline"),
    (disks(disk(exportbitmap="ü" * 512)), "disks[0].exportbitmap", "longer than 1023 bytes"),
    (disks(disk(scratch="/s"), DiskRequest("vdb", scratch="/s")), "disks[].scratch", "given twice"),
    (disks(disk(scratch="s")), "disks[0].scratch", "not an absolute path"),
    (disks(disk(storage="block")), "disks[0].type", "has no scratch"),
    (push(disks=(disk(storage="block"),), target_dir="/t"), "disks[0].type", "has no target"),
    (push(disks=(disk(target="/t/\u2028"),)), "disks[0].target", "newline"),
    (push(disks=(disk(target="/t"), DiskRequest("vdb", target="/t"))), "disks[].target", "given twice"),
    (push(disks=(disk(target="/t", backing_file="a\nb"),)), "disks[0].backing_file", "newline"),
    # checkpoint
    (request(checkpoint=ck("")), "checkpoint.name", "no valid checkpoint name"),
    (request(checkpoint=ck("<a>")), "checkpoint.name", "no valid checkpoint name"),
    (request(checkpoint=ck("a", "b\nc")), "checkpoint.description", "newline"),
    (request(checkpoint=ck("ck1"), incremental="ck1"), "checkpoint.name", "starts from"),
    (disks(disk(incremental="ck1"), checkpoint=ck("ck1")), "checkpoint.name", "starts from"),
    (request(checkpoint=ck("a", "", (("vda", True), ("vda", False)))), "checkpoint.disks[].name", "given twice"),
    (request(checkpoint=ck("a", "", (("vda", False),))), "checkpoint.disks", "gives no disk a bitmap"),
    (request(checkpoint=ck("a", "", ())), "checkpoint.disks", "gives no disk a bitmap"),
]


@pytest.mark.parametrize(("wish", "parameter", "word"), REFUSED)
def test_refused(wish: BackupRequest, parameter: str, word: str) -> None:
    with pytest.raises(InputError) as caught:
        check_request(wish)
    assert caught.value.parameter == parameter
    assert word in caught.value.message
    assert caught.value.message.isprintable()


DOMAIN = Domain(
    "web",
    "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11",
    (
        Disk("vda", source="/a", format="qcow2"),
        Disk("vdb", source="/b"),
        Disk("sda", "cdrom", readonly=True),
        Disk("sdb", "cdrom", source="/cd.iso", readonly=True),
        Disk("vdc", source="/c", transient=True),
    ),
)
UNTRACKABLE = {"vda": "", "vdb": "it is raw", "sda": "it is empty", "sdb": "it is read-only", "vdc": "it is transient"}


@pytest.mark.parametrize(
    "wish",
    [
        request(),
        disks(disk()),
        disks(DiskRequest("vdb")),
        disks(DiskRequest("sdb")),
        disks(DiskRequest("sda", backup=False)),
        disks(DiskRequest("vdc", backup=False)),
        request(checkpoint=ck("a", "", (("vda", True), ("vdb", False)))),
    ],
)
def test_the_domain_can_do_it(wish: BackupRequest) -> None:
    check_against_domain(wish, DOMAIN, UNTRACKABLE)


@pytest.mark.parametrize(
    ("wish", "parameter", "word"),
    [
        (disks(DiskRequest("vdz")), "disks[0].name", "it has: vda, vdb, sda, sdb, vdc"),
        (disks(disk(), DiskRequest("/a")), "disks[1].name", "is not a disk of domain 'web'"),
        (disks(DiskRequest("vdz", backup=False)), "disks[0].name", "is not a disk"),
        (disks(DiskRequest("sda")), "disks[0].name", "the cdrom drive is empty"),
        (disks(disk(), DiskRequest("vdc")), "disks[1].name", "is transient"),
        (request(checkpoint=ck("a", "", (("vdz", True),))), "checkpoint.disks[0].name", "is not a disk"),
        (request(checkpoint=ck("a", "", (("vdz", False),))), "checkpoint.disks[0].name", "is not a disk"),
        (request(checkpoint=ck("a", "", (("vda", True), ("vdb", True)))), "checkpoint.disks[1].name", "it is raw"),
    ],
)
def test_the_domain_cannot(wish: BackupRequest, parameter: str, word: str) -> None:
    with pytest.raises(InputError) as caught:
        check_against_domain(wish, DOMAIN, UNTRACKABLE)
    assert caught.value.parameter == parameter
    assert word in caught.value.message
