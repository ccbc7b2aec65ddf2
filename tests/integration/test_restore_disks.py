# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks out of restore points that were made on real libvirt: what comes back is what was there."""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import typing as t

import pytest
from integration import virt_kit as kit
from integration.ends_kit import loop_device
from integration.restore_kit import ODD, Vault, holds
from lab.disks import MIB, Disk
from lab.domains import IMAGES, Domains
from lab.tools import call, content_hash, file_hash

from ansible_collections.virt.backup.tests.integration.nbd_fixtures import create, qemu_nbd


@pytest.fixture(scope="module")
def vault(lab_host: str) -> t.Iterator[Vault]:
    domains, folder = Domains(), IMAGES / "restore-vault"
    folder.mkdir()
    try:
        made = Vault(domains(Disk("vda", size=8 * MIB), Disk("vdb", size=ODD)), folder)
        made.fill()
        yield made
    finally:
        domains.close()
        call("rm", "-rf", folder)


@pytest.fixture
def out(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def disk(name: str, dest: pathlib.Path | str, **more: t.Any) -> dict[str, t.Any]:
    return {"name": name, "dest": str(dest), **more}


def names(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("number", range(4))
def test_each_kind_of_restore_point(vault: Vault, out: pathlib.Path, number: int) -> None:
    """Check, run, check again, run again; every disk; the repository is left as it was, to the byte and the time."""
    point = vault.points[number]
    before = vault.look()
    options = {"id": point.id, "dest_dir": str(out)}
    results = [vault.restore(check=check, **options) for check in (True, False, True, False)]
    assert [result["changed"] for result in results] == [True, True, False, False]
    ran = results[1]
    assert ran["restore_point"]["id"] == point.id
    assert [entry["name"] for entry in ran["disks"]] == sorted(point.levels)
    for entry in ran["disks"]:
        holds(point, entry["name"], entry["dest"], "qcow2")
        assert (entry["content_verified"], entry["atomic"]) == (True, True)
        assert len(entry["chain"]) == (1 if entry["name"] == "vdc" else number + 1)
    for checked, entry in zip(results[0]["disks"], ran["disks"]):
        assert checked["bytes_copied"] >= entry["bytes_copied"] > 0
    assert vault.look() == before
    made, kept = ran["diff"], results[3]["diff"]
    assert set(made["before"].values()) == {None}
    assert {record["restore_point"] for record in made["after"].values()} == {point.id}
    assert kept["before"] == kept["after"] == made["after"]
    files = [name for entry in point.levels for name in (f"{entry}.qcow2", f".{entry}.qcow2.restored.json")]
    assert names(out) == set(files)
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}


def test_raw_large_clusters_past_the_cache_and_without_a_checksum(vault: Vault, out: pathlib.Path) -> None:
    point = vault.points[2]
    disks = [disk("vda", out / "a.raw", format="raw"), disk("vdb", out / "b", cluster_size=MIB)]
    status = out / "status.json"
    result = vault.restore(
        id=point.id, disks=disks, checksum="none", direct=True, status_file=str(status), connections=1
    )
    assert [entry["content_verified"] for entry in result["disks"]] == [False, False]
    holds(point, "vda", out / "a.raw", "raw")
    holds(point, "vdb", out / "b", "qcow2")
    assert (out / "a.raw").stat().st_size == 8 * MIB
    assert (out / "a.raw").stat().st_blocks * 512 < 6 * MIB
    told = json.loads(status.read_text())
    assert [(entry["dest"], entry["state"]) for entry in told["images"]] == [(entry["dest"], "done") for entry in disks]


def test_a_block_device_is_written_in_place_and_known_again(vault: Vault, out: pathlib.Path) -> None:
    """A device of just the size, full of old content; known by its record until somebody writes to it."""
    point, other = vault.points[3], vault.points[1]
    (out / "old").write_bytes(b"\xa5" * ODD)
    with loop_device(out / "old") as device:
        disks = [disk("vdb", device, format="raw", record=str(out / "b.json")), disk("vda", out / "a.qcow2")]
        assert "without a record; set overwrite to replace it" in vault.refused(id=point.id, disks=disks)
        assert (out / "old").read_bytes() == b"\xa5" * ODD
        checks = (True, False, True, False)
        results = [vault.restore(check=check, id=point.id, disks=disks, overwrite=True) for check in checks]
        assert [result["changed"] for result in results] == [True, True, False, False]
        assert [entry["atomic"] for entry in results[1]["disks"]] == [False, True]
        holds(point, "vdb", device, "raw")
        assert f"holds disk vdb of restore point {point.id}; set overwrite" in vault.refused(id=other.id, disks=disks)
        with open(device, "r+b", buffering=0) as file:
            file.write(b"x" * 512)
            os.fsync(file.fileno())
        for check in (True, False):
            assert "and was changed since; set overwrite" in vault.refused(check=check, id=point.id, disks=disks)
        again = vault.restore(id=point.id, disks=disks, overwrite=True)
        assert [entry["changed"] for entry in again["disks"]] == [True, False]
        holds(point, "vdb", device, "raw")


@pytest.mark.parametrize("check", [True, False])
def test_a_device_that_is_too_small_or_mounted(vault: Vault, out: pathlib.Path, check: bool) -> None:
    """Nothing is touched, neither that device nor what else was asked for."""
    point = vault.points[1]
    (out / "a.qcow2").write_text("old")
    for size, said in ((8 * MIB - 512, f"has room for {8 * MIB - 512} bytes"), (16 * MIB, "is in use; unmount it")):
        create(out / "device", size, image_format="raw")
        with loop_device(out / "device") as device:
            if size > 8 * MIB:
                call("/sbin/mke2fs", "-q", device)
                (out / "mounted").mkdir(exist_ok=True)
                call("mount", device, out / "mounted")
            try:
                before = file_hash(out / "device")
                disks = [disk("vdb", out / "a.qcow2"), disk("vda", device, format="raw")]
                sentence = vault.refused(check=check, id=point.id, disks=disks, overwrite=True)
                assert sentence.startswith("disks[1].dest: ")
                assert said in sentence
                assert "undefined" not in sentence
                assert file_hash(out / "device") == before
            finally:
                if size > 8 * MIB:
                    call("umount", out / "mounted")
    assert names(out) == {"a.qcow2", "device", "mounted"}
    assert (out / "a.qcow2").read_text() == "old"


def test_an_export_of_another_server(vault: Vault, out: pathlib.Path) -> None:
    point = vault.points[2]
    with qemu_nbd(create(out / "served", 8 * MIB, image_format="raw"), image_format="raw") as server:
        disks = [disk("vda", server.uri(), format="raw")]
        for _again in range(2):
            assert vault.restore(id=point.id, disks=disks, overwrite=True)["changed"]
    holds(point, "vda", out / "served", "raw")


def test_what_is_there_stays_without_overwrite_and_hands_on_its_rights_with_it(vault: Vault, out: pathlib.Path) -> None:
    """A file counts as the same until somebody writes to it; whose it is does not matter to that."""
    point, other = vault.points[1], vault.points[0]
    dest = out / "web.qcow2"
    dest.write_text("precious")
    dest.chmod(0o640)
    nobody = pwd.getpwnam("nobody")
    os.chown(dest, nobody.pw_uid, nobody.pw_gid)
    disks = [disk("vda", dest)]
    for check in (True, False):
        sentence = vault.refused(check=check, id=point.id, disks=disks)
        assert "has no record of a restore; set overwrite to replace it" in sentence
        assert dest.read_text() == "precious"
    assert vault.restore(id=point.id, disks=disks, overwrite=True)["changed"]
    holds(point, "vda", dest, "qcow2")
    found = dest.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (nobody.pw_uid, nobody.pw_gid, 0o640)
    os.chown(dest, 0, 0)
    assert not vault.restore(id=point.id, disks=disks)["changed"]
    changed = vault.restore(id=point.id, disks=disks, mode="0600")
    assert (changed["changed"], dest.stat().st_mode & 0o777) == (True, 0o600)
    assert f"holds disk vda of restore point {point.id}; set" in vault.refused(id=other.id, disks=disks)
    call("qemu-io", "-f", "qcow2", "-c", "write -P 9 0 64k", dest)
    assert "and was changed since; set overwrite" in vault.refused(id=point.id, disks=disks)
    assert vault.restore(id=point.id, disks=disks, overwrite=True)["changed"]
    holds(point, "vda", dest, "qcow2")
    assert names(out) == {"web.qcow2", ".web.qcow2.restored.json"}


@pytest.mark.parametrize("check", [True, False])
def test_a_running_domain_is_in_the_way(vault: Vault, check: bool) -> None:
    """Its own disk, while it is up: refused by the lock of its QEMU, and not touched."""
    point, dest = vault.points[0], vault.domain.disks["vdb"].image
    before = content_hash(dest)
    sentence = vault.refused(check=check, id=point.id, disks=[disk("vdb", dest)], overwrite=True)
    assert f"disks[0].dest: {str(dest)!r} is in use, as by a running domain; shut the domain down" in sentence
    assert content_hash(dest) == before
    assert not [name for name in names(dest.parent) if ".part-" in name or "restored" in name]


def test_a_domain_that_starts_meanwhile_is_refused_by_its_qemu(vault: Vault, out: pathlib.Path) -> None:
    """The old file is locked for as long as the new one is being made."""
    dest = create(out / "web.qcow2", 8 * MIB)
    seen: list[str] = []

    def meanwhile() -> None:
        if not seen and any(".part-" in name for name in names(out)):
            seen.append(call("qemu-io", "-f", "qcow2", "-c", "write 0 1", dest, check=False))

    options = {"id": vault.points[0].id, "disks": [disk("vda", dest)], "overwrite": True, "rate_limit": MIB}
    before = file_hash(dest)
    inode = dest.stat().st_ino
    result = vault.restore_while(meanwhile, **options)
    assert not result["failed"], result
    assert (seen, dest.stat().st_ino != inode) == ([""], True)
    assert before != file_hash(dest)
    holds(vault.points[0], "vda", dest, "qcow2")


def test_which_restore_point(vault: Vault, out: pathlib.Path) -> None:
    """By id, the latest in two ways, by name, before a time; and what is none."""
    first, second, last = vault.points[0], vault.points[1], vault.points[-1]
    for options, point in (
        ({}, last),
        ({"id": "latest"}, last),
        ({"id": first.id}, first),
        ({"before": second.manifest["created"]}, first),
        ({"before": "2999-01-01"}, last),
    ):
        result = vault.restore(check=True, disks=[disk("vda", out / "a")], **options)
        assert result["restore_point"]["id"] == point.id, options
    name = {"repository": str(vault.repository), "domain_name": vault.domain.name, "dest_dir": str(out)}
    assert kit.run("restore_disks", check=True, **name)["restore_point"]["id"] == last.id
    missing = {"disks": [disk("vdc", out / "c")]}
    assert "is no disk of the restore point" in vault.refused(id=first.id, **missing)
    assert "is earlier than every restore point" in vault.refused(before=first.manifest["created"], dest_dir=str(out))
    assert "before: 'yesterday' is no time" in vault.refused(before="yesterday", dest_dir=str(out))
    assert "disks: [] names no disk" in vault.refused(disks=[])
    assert "has no dest; give its dest, or dest_dir" in vault.refused(disks=[{"name": "vda"}])
    assert names(out) == set()


def test_nothing_is_written_below_the_repository(vault: Vault, out: pathlib.Path) -> None:
    before = vault.look()
    inside = vault.points[0].path
    (out / "link").symlink_to(inside)
    for dest in (inside / "new.qcow2", inside / "vda.qcow2", out / "link/new.qcow2"):
        sentence = vault.refused(disks=[disk("vda", dest)], overwrite=True)
        assert f"disks[0].dest: {str(dest)!r} lies in the repository" in sentence
    sentence = vault.refused(disks=[disk("vda", out / "a")], status_file=str(inside / "status.json"))
    assert "lies in the repository" in sentence
    assert vault.look() == before


def test_while_a_backup_of_the_same_domain_runs(vault: Vault, out: pathlib.Path) -> None:
    """A restore takes nothing that the run needs, and the run nothing that it needs."""
    point = vault.points[2]
    run = vault.protection.stage()
    vault.protection.start(run)
    done: list[bool] = []

    def meanwhile() -> None:
        if not done:
            done.append(vault.restore(id=point.id, dest_dir=str(out))["changed"])

    vault.protection.copy(run, meanwhile=meanwhile, rate_limit=MIB)
    vault.protection.stop()
    vault.protection.publish(run).check()
    assert done == [True]
    for name in point.levels:
        holds(point, name, out / f"{name}.qcow2", "qcow2")
