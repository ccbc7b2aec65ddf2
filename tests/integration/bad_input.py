# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of wrong input share: a world full of obstacles, a look at all that a refused call might have changed.

Each row of a table is: what is wrong, the module's options beside the usual ones, the parameter that the sentence names,
the value that it shows, and words of the remedy. ``{work}`` and the like stand for what :class:`World` made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
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

IDENTITY = {"name": "vda", "source": "/a", "serial": "", "virtual_size": 1, "format": "qcow2"}

STAGED = {
    "repository": "{work}/repo",
    "domain_uuid": "{uuid}",
    "domain_name": "web",
    "state": "staged",
    "disks": [IDENTITY],
}

# Every module with its usual options, which are right by themselves.
USUAL: dict[str, dict[str, t.Any]] = {
    "virt_backup": {"domain": "{domain}", "scratch_dir": "{work}/scratch"},
    "virt_checkpoint": {"domain": "{domain}", "name": "new"},
    "virt_checkpoint_info": {"domain": "{domain}"},
    "virt_backup_info": {},
    "nbd_extract": {},
    "restore_point": STAGED,
    "restore_point_info": {"repository": "{work}/repo"},
    "restore_point_verify": {"repository": "{work}/repo"},
    "backup_repository": {},
}


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


def unmeasured(sentence: str) -> str:
    """Return a sentence without what a file system has free, which other tests change between two looks."""
    return re.sub(r"[\d.]+ [KMGT]?i?B free", "free", sentence)


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
    assert unmeasured(sentences[1]) == unmeasured(sentence)
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


def image(**options: t.Any) -> dict[str, t.Any]:
    return {"images": [{"uri": "{uri}", "dest": "{work}/dest/new.qcow2", **options}]}


def increment(**options: t.Any) -> dict[str, t.Any]:
    return image(**{"bitmap": "changes", "backing_file": "{work}/tiny.qcow2", **options})


def rows(**tables: list[Case]) -> list[t.Any]:
    """Return one parameter set per row of the modules' tables."""
    return [
        pytest.param(module, case, id=f"{module}: {case.wrong}") for module, cases in tables.items() for case in cases
    ]


def check_refusal(module: str, case: Case, names: dict[str, str], connection: libvirt.virConnect) -> None:
    """Insist on a sentence with the parameter, the value and the remedy."""
    sentence = refused(module, filled({**USUAL[module], **case.options}, names), connection)
    for part in (case.parameter, case.value, case.remedy):
        assert filled(part, names) in sentence
