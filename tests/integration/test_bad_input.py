# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong input to every module: one sentence that helps, the same in check mode, and the world as it was before.

Each row of the tables is: what is wrong, the module's options beside the usual ones, the parameter that the sentence names,
the value that it shows, and words of the remedy. ``{work}`` and the like stand for what :class:`World` made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import socket
import stat
import typing as t

import libvirt
import pytest
from lab.disks import MIB, Disk, empty_cdrom
from lab.domains import IMAGES, Domains, LabDomain
from lab.tools import call, virsh

from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.nbd_fixtures import Server, qemu_nbd

LONG_SOCKET = "/run/virt-backup/" + "a" * 91
STRANGER = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"


class World:
    """A domain with every obstacle around it, made once: nothing in here may change."""

    def __init__(self, domains: Domains, work: pathlib.Path) -> None:
        self.work = work
        for name in ("scratch", "targets", "dest", "closed", "small", "readonly", "notrepo", "empty"):
            (work / name).mkdir(mode=0o755)
        (work / "closed").chmod(0o700)
        for name in ("file", "notrepo/holiday.jpg", "dest/taken.qcow2", "scratch/taken.qcow2", "targets/vda.qcow2"):
            (work / name).write_text("not yours\n", encoding="ascii")
        call("qemu-img", "create", "-q", "-f", "qcow2", work / "tiny.qcow2", "1M")
        call("qemu-img", "create", "-q", "-f", "raw", work / "base.raw", "64M")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(work / "dead.sock"))
        self.domain = domains(Disk("vda"), Disk("vdb", size=16 * MIB), Disk("vdc", format="raw"), empty_cdrom("sda"))
        self.domain.make_checkpoint("ck1", "vda", "vdb")
        self.domain.attach(Disk("vdd", size=16 * MIB))
        self.off = domains(Disk("vda"), Disk("vdb", kind="block", format="raw", size=4 * MIB), start=False)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.busy = self._busy(domains)
        kit.run("backup_repository", path=str(work / "repo"))
        (work / "link.qcow2").symlink_to(self.domain.disks["vdb"].image)

    def _busy(self, domains: Domains) -> LabDomain:
        """Return a domain with a job that another tool began."""
        domain = domains(Disk("vda"))
        xml = f"<domainbackup mode='pull'><server transport='unix' socket='{self.work}/other.sock'/></domainbackup>"
        (self.work / "other.xml").write_text(xml, encoding="ascii")
        self.work.chmod(0o777)
        virsh("backup-begin", domain.name, self.work / "other.xml")
        self.work.chmod(0o755)
        return domain

    def names(self, server: Server) -> dict[str, str]:
        """Return what the tables' placeholders stand for."""
        return {
            "work": str(self.work),
            "domain": self.domain.name,
            "uuid": self.domain.uuid,
            "vda": str(self.domain.disks["vda"].image),
            "vdb": str(self.domain.disks["vdb"].image),
            "off": self.off.name,
            "busy": self.busy.name,
            "uri": server.uri("disk"),
            "served": str(server.socket),
            "port": str(self.listener.getsockname()[1]),
            "loop": self.off.disks["vdb"].loop,
        }


@pytest.fixture(scope="module")
def names(lab_host: str) -> t.Iterator[dict[str, str]]:
    domains = Domains()
    work = IMAGES / "bad-input"
    work.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(call, "rm", "-rf", work)
        stack.callback(domains.close)
        world = World(domains, work)
        stack.callback(world.listener.close)
        for name, options in (("small", "size=4m"), ("readonly", "ro")):
            call("mount", "-t", "tmpfs", "-o", options, "none", work / name)
            stack.callback(call, "umount", work / name)
        call("qemu-img", "create", "-q", "-f", "qcow2", work / "served.qcow2", "16M")
        call("qemu-img", "bitmap", "--add", work / "served.qcow2", "changes")
        server = stack.enter_context(qemu_nbd(work / "served.qcow2", "-r", "-B", "changes", export="disk"))
        yield world.names(server)


@pytest.fixture(scope="module")
def connection(lab_host: str) -> t.Iterator[libvirt.virConnect]:
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    opened = libvirt.open("qemu:///system")
    yield opened
    opened.close()


@dataclasses.dataclass(frozen=True)
class Seen:
    """All that a refused call might have changed."""

    domains: dict[str, tuple[t.Any, ...]]
    files: dict[str, tuple[int, ...]]


def look(connection: libvirt.virConnect) -> Seen:
    """Return domains with definition, live XML, checkpoints and job, and every file around them."""
    return Seen({domain.name(): _domain(domain) for domain in connection.listAllDomains()}, _files())


def _domain(domain: libvirt.virDomain) -> tuple[t.Any, ...]:
    checkpoints = domain.listAllCheckpoints(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL)
    no_domain = libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN
    try:
        job = domain.backupGetXMLDesc(0)
    except libvirt.libvirtError:
        job = ""
    definition = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return domain.state()[0], domain.XMLDesc(0), definition, job, [found.getXMLDesc(no_domain) for found in checkpoints]


def _files() -> dict[str, tuple[int, ...]]:
    found = {}
    for top in (IMAGES, kit.SOCKETS, kit.SCRATCH):
        for path in (top, *top.rglob("*")):
            entry = path.lstat()
            # A directory's time and size tell of work in it that is undone; what is in it is compared itself.
            content = () if stat.S_ISDIR(entry.st_mode) else (entry.st_size, entry.st_mtime_ns)
            found[str(path)] = (entry.st_mode, entry.st_uid, entry.st_gid, entry.st_ino, *content)
    return found


class Case(t.NamedTuple):
    wrong: str
    options: dict[str, t.Any]
    parameter: str
    value: str
    remedy: str


def filled(thing: t.Any, names: dict[str, str]) -> t.Any:
    """Return options or a text with their placeholders filled in."""
    if isinstance(thing, dict):
        return {key: filled(value, names) for key, value in thing.items()}
    if isinstance(thing, list):
        return [filled(value, names) for value in thing]
    if isinstance(thing, str):
        for name, value in names.items():
            thing = thing.replace("{" + name + "}", value)
    return thing


def refused(module: str, options: dict[str, t.Any], connection: libvirt.virConnect) -> str:
    """Insist on the same sentence from check mode and from the run, and on nothing having changed; return it."""
    before = look(connection)
    sentences = []
    for check in (True, False):
        result = kit.attempt(module, check=check, **options)
        assert result["failed"], f"{module} took it: {result}"
        assert not result.get("changed")
        assert "exception" not in result
        sentences.append(result["msg"])
        assert look(connection) == before
    sentence = sentences[0]
    assert sentences[1] == sentence
    assert sentence.isprintable(), sentence
    assert "Traceback" not in sentence
    return str(sentence)


def disk(name: str = "vda", **options: t.Any) -> dict[str, t.Any]:
    return {"disks": [{"name": name, **options}]}


def push(**options: t.Any) -> dict[str, t.Any]:
    return {"mode": "push", **options}


def tcp(**options: t.Any) -> dict[str, t.Any]:
    return {"server": {"transport": "tcp", **options}}


def unix(**options: t.Any) -> dict[str, t.Any]:
    return {"server": options}


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
    Case("scratch_min_percent", {"scratch_min_percent": 101}, "scratch_min_percent", "101", "use 0 to 100"),
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

SAVED = "<domaincheckpoint><name>{0}</name><creationTime>1</creationTime><disks>{1}</disks></domaincheckpoint>"
VDA = "<disk name='vda' checkpoint='bitmap' bitmap='new'/>"

CHECKPOINT = [
    Case("domain unknown", {"domain": "nobody"}, "domain", "nobody", "it has: "),
    Case("domain off", {"domain": "{off}"}, "domain", "{off}", "start the domain first"),
    Case(
        "domain off, absent", {"domain": "{domain}", "state": "absent", "quiesce": "try"}, "quiesce", "try", "remove it"
    ),
    Case("uri of nothing", {"uri": "nosuch:///system"}, "uri", "nosuch:///system", "check that libvirtd"),
    Case("name empty", {"name": ""}, "name", "''", "use letters"),
    Case("name with a slash", {"name": "../../etc/passwd"}, "name", "../../etc/passwd", "use letters"),
    Case("name with XML", {"name": "<a>&'\""}, "name", "<a>&", "use letters"),
    Case("name too long", {"name": "a" * 252}, "name", "a" * 252, "use at most 251"),
    Case("name not ASCII", {"name": "nächtlich"}, "name", "nächtlich", "use letters"),
    Case("exists with another text", {"name": "ck1", "description": "b"}, "name", "ck1", "choose another name"),
    Case("exists with other disks", {"name": "ck1", **disk("vda")}, "name", "ck1", "choose another name"),
    Case("disk unknown", disk("vdz"), "disks[0].name", "vdz", "it has: vda"),
    Case("disk raw", disk("vdc"), "disks[0].name", "vdc", "set checkpoint: 'no'"),
    Case("disk without a medium", disk("sda"), "disks[0].name", "sda", "set checkpoint: 'no'"),
    Case("disk twice", {"disks": [{"name": "vda"}, {"name": "vda"}]}, "disks[].name", "vda", "list each one once"),
    Case("no disk", {"disks": []}, "disks", "[]", "list at least one disk"),
    Case("no bitmap", disk("vda", checkpoint="no"), "disks", "vda", "list at least one disk"),
    Case("quiesce without an agent", {"quiesce": "require"}, "quiesce", "require", "use quiesce: try"),
    Case("children of a present one", {"children": True}, "children", "True", "remove it"),
    Case("metadata_only of a present one", {"metadata_only": True}, "metadata_only", "True", "remove it"),
    Case("validate of a new one", {"validate": True}, "validate", "True", "remove it"),
    Case("XML of an absent one", {"state": "absent", "redefine_xml": "<a/>"}, "redefine_xml", "<a/>", "remove it"),
    Case("XML and disks", {"redefine_xml": "<a/>", **disk()}, "disks", "vda", "remove it"),
    Case(
        "XML that is none", {"redefine_xml": "<domaincheckpoint>"}, "redefine_xml", "<domaincheckpoint>", "take the XML"
    ),
    Case(
        "XML of something else",
        {"redefine_xml": "<domain><name>new</name></domain>"},
        "redefine_xml",
        "<domain>",
        "take",
    ),
    Case("XML of another checkpoint", {"redefine_xml": SAVED.format("ck9", VDA)}, "name", "new", "give name: ck9"),
    Case(
        "XML with a word for a number",
        {"redefine_xml": SAVED.format("new", VDA).replace(">1<", ">soon<")},
        "redefine_xml",
        "soon",
        "take the XML from",
    ),
    Case(
        "XML of no disk of ours",
        {"redefine_xml": SAVED.format("new", VDA.replace("vda", "vdz"))},
        "redefine_xml",
        "disk 'vdz'",
        "nothing to redefine",
    ),
    Case(
        "XML of another domain",
        {
            "redefine_xml": SAVED.format("new", VDA).replace(
                "<disks>", f"<domain><uuid>{STRANGER}</uuid></domain><disks>"
            )
        },
        "redefine_xml",
        STRANGER,
        "a checkpoint of this domain",
    ),
    Case(
        "XML that libvirt's schema refuses",
        {"redefine_xml": SAVED.format("new", VDA + "<surprise/>")},
        "redefine_xml",
        "interleave",
        "take the XML from",
    ),
]

CHECKPOINT_INFO = [
    Case("domain unknown", {"domain": "nobody"}, "domain", "nobody", "it has: "),
    Case("domain empty", {"domain": ""}, "domain", "''", "give a name or UUID"),
    Case("sizes of a domain that is off", {"domain": "{off}", "size": True}, "size", "{off}", "start the domain"),
    Case("name", {"name": "a b"}, "name", "a b", "use letters"),
    Case("uri of nothing", {"uri": "nosuch:///system"}, "uri", "nosuch:///system", "check that libvirtd"),
]

BACKUP_INFO = [
    Case("domain unknown", {"domain": "nobody"}, "domain", "nobody", "it has: "),
    Case("uri of nothing", {"uri": "nosuch:///system"}, "uri", "nosuch:///system", "check that libvirtd"),
    Case("uri empty", {"uri": ""}, "uri", "''", "qemu:///system"),
]


def image(**options: t.Any) -> dict[str, t.Any]:
    return {"images": [{"uri": "{uri}", "dest": "{work}/dest/new.qcow2", **options}]}


def increment(**options: t.Any) -> dict[str, t.Any]:
    return image(**{"bitmap": "changes", "backing_file": "{work}/tiny.qcow2", **options})


EXTRACT = [
    Case("no image", {"images": []}, "images", "[]", "name at least one image"),
    Case("uri of another kind", image(uri="http://a/b"), "images[0].uri", "http://a/b", "write it like nbd"),
    Case("uri without a socket", image(uri="nbd+unix:///disk"), "images[0].uri", "nbd+unix:///disk", "write it like"),
    Case("uri without a host", image(uri="nbd:///disk"), "images[0].uri", "nbd:///disk", "write it like"),
    Case("socket relative", image(uri="nbd+unix:///disk?socket=a"), "images[0].uri", "socket=a", "absolute path"),
    Case(
        "socket too long",
        image(uri=f"nbd+unix:///d?socket={LONG_SOCKET}"),
        "images[0].uri",
        LONG_SOCKET,
        "shorter path",
    ),
    Case(
        "socket missing",
        image(uri="nbd+unix:///d?socket={work}/no.sock"),
        "images[0].uri",
        "{work}/no.sock",
        "start the",
    ),
    Case(
        "socket is a file",
        image(uri="nbd+unix:///d?socket={work}/file"),
        "images[0].uri",
        "{work}/file",
        "server's socket",
    ),
    Case("socket dead", image(uri="nbd+unix:///d?socket={work}/dead.sock"), "images[0].uri", "dead.sock", "server"),
    Case("port nobody serves", image(uri="nbd://127.0.0.1:1/d"), "images[0].uri", "127.0.0.1:1", "server"),
    Case("export missing", image(uri="nbd+unix:///nope?socket={served}"), "images[0].uri", "nope", "export"),
    Case("bitmap missing", increment(bitmap="nope"), "images[0].bitmap", "nope", "bitmap"),
    Case(
        "bitmap with its prefix",
        increment(bitmap="qemu:dirty-bitmap:changes"),
        "images[0].bitmap",
        "qemu:dirty",
        "bare name",
    ),
    Case("bitmap into raw", increment(format="raw"), "images[0].bitmap", "changes", "use format qcow2"),
    Case("bitmap without an image below", image(bitmap="changes"), "images[0].bitmap", "changes", "backing_file"),
    Case(
        "image below without bitmap",
        image(backing_file="tiny.qcow2"),
        "images[0].backing_file",
        "tiny",
        "give the bitmap",
    ),
    Case(
        "image below missing",
        increment(backing_file="../no.qcow2"),
        "images[0].backing_file",
        "../no.qcow2",
        "give a path",
    ),
    Case(
        "image below is no image",
        increment(backing_file="{work}/file"),
        "images[0].backing_file",
        "{work}/file",
        "true",
    ),
    Case(
        "image below is the dest",
        increment(backing_file="new.qcow2"),
        "images[0].backing_file",
        "new.qcow2",
        "name the",
    ),
    Case(
        "image below like a protocol",
        increment(backing_file="nbd:a"),
        "images[0].backing_file",
        "nbd:a",
        "begin it with",
    ),
    Case("dest relative", image(dest="new.qcow2"), "images[0].dest", "new.qcow2", "give an absolute path"),
    Case("dest nowhere", image(dest="{work}/nowhere/a"), "images[0].dest", "{work}/nowhere/a", "create the directory"),
    Case("dest a directory", image(dest="{work}/dest"), "images[0].dest", "{work}/dest", "name the file in it"),
    Case("dest read-only", image(dest="{work}/readonly/a"), "images[0].dest", "{work}/readonly/a", "may write there"),
    Case("dest exists", image(dest="{work}/dest/taken.qcow2"), "images[0].dest", "taken.qcow2", "force"),
    Case(
        "dest exists, of another size", image(dest="{work}/tiny.qcow2"), "images[0].dest", "{work}/tiny.qcow2", "force"
    ),
    Case("dest is a device", image(dest="/dev/null"), "images[0].dest", "/dev/null", "choose another name"),
    Case(
        "dest is a socket", image(dest="{work}/dead.sock"), "images[0].dest", "{work}/dead.sock", "choose another name"
    ),
    Case(
        "dest has the name of a record", image(dest="{work}/dest/a.json"), "images[0].dest", "a.json", "another suffix"
    ),
    Case(
        "dest twice",
        {"images": [{"uri": "{uri}", "dest": "{work}/dest/a"}, {"uri": "{uri}", "dest": "{work}/dest/a"}]},
        "images[1].dest",
        "{work}/dest/a",
        "a name of its own",
    ),
    Case("connections", {**image(), "connections": 0}, "connections", "0", "use 1 to"),
    Case("timeout", {**image(), "timeout": 0}, "timeout", "0", "at least 1 second"),
    Case("rate_limit", {**image(), "rate_limit": -1}, "rate_limit", "-1", "use bytes per second"),
    Case("status_file relative", {**image(), "status_file": "a"}, "status_file", "'a'", "give an absolute path"),
    Case("compressed raw", {**image(format="raw"), "compression": "zlib"}, "compression", "zlib", "use none"),
    Case("owner", {**image(), "owner": "nobody-knows"}, "owner", "nobody-knows", "create the user"),
    Case("mode", {**image(), "mode": "rw"}, "mode", "rw", "write it as a string"),
]

IDENTITY = {"name": "vda", "source": "/a", "serial": "", "virtual_size": 1, "format": "qcow2"}


def absent(**options: t.Any) -> dict[str, t.Any]:
    return {"state": "absent", "disks": [], "domain_name": None, **options}


RESTORE_POINT = [
    Case("repository missing", {"repository": "{work}/nowhere"}, "repository", "{work}/nowhere", "backup_repository"),
    Case("repository is none", {"repository": "{work}/notrepo"}, "repository", "{work}/notrepo", "backup_repository"),
    Case("repository relative", {"repository": "repo"}, "repository", "repo", "absolute path"),
    Case("domain_uuid", {"domain_uuid": "web"}, "domain_uuid", "web", "virsh domuuid"),
    Case("no disk", {"disks": []}, "disks", "[]", "list at least one disk"),
    Case("disk with a path for a name", {"disks": [{**IDENTITY, "name": "../a"}]}, "disks", "../a", "; "),
    Case("disk twice", {"disks": [IDENTITY, IDENTITY]}, "disks", "vda", "name each disk once"),
    Case("disk without a size", {"disks": [{**IDENTITY, "virtual_size": "big"}]}, "disks", "big", "pass on"),
    Case("lease", {"lease": 0}, "lease", "0", "3600 suits most"),
    Case("max_age", {"max_age": -1}, "max_age", "-1", "give seconds"),
    Case("days", {"full_every_days": -1}, "full_every_days", "-1", "give 0 for never"),
    Case("id without a token", {"id": "20261123T021500Z-7f3a"}, "id", "20261123T021500Z-7f3a", "give both"),
    Case("id", {"id": "../../etc", "token": "a"}, "id", "../../etc", "; "),
    Case("id unknown", {"id": "20261123T021500Z-7f3a", "token": "a"}, "id", "20261123T021500Z-7f3a", "begin a run"),
    Case(
        "present of nothing",
        {"state": "present", "id": "20261123T021500Z-7f3a", "token": "a", "disks": [{"name": "vda", "level": "full"}]},
        "id",
        "20261123T021500Z-7f3a",
        "; ",
    ),
    Case("absent of an id that is none", absent(id="../../etc"), "id", "../../etc", "; "),
]

RESTORE_POINT_INFO = [
    Case("repository missing", {"repository": "{work}/nowhere"}, "repository", "{work}/nowhere", "backup_repository"),
    Case("repository is none", {"repository": "{work}/notrepo"}, "repository", "{work}/notrepo", "backup_repository"),
    Case("repository is a file", {"repository": "{work}/file"}, "repository", "{work}/file", "; "),
    Case("domain_uuid", {"domain_uuid": "web"}, "domain_uuid", "web", "virsh domuuid"),
]

REPOSITORY = [
    Case("path relative", {"path": "repo"}, "path", "repo", "absolute path"),
    Case("path with files of others", {"path": "{work}/notrepo"}, "path", "{work}/notrepo", "; "),
    Case("path is a file", {"path": "{work}/file"}, "path", "{work}/file", "; "),
    Case("path is no mount", {"path": "{work}/empty", "require_mount": True}, "path", "{work}/empty", "; "),
    Case("path read-only", {"path": "{work}/readonly/repo"}, "path", "{work}/readonly", "; "),
    Case("mode", {"path": "{work}/empty", "mode": "rw"}, "mode", "rw", "; "),
    Case("owner", {"path": "{work}/empty", "owner": "nobody-knows"}, "owner", "nobody-knows", "; "),
]

STAGED = {
    "repository": "{work}/repo",
    "domain_uuid": "{uuid}",
    "domain_name": "web",
    "state": "staged",
    "disks": [IDENTITY],
}

# Every module with its usual options, which are right by themselves, and what is wrong in turn.
TABLES: dict[str, tuple[dict[str, t.Any], list[Case]]] = {
    "virt_backup": ({"domain": "{domain}", "scratch_dir": "{work}/scratch"}, BACKUP),
    "virt_checkpoint": ({"domain": "{domain}", "name": "new"}, CHECKPOINT),
    "virt_checkpoint_info": ({"domain": "{domain}"}, CHECKPOINT_INFO),
    "virt_backup_info": ({}, BACKUP_INFO),
    "nbd_extract": ({}, EXTRACT),
    "restore_point": (STAGED, RESTORE_POINT),
    "restore_point_info": ({"repository": "{work}/repo"}, RESTORE_POINT_INFO),
    "backup_repository": ({}, REPOSITORY),
}
ROWS = [
    pytest.param(name, usual, case, id=f"{name}: {case.wrong}")
    for name, (usual, cases) in TABLES.items()
    for case in cases
]


@pytest.mark.parametrize(("module", "usual", "case"), ROWS)
def test_refused(
    module: str, usual: dict[str, t.Any], case: Case, names: dict[str, str], connection: libvirt.virConnect
) -> None:
    options = filled({**usual, **case.options}, names)
    sentence = refused(module, options, connection)
    for part in (case.parameter, case.value, case.remedy):
        assert filled(part, names) in sentence


# Every text that a module takes, as module and the way to it; a newline fits into none of them.
TEXTS = [
    ("virt_backup", {"uri": "*"}, "uri"),
    ("virt_backup", {"domain": "*"}, "domain"),
    ("virt_backup", {"incremental": "*"}, "incremental"),
    ("virt_backup", {"scratch_dir": "/*"}, "scratch_dir"),
    ("virt_backup", push(target_dir="/*"), "target_dir"),
    ("virt_backup", disk("*"), "disks[0].name"),
    ("virt_backup", disk(incremental="*"), "disks[0].incremental"),
    ("virt_backup", disk(exportname="*"), "disks[0].exportname"),
    ("virt_backup", disk(exportbitmap="*"), "disks[0].exportbitmap"),
    ("virt_backup", disk(scratch="/*"), "disks[0].scratch"),
    ("virt_backup", push(**disk(target="/*")), "disks[0].target"),
    ("virt_backup", push(**disk(target="/a", backing_file="*")), "disks[0].backing_file"),
    ("virt_backup", unix(socket="/*"), "server.socket"),
    ("virt_backup", tcp(name="*", port=1), "server.name"),
    ("virt_backup", {"checkpoint": {"name": "*"}}, "checkpoint.name"),
    ("virt_backup", {"checkpoint": {"name": "new", "description": "*"}}, "checkpoint.description"),
    ("virt_backup", {"checkpoint": {"name": "new", "disks": [{"name": "*"}]}}, "checkpoint.disks[0].name"),
    ("virt_backup", {"state": "stopped", "domain": "*"}, "domain"),
    ("virt_checkpoint", {"uri": "*"}, "uri"),
    ("virt_checkpoint", {"domain": "*"}, "domain"),
    ("virt_checkpoint", {"name": "*"}, "name"),
    ("virt_checkpoint", {"description": "*"}, "description"),
    ("virt_checkpoint", disk("*"), "disks[0].name"),
    ("virt_checkpoint_info", {"uri": "*"}, "uri"),
    ("virt_checkpoint_info", {"domain": "*"}, "domain"),
    ("virt_checkpoint_info", {"name": "*"}, "name"),
    ("virt_backup_info", {"uri": "*"}, "uri"),
    ("virt_backup_info", {"domain": "*"}, "domain"),
    ("nbd_extract", image(uri="nbd+unix:///d?socket=/*"), "images[0].uri"),
    ("nbd_extract", image(dest="/*"), "images[0].dest"),
    ("nbd_extract", increment(bitmap="*"), "images[0].bitmap"),
    ("nbd_extract", increment(backing_file="*"), "images[0].backing_file"),
    ("nbd_extract", image(source_id="*"), "images[0].source_id"),
    ("nbd_extract", {**image(), "status_file": "/*"}, "status_file"),
    ("nbd_extract", {**image(), "owner": "*"}, "owner"),
    ("nbd_extract", {**image(), "group": "*"}, "group"),
    ("restore_point", {"repository": "/*"}, "repository"),
    ("restore_point", {"domain_uuid": "*"}, "domain_uuid"),
    ("restore_point", {"domain_name": "*"}, "domain_name"),
    ("restore_point", {"run": "*"}, "run"),
    ("restore_point", {"socket": "/*"}, "socket"),
    ("restore_point", {"status_file": "/*"}, "status_file"),
    ("restore_point", {"id": "*", "token": "a"}, "id"),
    ("restore_point", {"disks": [{**IDENTITY, "name": "*"}]}, "disks"),
    ("restore_point", {"disks": [{**IDENTITY, "source": "*"}]}, "disks.source"),
    ("restore_point_info", {"repository": "/*"}, "repository"),
    ("restore_point_info", {"domain_uuid": "*"}, "domain_uuid"),
    ("restore_point_info", {"domain_name": "*"}, "domain_name"),
    ("backup_repository", {"path": "/*"}, "path"),
    ("backup_repository", {"path": "{work}/empty", "owner": "*"}, "owner"),
]


def with_text(thing: t.Any, text: str) -> t.Any:
    """Return options with the star in them replaced."""
    if isinstance(thing, dict):
        return {key: with_text(value, text) for key, value in thing.items()}
    if isinstance(thing, list):
        return [with_text(value, text) for value in thing]
    return thing.replace("*", text) if isinstance(thing, str) else thing


# A line separator of Unicode is one to XML's readers too, so the modules that write XML refuse it as well.
LINES = [(*row, text) for row in TEXTS for text in ("a\nb", "a\u2028b") if text == "a\nb" or row[0].startswith("virt_")]


@pytest.mark.parametrize(
    ("module", "options", "parameter", "text"), LINES, ids=[f"{row[0]}: {row[2]}: {row[3]!a}" for row in LINES]
)
def test_no_text_takes_control_characters(
    module: str,
    options: dict[str, t.Any],
    parameter: str,
    text: str,
    names: dict[str, str],
    connection: libvirt.virConnect,
) -> None:
    usual = TABLES[module][0]
    sentence = refused(module, filled(with_text({**usual, **options}, text), names), connection)
    assert sentence.startswith(parameter)
    assert repr(text)[1:-1] in sentence


METACHARACTERS = "<a> & \"b\" 'c' ü 日本 %s $x ;"

# Where any printable text has its place, XML's characters are just characters.
PLAIN = [
    ("virt_backup", disk(exportname="*")),
    ("virt_backup", {**disk(exportbitmap="*"), "incremental": "ck1"}),
    ("virt_backup", disk(scratch="{work}/scratch/*.qcow2")),
    ("virt_backup", unix(socket="/run/virt-backup/*.sock")),
    ("virt_backup", push(**disk(target="{work}/scratch/*.qcow2"))),
    ("virt_backup", {"checkpoint": {"name": "new", "description": "*"}}),
    ("virt_checkpoint", {"description": "*"}),
    ("nbd_extract", image(dest="{work}/dest/*.qcow2", source_id="*")),
    ("restore_point", {"domain_name": "*", "run": "*"}),
]


@pytest.mark.parametrize(("module", "options"), PLAIN, ids=[f"{row[0]}: {'/'.join(row[1])}" for row in PLAIN])
def test_metacharacters_are_taken_for_what_they_are(
    module: str, options: dict[str, t.Any], names: dict[str, str], connection: libvirt.virConnect
) -> None:
    before = look(connection)
    usual = TABLES[module][0]
    result = kit.attempt(module, check=True, **filled(with_text({**usual, **options}, METACHARACTERS), names))
    assert not result["failed"], result["msg"]
    assert result["changed"]
    assert look(connection) == before


def test_metacharacters_work_in_a_real_job(domains: Domains, workdir: pathlib.Path) -> None:
    """What libvirt hands back is read as what was sent, so the second call finds the job of the first."""
    domain = domains(Disk("vda"))
    domain.make_checkpoint("ck1", "vda")
    (workdir / METACHARACTERS).mkdir()
    options = {
        **disk(
            exportname=f"{METACHARACTERS}/e?#", exportbitmap=METACHARACTERS, scratch=str(workdir / METACHARACTERS / "s")
        ),
        **unix(socket=str(workdir / METACHARACTERS / "s.sock")),
        "incremental": "ck1",
        "checkpoint": {"name": "new", "description": METACHARACTERS},
    }
    (workdir / METACHARACTERS).chmod(0o777)
    job = kit.backup(domain, **options)
    (entry,) = job["disks"]
    assert (entry["level"], entry["exportname"]) == ("incremental", f"{METACHARACTERS}/e?#")
    call("nbdinfo", f"--map=qemu:dirty-bitmap:{entry['exportbitmap']}", entry["uri"])
    again = kit.backup(domain, **options)
    assert not again["changed"]
    assert again["disks"] == job["disks"]
    assert kit.end(domain, server=options["server"])["changed"]
    checkpoint = {"domain": domain.name, "name": "new", "description": METACHARACTERS}
    assert not kit.run("virt_checkpoint", **checkpoint)["changed"]
    (found,) = kit.run("virt_checkpoint_info", domain=domain.name, name="new")["checkpoints"]
    assert found["description"] == METACHARACTERS
    kit.run("virt_checkpoint", domain=domain.name, name="new", state="absent", metadata_only=True)
    assert kit.run("virt_checkpoint", domain=domain.name, name="new", redefine_xml=found["xml"])["changed"]
    assert kit.run("virt_checkpoint", domain=domain.name, name="new", state="absent")["changed"]


# What only QEMU can know: check mode foresees a start, the start fails in words, and takes back what it had done.
LATE = [
    ("TLS without certificates", unix(tls=True), "Unable to access credentials", "backup_tls_x509_cert_dir"),
    (
        "a bitmap of that name that libvirt has forgotten",
        {"checkpoint": {"name": "forgotten"}},
        "Bitmap already exists: forgotten",
        "another name",
    ),
]


@pytest.mark.parametrize(("options", "word", "remedy"), [row[1:] for row in LATE], ids=[row[0] for row in LATE])
def test_a_start_that_qemu_refuses_leaves_nothing(
    options: dict[str, t.Any], word: str, remedy: str, domains: Domains, connection: libvirt.virConnect
) -> None:
    domain = domains(Disk("vda"))
    domain.make_checkpoint("forgotten", "vda")
    virsh("checkpoint-delete", domain.name, "forgotten", "--metadata")
    before = look(connection)
    usual = {"domain": domain.name, "checkpoint": {"name": "new"}}
    assert kit.run("virt_backup", check=True, **{**usual, **options})["changed"]
    result = kit.attempt("virt_backup", **{**usual, **options})
    assert result["failed"]
    assert not result.get("changed")
    for part in (word, remedy):
        assert part in result["msg"]
    assert result["msg"].isprintable()
    assert look(connection).domains == before.domains
    assert look(connection).files.keys() == before.files.keys()
    kit.run("virt_backup", **usual)
    kit.end(domain)


def test_a_forgotten_bitmap_in_the_way_of_a_checkpoint(domains: Domains, connection: libvirt.virConnect) -> None:
    domain = domains(Disk("vda"))
    domain.make_checkpoint("forgotten", "vda")
    virsh("checkpoint-delete", domain.name, "forgotten", "--metadata")
    before = look(connection).domains
    result = kit.attempt("virt_checkpoint", domain=domain.name, name="forgotten")
    assert result["failed"]
    assert "another name" in result["msg"]
    assert look(connection).domains == before


def test_a_socket_that_another_job_serves_is_not_taken_over(domains: Domains, workdir: pathlib.Path) -> None:
    workdir.chmod(0o777)
    server = unix(socket=str(workdir / "shared.sock"))
    one, two = domains(Disk("vda")), domains(Disk("vda"))
    job = kit.backup(one, **server)
    assert "is in use by another server" in kit.refusal("virt_backup", domain=two.name, **server)
    call("nbdinfo", job["disks"][0]["uri"])
    kit.end(one, **server)
    assert kit.backup(two, **server)["changed"]
    kit.end(two, **server)


def test_the_usual_options_are_right(names: dict[str, str], connection: libvirt.virConnect) -> None:
    """Otherwise a refusal might have another cause than the row says."""
    before = look(connection)
    right = {"nbd_extract": image(), "backup_repository": {"path": "{work}/repo"}, "restore_point_info": {}}
    for module, (usual, _cases) in TABLES.items():
        result = kit.attempt(module, check=True, **filled({**usual, **right.get(module, {})}, names))
        assert not result["failed"], f"{module}: {result.get('msg')}"
    assert kit.attempt("nbd_extract", check=True, **filled(increment(backing_file="{work}/served.qcow2"), names))[
        "changed"
    ]
    assert look(connection) == before


def test_the_look_sees_changes(names: dict[str, str], connection: libvirt.virConnect) -> None:
    """Otherwise nothing above would prove anything."""
    before = look(connection)
    path = pathlib.Path(names["work"], "scratch/taken.qcow2")
    times = path.stat()
    path.chmod(0o600)
    assert look(connection) != before
    path.chmod(stat.S_IMODE(times.st_mode))
    assert look(connection) == before
    virsh("checkpoint-create-as", names["domain"], "ck9", "--diskspec", "vda")
    assert look(connection) != before
    virsh("checkpoint-delete", names["domain"], "ck9")
    assert look(connection).domains == before.domains


def test_there_are_enough_rows() -> None:
    assert len(ROWS) > 150
    assert {module for module, _options, _parameter in TEXTS} == set(TABLES)
    assert os.environ["VIRT_BACKUP_LAB"]
