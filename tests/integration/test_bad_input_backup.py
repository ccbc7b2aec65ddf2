# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong input to virt_backup: one sentence that helps, the same in check mode, and the world as it was before."""

from __future__ import annotations

import libvirt
import pytest

from ansible_collections.virt.backup.tests.integration import bad_input
from ansible_collections.virt.backup.tests.integration.bad_input import (
    LONG_SOCKET,
    Case,
    disk,
    push,
    tcp,
    unix,
)

names = bad_input.names
connection = bad_input.connection

STRANGER = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"

BACKUP = [
    Case("domain unknown", {"domain": "nobody"}, "domain", "nobody", "it has: "),
    Case("domain by a UUID that is unknown", {"domain": STRANGER}, "domain", STRANGER, "it has: "),
    Case("domain with metacharacters", {"domain": "<a>&'\""}, "domain", "<a>&", "it has: "),
    Case("domain empty", {"domain": ""}, "domain", "''", "give a name or UUID"),
    Case("domain off", {"domain": "{off}"}, "domain", "{off}", "start the domain first"),
    Case("another job active", {"domain": "{busy}"}, "domain", "{work}/other.sock", "wait until it has ended"),
    Case("another job to be ended", {"domain": "{busy}", "state": "stopped"}, "domain", "other.sock", "End it with"),
    Case("uri of nothing", {"uri": "nosuch:///system"}, "uri", "nosuch:///system", "check that libvirtd"),
    Case("uri nobody serves", {"uri": "qemu+tcp://127.0.0.1:1/system"}, "uri", "127.0.0.1:1", "check that libvirtd"),
    Case(
        "uri of a daemon without backups",
        {"uri": "test:///default", "domain": "test"},
        "uri",
        "test:///default",
        "such as qemu:///system",
    ),
    Case("uri empty", {"uri": ""}, "uri", "''", "qemu:///system"),
    Case("disk unknown", disk("vdz"), "disks[0].name", "vdz", "it has: vda"),
    Case("disk by its path", disk("{vda}"), "disks[0].name", "{vda}", "it has: vda"),
    Case("disk named with metacharacters", disk("<vda>&'\""), "disks[0].name", "<vda>&", "it has: vda"),
    Case("disk without a medium", disk("sda"), "disks[0].name", "sda", "set backup: false"),
    Case("disk twice", {"disks": [{"name": "vda"}, {"name": "vda"}]}, "disks[].name", "vda", "list each one once"),
    Case("no disk", {"disks": []}, "disks", "[]", "list at least one disk"),
    Case("no disk left", disk(backup=False), "disks", "vda", "leave one disk in"),
    Case("incremental against full", {"incremental": "ck1", "backupmode": "full"}, "incremental", "ck1", "remove one"),
    Case(
        "incremental against full, one disk",
        disk(incremental="ck1", backupmode="full"),
        "disks[0].incremental",
        "ck1",
        "remove one of the two",
    ),
    Case("incremental without a base", {"backupmode": "incremental"}, "backupmode", "incremental", "name a checkpoint"),
    Case(
        "incremental without a base, one disk",
        disk(backupmode="incremental"),
        "disks[0].backupmode",
        "incremental",
        "name a checkpoint",
    ),
    Case(
        "checkpoint unknown, demanded",
        {"incremental": "gone", "backupmode": "incremental"},
        "incremental",
        "gone",
        "name one that it has (ck1)",
    ),
    Case(
        "checkpoint unknown, demanded of one disk",
        disk(incremental="gone", backupmode="incremental"),
        "disks[0].incremental",
        "gone",
        "name one that it has (ck1)",
    ),
    Case(
        "checkpoint without the disk, demanded",
        disk("vdd", incremental="ck1", backupmode="incremental"),
        "disks[0].backupmode",
        "libvirt error 109",
        "set backupmode of disk 'vdd' to auto or full",
    ),
    Case(
        "incremental demanded of a raw disk",
        disk("vdc", incremental="ck1", backupmode="incremental"),
        "disks[0].backupmode",
        "format is raw",
        "set backupmode of disk 'vdc' to auto or full",
    ),
    Case(
        "full although incremental is possible",
        {"backupmode": "full", "fail_if_incremental_possible": True},
        "fail_if_incremental_possible",
        "disk 'vda' could be incremental",
        "use backupmode: auto",
    ),
    Case("base of no checkpoint's name", {"incremental": "a/b"}, "incremental", "a/b", "use letters"),
    Case("checkpoint's name", {"checkpoint": {"name": "a b"}}, "checkpoint.name", "a b", "use letters"),
    Case("checkpoint's name, dot first", {"checkpoint": {"name": ".a"}}, "checkpoint.name", ".a", "use letters"),
    Case("checkpoint's name, XML", {"checkpoint": {"name": "<a>&"}}, "checkpoint.name", "<a>&", "use letters"),
    Case("checkpoint's name, long", {"checkpoint": {"name": "a" * 252}}, "checkpoint.name", "a" * 252, "use at most"),
    Case("checkpoint exists", {"checkpoint": {"name": "ck1"}}, "checkpoint.name", "ck1", "choose a name"),
    Case(
        "checkpoint is its own base",
        {"checkpoint": {"name": "ck1"}, "incremental": "ck1"},
        "checkpoint.name",
        "ck1",
        "a name of its own",
    ),
    Case(
        "checkpoint of an unknown disk",
        {"checkpoint": {"name": "new", "disks": [{"name": "vdz"}]}},
        "checkpoint.disks[0].name",
        "vdz",
        "it has: vda",
    ),
    Case(
        "checkpoint of a raw disk",
        {"checkpoint": {"name": "new", "disks": [{"name": "vda"}, {"name": "vdc"}]}},
        "checkpoint.disks[1].name",
        "vdc",
        "set checkpoint: 'no'",
    ),
    Case(
        "checkpoint of no disk",
        {"checkpoint": {"name": "new", "disks": [{"name": "vda", "checkpoint": "no"}]}},
        "checkpoint.disks",
        "vda",
        "list at least one disk",
    ),
    Case("socket relative", unix(socket="a.sock"), "server.socket", "a.sock", "give the full path"),
    Case("socket of 108 bytes", unix(socket=LONG_SOCKET), "server.socket", LONG_SOCKET, "at most 107 bytes"),
    Case("socket nowhere", unix(socket="{work}/nowhere/a.sock"), "server.socket", "{work}/nowhere", "create it"),
    Case("socket is a file", unix(socket="{work}/file"), "server.socket", "{work}/file", "choose another path"),
    Case("socket is the domain's own disk", unix(socket="{vda}"), "server.socket", "{vda}", "choose another path"),
    Case("socket of another server", unix(socket="{served}"), "server.socket", "{served}", "end that server"),
    Case(
        "socket where QEMU may not write", unix(socket="{work}/closed/a.sock"), "server.socket", "/closed", "the right"
    ),
    Case("socket over TCP", tcp(socket="/a.sock", name="localhost", port=1), "server.socket", "/a.sock", "remove it"),
    Case("port over UNIX", unix(port=10809), "server.port", "10809", "use transport: tcp"),
    Case("port missing", tcp(name="127.0.0.1"), "server.port", "0", "give 1 to 65535"),
    Case("port too high", tcp(name="127.0.0.1", port=65536), "server.port", "65536", "give 1 to 65535"),
    Case("port negative", tcp(name="127.0.0.1", port=-1), "server.port", "-1", "give 1 to 65535"),
    Case("port in use", tcp(name="127.0.0.1", port="{port}"), "server.port", "{port}", "choose another port"),
    Case("server's name of another host", tcp(name="192.0.2.1", port=10809), "server.name", "192.0.2.1", "127.0.0.1"),
    Case("port no number", tcp(name="127.0.0.1", port="nbd"), "port", "nbd", "int"),
    Case("server's name missing", tcp(port=10809), "server.name", "''", "give the host name"),
    Case("server's name", tcp(name="my_host", port=10809), "server.name", "my_host", "give one to listen on"),
    Case("server's name, XML", tcp(name="<a>&", port=10809), "server.name", "<a>&", "give one to listen on"),
    Case(
        "export name twice",
        {"disks": [{"name": "vda", "exportname": "vdb"}, {"name": "vdb"}]},
        "exportname",
        "vdb",
        "once",
    ),
    Case("export name too long", disk(exportname="x" * 4097), "disks[0].exportname", "xxx", "shorten it"),
    Case("bitmap name too long", disk(exportbitmap="ü" * 512), "disks[0].exportbitmap", "üüü", "shorten it"),
    Case("scratch_dir relative", {"scratch_dir": "scratch"}, "scratch_dir", "'scratch'", "give the full path"),
    Case("scratch_dir missing", {"scratch_dir": "{work}/nowhere"}, "scratch_dir", "{work}/nowhere", "create it"),
    Case("scratch_dir a file", {"scratch_dir": "{work}/file"}, "scratch_dir", "{work}/file", "give a directory"),
    Case("scratch_dir read-only", {"scratch_dir": "{work}/readonly"}, "scratch_dir", "/readonly", "make it writable"),
    Case("scratch_dir closed to QEMU", {"scratch_dir": "{work}/closed"}, "scratch_dir", "{work}/closed", "the right"),
    Case("scratch_dir too small", {"scratch_dir": "{work}/small"}, "scratch_dir", "{work}/small", "a larger one"),
    Case("scratch relative", disk(scratch="a"), "disks[0].scratch", "'a'", "give the full path"),
    Case(
        "scratch twice",
        {"disks": [{"name": "vda", "scratch": "/a"}, {"name": "vdb", "scratch": "/a"}]},
        "scratch",
        "/a",
        "once",
    ),
    Case("scratch is the disk itself", disk(scratch="{vda}"), "disks[0].scratch", "{vda}", "choose another path"),
    Case("scratch is another disk", disk(scratch="{vdb}"), "disks[0].scratch", "{vdb}", "choose another path"),
    Case(
        "scratch is another disk by a link",
        {**disk(scratch="{work}/link.qcow2"), "reuse_external": True},
        "disks[0].scratch",
        "{vdb}",
        "choose another path",
    ),
    Case("scratch exists", disk(scratch="{work}/scratch/taken.qcow2"), "disks[0].scratch", "taken.qcow2", "remove it"),
    Case(
        "scratch to be reused missing", {"reuse_external": True}, "scratch_dir", "virt-backup-{uuid}-vda", "create it"
    ),
    Case(
        "scratch to be reused of another size",
        {**disk(scratch="{work}/tiny.qcow2"), "reuse_external": True},
        "disks[0].scratch",
        "{work}/tiny.qcow2",
        "exactly the size",
    ),
    Case(
        "scratch to be reused of another format",
        {**disk(scratch="{work}/base.raw"), "reuse_external": True},
        "disks[0].scratch",
        "{work}/base.raw",
        "qemu-img create -f qcow2",
    ),
    Case(
        "scratch no device", disk(scratch="{work}/file", type="block"), "disks[0].scratch", "{work}/file", "type: file"
    ),
    Case(
        "scratch device missing",
        disk(scratch="/dev/nowhere", type="block"),
        "disks[0].scratch",
        "/dev/nowhere",
        "give a",
    ),
    Case(
        "scratch device too small",
        disk(scratch="{loop}", type="block"),
        "disks[0].scratch",
        "{loop}",
        "a larger device",
    ),
    Case(
        "raw target device of another size",
        push(**disk(target="{loop}", type="block", driver="raw")),
        "disks[0].target",
        "{loop}",
        "of exactly that size",
    ),
    Case("block without a path", disk(type="block"), "disks[0].type", "block", "in scratch"),
    Case("scratch_min_free", {"scratch_min_free": "101%"}, "scratch_min_free", "101%", "give 0% to 100%"),
    Case("scratch_min_free no size", {"scratch_min_free": "much"}, "scratch_min_free", "much", "give one such as 20G"),
    Case("scratch_low_water", {"scratch_low_water": "10%", "lease": 60}, "scratch_low_water", "10%", "give a size"),
    Case("scratch_low_water alone", {"scratch_low_water": "1G"}, "scratch_low_water", "1G", "give a lease, too"),
    Case(
        "scratch_low_water never met",
        {"scratch_low_water": "1000T", "lease": 60},
        "scratch_low_water",
        "1000T",
        "lower it, or choose another scratch_dir",
    ),
    Case("timeout", {"timeout": 0}, "timeout", "0", "at least 1 second"),
    Case("timeout of a stop", {"timeout": -1, "state": "stopped"}, "timeout", "-1", "at least 1 second"),
    Case("quiesce without an agent", {"quiesce": "require"}, "quiesce", "require", "use quiesce: try"),
    Case("quiesce of no such kind", {"quiesce": "always"}, "quiesce", "always", "never, try, require"),
    Case("mode of no such kind", {"mode": "shove"}, "mode", "shove", "pull, push"),
    Case("target in pull", disk(target="/a"), "disks[0].target", "/a", "use scratch"),
    Case("target_dir in pull", {"target_dir": "/a"}, "target_dir", "/a", "mode: push"),
    Case("raw in pull", disk(driver="raw"), "disks[0].driver", "raw", "leave it out"),
    Case("backing_file in pull", disk(backing_file="a"), "disks[0].backing_file", "'a'", "remove it"),
    Case("cancel in pull", {"cancel": True, "state": "stopped"}, "cancel", "True", "leave it out"),
    Case("server in push", push(target_dir="{work}/targets", server={"socket": "/a"}), "server", "/a", "mode: pull"),
    Case("scratch in push", push(**disk(scratch="/a", target="/b")), "disks[0].scratch", "/a", "use target"),
    Case("export in push", push(**disk(exportname="a", target="/b")), "disks[0].exportname", "'a'", "remove it"),
    Case("push to nowhere", push(), "target_dir", "''", "give it"),
    Case("push of a disk to nowhere", push(**disk()), "disks[0].target", "''", "give a target path"),
    Case("target_dir missing", push(target_dir="{work}/nowhere"), "target_dir", "{work}/nowhere", "create it"),
    Case("target_dir closed to QEMU", push(target_dir="{work}/closed"), "target_dir", "{work}/closed", "the right"),
    Case("target exists", push(target_dir="{work}/targets"), "target_dir", "{work}/targets/vda.qcow2", "remove it"),
    Case("target is the disk itself", push(**disk(target="{vda}")), "disks[0].target", "{vda}", "choose another path"),
    Case(
        "incremental push without the image below",
        push(**disk(target="{work}/targets/new.qcow2"), incremental="ck1"),
        "disks[].backing_file",
        "''",
        "give the previous backup",
    ),
]

ROWS = bad_input.rows(
    virt_backup=BACKUP,
)


@pytest.mark.parametrize(("module", "case"), ROWS)
def test_refused(module: str, case: Case, names: dict[str, str], connection: libvirt.virConnect) -> None:
    bad_input.check_refusal(module, case, names, connection)


def test_there_are_enough_rows() -> None:
    assert len(ROWS) > 90
