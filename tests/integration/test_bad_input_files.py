# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong input to the modules of images and repositories: one sentence that helps, and every file as it was before."""

from __future__ import annotations

import pathlib
import stat
import typing as t

import libvirt
import pytest
from lab.tools import virsh

from ansible_collections.virt.backup.tests.integration import bad_input
from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.bad_input import (
    IDENTITY,
    LONG_SOCKET,
    USUAL,
    Case,
    filled,
    image,
    increment,
    look,
)

names = bad_input.names
connection = bad_input.connection

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
    Case(
        "direct into an export",
        {**image(dest="nbd://127.0.0.1:1/d", format="raw"), "direct": True},
        "direct",
        "True",
        "use false, or a file",
    ),
    Case("owner", {**image(), "owner": "nobody-knows"}, "owner", "nobody-knows", "create the user"),
    Case("mode", {**image(), "mode": "rw"}, "mode", "rw", "write it as a string"),
]


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
    Case("max_age", {"max_age": -1}, "max_age", "'-1'", "as in 30d"),
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

ROWS = bad_input.rows(
    nbd_extract=EXTRACT,
    restore_point=RESTORE_POINT,
    restore_point_info=RESTORE_POINT_INFO,
    backup_repository=REPOSITORY,
)


@pytest.mark.parametrize(("module", "case"), ROWS)
def test_refused(module: str, case: Case, names: dict[str, str], connection: libvirt.virConnect) -> None:
    bad_input.check_refusal(module, case, names, connection)


def test_there_are_enough_rows() -> None:
    assert len(ROWS) > 60


def test_the_usual_options_are_right(names: dict[str, str], connection: libvirt.virConnect) -> None:
    """Otherwise a refusal might have another cause than the row says."""
    before = look(connection)
    right = {"nbd_extract": image(), "backup_repository": {"path": "{work}/repo"}, "restore_point_info": {}}
    # There is nothing yet to verify here, and that is all that its usual options can be told.
    nothing = {**USUAL["restore_point_verify"], "domain_uuid": "{uuid}"}
    refused = kit.refusal("restore_point_verify", check=True, **filled(nothing, names))
    assert refused.endswith("has no restore point in this repository; check both, or back it up first.")
    for module in USUAL.keys() - {"restore_point_verify"}:
        usual = USUAL[module]
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
