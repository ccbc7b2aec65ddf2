# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is generated, against the RELAX NG schemas of the libvirt that is installed here."""

from __future__ import annotations

import itertools
import pathlib
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob, JobDisk, Server
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._xml.backup import build_backup, parse_backup
from ansible_collections.virt.backup.plugins.module_utils._xml.checkpoint import (
    build_checkpoint,
    for_redefinition,
    without_bitmaps,
)
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import parse, schema_complaint

SCHEMAS = pathlib.Path("/usr/share/libvirt/schemas")

SERVERS = {
    "unix": Server(socket="/run/virt-backup/a.sock"),
    "unix, tls": Server(socket="/run/virt-backup/a.sock", tls=True),
    "unix, nasty": Server(socket="/run/<a> & \"b\" 'c' ü"),
    "tcp": Server("tcp", name="127.0.0.1", port=10809),
    "tcp, tls": Server("tcp", name="hv-1.example.org", port=1, tls=True),
    "tcp6": Server("tcp", name="::1", port=65535),
}


def complaint(xml: str, schema: str = "domainbackup") -> str:
    return schema_complaint(xml, str(SCHEMAS / f"{schema}.rng"))


def kinds(mode: str) -> dict[str, JobDisk]:
    """Return every way in which a disk can stand in a job."""
    found = {"out": JobDisk("", participates=False)}
    for storage, level, driver in itertools.product(("file", "block"), Level, ("qcow2", "raw")):
        if mode == "pull" and driver == "raw":
            continue
        incremental = level is Level.INCREMENTAL
        found[f"{storage} {level.value} {driver}"] = JobDisk(
            "",
            level=level,
            incremental="ck-1.a_b" if incremental else "",
            exportname="<e> & ü" if mode == "pull" else "",
            exportbitmap="<b> & ü" if mode == "pull" and incremental else "",
            storage=storage,
            path="/dev/disk/<x> & ü",
            driver=driver,
        )
    return found


def jobs() -> t.Iterator[tuple[str, BackupJob]]:
    """Yield every combination of two disks with every server, and push."""
    for server_name, server in SERVERS.items():
        for one, two in itertools.product(kinds("pull").items(), repeat=2):
            yield f"pull, {server_name}: {one[0]}, {two[0]}", _job("pull", server, one[1], two[1])
    for one, two in itertools.product(kinds("push").items(), repeat=2):
        yield f"push: {one[0]}, {two[0]}", _job("push", None, one[1], two[1])


def _job(mode: str, server: Server | None, *disks: JobDisk) -> BackupJob:
    named = [JobDisk(**{**vars(disk), "name": name}) for name, disk in zip(("vda", "sdb"), disks)]
    return BackupJob(mode, server, tuple(named))


def test_every_combination_is_what_the_installed_libvirt_takes() -> None:
    complaints = {name: complaint(build_backup(job)) for name, job in jobs()}
    assert len(complaints) == 6 * 5**2 + 9**2
    assert {name: text for name, text in complaints.items() if text} == {}


def test_every_combination_is_in_the_form_that_all_versions_take() -> None:
    """7.0 and 9.0 want ``type`` beside ``backup='yes'``, 9.0 generates no names, all refuse more on an excluded disk."""
    for name, job in jobs():
        for node in parse(build_backup(job)).iterfind("disks/disk"):
            where = "scratch" if job.mode == "pull" else "target"
            if node.get("backup") == "no":
                assert (set(node.attrib), len(node)) == ({"name", "backup"}, 0), name
                continue
            wanted = {"name", "backup", "type", "backupmode"}
            if node.get("backupmode") == "incremental":
                wanted |= {"incremental"} | ({"exportbitmap"} if job.mode == "pull" else set())
            assert set(node.attrib) == wanted | ({"exportname"} if job.mode == "pull" else set()), name
            assert [child.tag for child in node] == ["driver", where], name
            assert set(node.find(where).attrib) == {{"file": "file", "block": "dev"}[node.get("type")]}, name


def test_every_combination_resolves_to_what_was_meant() -> None:
    for name, job in jobs():
        assert parse_backup(build_backup(job)) == job, name


# What the schema of every version refuses: the forms that the generator must never emit.
REFUSED = {
    "pull without a server": "<domainbackup mode='pull'/>",
    "push with a server": "<domainbackup mode='push'><server transport='unix' socket='/a'/></domainbackup>",
    "no disk in the list": "<domainbackup mode='push'><disks/></domainbackup>",
    "relative socket": "<domainbackup mode='pull'><server transport='unix' socket='a'/></domainbackup>",
    "a name with an underscore": "<domainbackup mode='pull'><server name='a_b' port='1'/></domainbackup>",
    "full with a base": "<domainbackup mode='push'><disks><disk name='vda' type='file' backupmode='full'"
    " incremental='c'/></disks></domainbackup>",
    "full with an empty base": "<domainbackup mode='push'><disks><disk name='vda' type='file' backupmode='full'"
    " incremental=''/></disks></domainbackup>",
    "full with a base, excluded": "<domainbackup mode='push'><disks><disk name='vda' backup='no' backupmode='full'"
    " incremental='c'/></disks></domainbackup>",
    "excluded with a type": "<domainbackup mode='push'><disks><disk name='vda' backup='no' type='file'/></disks>"
    "</domainbackup>",
    "a network target": "<domainbackup mode='push'><disks><disk name='vda' type='network'/></disks></domainbackup>",
    "an export in push": "<domainbackup mode='push'><disks><disk name='vda' type='file' exportname='a'/></disks>"
    "</domainbackup>",
    "in pull, yes without a type": "<domainbackup mode='pull'><server transport='unix' socket='/a'/><disks>"
    "<disk name='vda' backup='yes'><scratch file='/a'/></disk></disks></domainbackup>",
}


@pytest.mark.parametrize("xml", REFUSED.values(), ids=REFUSED.keys())
def test_the_schema_does_refuse(xml: str) -> None:
    """Otherwise the tests above would prove nothing."""
    assert complaint(xml)


CHECKPOINTS = {
    "built": build_checkpoint("a.b-c_1", {"vda": True, "vdb": False}, "<d> & ü"),
    "built without a description": build_checkpoint("1", {"vda": True}),
    "redefined": for_redefinition(
        "<domaincheckpoint><name>b</name><parent><name>a</name></parent><creationTime>1</creationTime>"
        "<disks><disk name='vda' checkpoint='bitmap' bitmap='b'/><disk name='vdb'/></disks></domaincheckpoint>",
        ["vda"],
        [],
    )[0],
    "without lost bitmaps": without_bitmaps(
        "<domaincheckpoint><name>b</name><creationTime>1</creationTime>"
        "<disks><disk name='vda' checkpoint='bitmap' bitmap='b' size='5'/><disk name='vdb'/></disks></domaincheckpoint>",
        ["vda"],
    ),
}


@pytest.mark.parametrize("xml", CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def test_checkpoints_are_what_the_installed_libvirt_takes(xml: str) -> None:
    assert complaint(xml, "domaincheckpoint") == ""


@pytest.mark.parametrize("name", ["a b", ".a", "ü", "a/b", "a:b", ""])
def test_the_schema_refuses_names_that_we_refuse(name: str) -> None:
    assert complaint(build_checkpoint(name, {"vda": True}), "domaincheckpoint")
