# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup XML, both ways, and the URIs of exports."""

from __future__ import annotations

import dataclasses
import urllib.parse

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob, JobDisk, Server
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._xml.backup import build_backup, export_uri, parse_backup

UNIX = Server(socket="/run/virt-backup/a.sock")
TCP = Server("tcp", name="127.0.0.1", port=10809)
NASTY = "<a> & \"b\" 'c' ü 日本"

PULL = BackupJob(
    "pull",
    UNIX,
    (
        JobDisk("vda", level=Level.FULL, exportname="vda", path="/scratch/vda"),
        JobDisk(
            "vdb",
            level=Level.INCREMENTAL,
            incremental="ck1",
            exportname="vdb",
            exportbitmap="backup-vdb",
            storage="block",
            path="/dev/loop0",
        ),
        JobDisk("sda", participates=False),
    ),
)
PUSH = BackupJob(
    "push",
    None,
    (
        JobDisk("vda", level=Level.INCREMENTAL, incremental="ck1", path="/target/vda"),
        JobDisk("vdb", storage="block", path="/dev/loop0", driver="raw"),
        JobDisk("vdc", participates=False),
    ),
)


def test_exact_form_of_pull() -> None:
    """The one form that libvirt 7.0, 9.0 and 11.3 all take: whoever changes it has to try it on all of them."""
    assert build_backup(PULL) == (
        '<domainbackup mode="pull">\n'
        '  <server transport="unix" socket="/run/virt-backup/a.sock"/>\n'
        "  <disks>\n"
        '    <disk name="vda" backup="yes" type="file" backupmode="full" exportname="vda">\n'
        '      <driver type="qcow2"/>\n'
        '      <scratch file="/scratch/vda"/>\n'
        "    </disk>\n"
        '    <disk name="vdb" backup="yes" type="block" backupmode="incremental" incremental="ck1" exportname="vdb"'
        ' exportbitmap="backup-vdb">\n'
        '      <driver type="qcow2"/>\n'
        '      <scratch dev="/dev/loop0"/>\n'
        "    </disk>\n"
        '    <disk name="sda" backup="no"/>\n'
        "  </disks>\n"
        "</domainbackup>\n"
    )


def test_exact_form_of_push() -> None:
    assert build_backup(PUSH) == (
        '<domainbackup mode="push">\n'
        "  <disks>\n"
        '    <disk name="vda" backup="yes" type="file" backupmode="incremental" incremental="ck1">\n'
        '      <driver type="qcow2"/>\n'
        '      <target file="/target/vda"/>\n'
        "    </disk>\n"
        '    <disk name="vdb" backup="yes" type="block" backupmode="full">\n'
        '      <driver type="raw"/>\n'
        '      <target dev="/dev/loop0"/>\n'
        "    </disk>\n"
        '    <disk name="vdc" backup="no"/>\n'
        "  </disks>\n"
        "</domainbackup>\n"
    )


@pytest.mark.parametrize(
    ("server", "element"),
    [
        (UNIX, '<server transport="unix" socket="/run/virt-backup/a.sock"/>'),
        (
            dataclasses.replace(UNIX, tls=True),
            '<server transport="unix" socket="/run/virt-backup/a.sock" tls="yes"/>',
        ),
        (TCP, '<server transport="tcp" name="127.0.0.1" port="10809"/>'),
        (dataclasses.replace(TCP, tls=True), '<server transport="tcp" name="127.0.0.1" port="10809" tls="yes"/>'),
        (Server(socket="/run/<&\"'>"), '<server transport="unix" socket="/run/&lt;&amp;&quot;\'&gt;"/>'),
    ],
)
def test_server(server: Server, element: str) -> None:
    job = dataclasses.replace(PULL, server=server)
    assert element in build_backup(job)
    assert parse_backup(build_backup(job)) == job


@pytest.mark.parametrize("job", [PULL, PUSH], ids=["pull", "push"])
def test_what_was_built_reads_back(job: BackupJob) -> None:
    assert parse_backup(build_backup(job)) == job


@pytest.mark.parametrize("field", ["incremental", "exportname", "exportbitmap", "path"])
def test_metacharacters_read_back(field: str) -> None:
    disk = dataclasses.replace(PULL.disks[1], **{field: f"/{NASTY}"})
    job = dataclasses.replace(PULL, disks=(disk,))
    assert parse_backup(build_backup(job)) == job


def test_a_full_disk_gets_no_bitmap_and_no_base() -> None:
    disk = dataclasses.replace(PULL.disks[1], level=Level.FULL)
    xml = build_backup(dataclasses.replace(PULL, disks=(disk,)))
    assert "incremental" not in xml
    assert "exportbitmap" not in xml


# The table of how libvirt resolves the three settings (libvirt: backup_conf.c, and the schema before it), row by row.
FULL, T, C = (Level.FULL, ""), (Level.INCREMENTAL, "T"), (Level.INCREMENTAL, "C")
RESOLUTION = [
    # top-level, backupmode of the disk, incremental of the disk, result
    ("", "", "", FULL),
    ("T", "", "", T),
    ("", "", "C", C),
    ("T", "", "C", C),
    ("T", "incremental", "", T),
    ("", "incremental", "C", C),
    ("T", "incremental", "C", C),
    ("", "full", "", FULL),
    ("T", "full", "", FULL),
]


@pytest.mark.parametrize(("top", "mode", "own", "wanted"), RESOLUTION)
def test_mode_resolution_is_libvirts(top: str, mode: str, own: str, wanted: tuple[Level, str]) -> None:
    attributes = (f" backupmode='{mode}'" if mode else "") + (f" incremental='{own}'" if own else "")
    incremental = f"<incremental>{top}</incremental>" if top else ""
    (disk,) = parse_backup(
        f"<domainbackup>{incremental}<disks><disk name='vda'{attributes}/></disks></domainbackup>"
    ).disks
    assert (disk.level, disk.incremental) == wanted


@pytest.mark.parametrize("attributes", ["", " backupmode='full'", " backupmode='incremental'", " incremental='C'"])
def test_an_excluded_disk_is_out_whatever_else_it_says(attributes: str) -> None:
    xml = f"<domainbackup><incremental>T</incremental><disks><disk name='vda' backup='no'{attributes}/></disks></domainbackup>"
    assert parse_backup(xml).disks == (JobDisk("vda", participates=False),)


@pytest.mark.parametrize("top", ["<incremental/>", "<incremental> </incremental>", ""])
def test_an_empty_base_is_none(top: str) -> None:
    (disk,) = parse_backup(f"<domainbackup>{top}<disks><disk name='vda'/></disks></domainbackup>").disks
    assert disk.level is Level.FULL


def test_what_libvirt_prints_of_an_active_job() -> None:
    xml = """\
<domainbackup mode='pull'>
  <incremental>T</incremental>
  <server transport='tcp' tls='yes' name='::1' port='10809'/>
  <disks>
    <disk name='vda' backup='yes' type='file' backupmode='incremental' incremental='T' exportname='vda'
          exportbitmap='backup-vda' index='5'>
      <driver type='qcow2'/>
      <scratch file='/scratch/vda'><seclabel model='dac' relabel='no'/></scratch>
    </disk>
    <disk name='sda' backup='no'/>
  </disks>
</domainbackup>"""
    disk = JobDisk("vda", True, Level.INCREMENTAL, "T", "vda", "backup-vda", "file", "/scratch/vda")
    server = Server("tcp", name="::1", port=10809, tls=True)
    job = parse_backup(xml)
    assert job == BackupJob("pull", server, (disk, JobDisk("sda", participates=False)))
    assert job.participating == (disk,)


def test_a_job_of_somebody_else_in_its_tersest_form() -> None:
    job = parse_backup("<domainbackup/>")
    assert job == BackupJob("push", None, ())


URIS = [
    (UNIX, "vda", "nbd+unix:///vda?socket=/run/virt-backup/a.sock"),
    (dataclasses.replace(UNIX, tls=True), "vda", "nbds+unix:///vda?socket=/run/virt-backup/a.sock"),
    (TCP, "vda", "nbd://127.0.0.1:10809/vda"),
    (dataclasses.replace(TCP, tls=True), "vda", "nbds://127.0.0.1:10809/vda"),
    (dataclasses.replace(TCP, name="::1"), "vda", "nbd://[::1]:10809/vda"),
    (UNIX, "a b/c?d#e%f&g", "nbd+unix:///a%20b%2Fc%3Fd%23e%25f%26g?socket=/run/virt-backup/a.sock"),
    (UNIX, "ü", "nbd+unix:///%C3%BC?socket=/run/virt-backup/a.sock"),
    (
        Server(socket="/run/a b&c=d?e#f%g+h.sock"),
        "vda",
        "nbd+unix:///vda?socket=/run/a%20b%26c%3Dd%3Fe%23f%25g%2Bh.sock",
    ),
]


@pytest.mark.parametrize(("server", "export", "uri"), URIS)
def test_export_uri(server: Server, export: str, uri: str) -> None:
    assert export_uri(server, export) == uri


@pytest.mark.parametrize("text", ["plain", "a b", NASTY, "a/b", "100%", "a?b=c&d", "#", "+", ";", "[x]"])
def test_export_uri_decodes_to_what_went_in(text: str) -> None:
    parts = urllib.parse.urlsplit(export_uri(Server(socket=f"/run/{text}"), text))
    assert urllib.parse.unquote(parts.path[1:]) == text
    assert urllib.parse.unquote(parts.query.removeprefix("socket=")) == f"/run/{text}"
    assert parts.fragment == ""
