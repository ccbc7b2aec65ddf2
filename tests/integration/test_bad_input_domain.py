# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong input to the other modules of a domain, and what only QEMU can refuse: one sentence, and nothing done."""

from __future__ import annotations

import pathlib
import typing as t

import libvirt
import pytest
from lab.disks import Disk
from lab.domains import Domains
from lab.tools import call, virsh

from ansible_collections.virt.backup.tests.integration import bad_input
from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.bad_input import (
    Case,
    disk,
    look,
    unix,
)

names = bad_input.names
connection = bad_input.connection

STRANGER = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"
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
    Case("status_file relative", {"status_file": "a"}, "status_file", "'a'", "give the full path"),
    Case("status_file of nothing", {"status_file": "/etc/hosts"}, "status_file", "/etc/hosts", "a running nbd_extract"),
]

ROWS = bad_input.rows(
    virt_checkpoint=CHECKPOINT,
    virt_checkpoint_info=CHECKPOINT_INFO,
    virt_backup_info=BACKUP_INFO,
)


@pytest.mark.parametrize(("module", "case"), ROWS)
def test_refused(module: str, case: Case, names: dict[str, str], connection: libvirt.virConnect) -> None:
    bad_input.check_refusal(module, case, names, connection)


def test_there_are_enough_rows() -> None:
    assert len(ROWS) > 36


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
