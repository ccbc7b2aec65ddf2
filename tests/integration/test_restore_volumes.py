# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that come back as volumes of libvirt's storage pools: made, known to libvirt, and run from."""

from __future__ import annotations

import contextlib
import copy
import os
import pathlib
import shutil
import typing as t

import pytest
from integration import virt_kit as kit
from integration.ends_kit import loop_device
from integration.protection import FULL, INCREMENTAL, Protection
from integration.role_restore import Restoration
from lab.disks import MIB, Disk
from lab.domains import IMAGES, Domains
from lab.tools import call, content_hash, file_hash, virsh, virsh_names

SIZE = 6 * MIB


@contextlib.contextmanager
def pool(name: str, folder: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Have a pool of the files of a directory, which stays."""
    folder.mkdir(exist_ok=True)
    virsh("pool-define-as", name, "dir", "--target", folder)
    virsh("pool-start", name)
    try:
        yield folder
    finally:
        virsh("pool-destroy", name, check=False)
        virsh("pool-undefine", name)


@pytest.fixture(scope="module")
def protection(lab_host: str) -> t.Iterator[Protection]:
    """Return a domain of one disk with a full restore point and an increment."""
    domains, folder = Domains(), IMAGES / "restore-volumes"
    folder.mkdir()
    try:
        domain = domains(Disk("vda", size=SIZE))
        made = Protection(domain, folder / "repository")
        for number in range(2):
            domain.write("vda", number * MIB, 2 * MIB, pattern=0x10 + number)
            made.backup()
        yield made
    finally:
        domains.close()
        shutil.rmtree(folder)


@pytest.fixture
def copies() -> t.Iterator[list[str]]:
    """Give a list of names; those domains are gone after the test."""
    names: list[str] = []
    yield names
    for name in set(names) & set(virsh_names("list", "--all", "--name")):
        virsh("destroy", name, check=False)
        virsh("undefine", name, "--checkpoints-metadata")


def volumes(name: str) -> set[str]:
    """Return what libvirt lists of a pool, without asking it to look."""
    return {line.split()[0] for line in virsh("vol-list", name).splitlines() if line.strip()}


def source(name: str) -> dict[str, str]:
    element = kit.run("virt_backup_info", domain=name)["disks"][0]
    return {"type": element["type"], "source": element["source"]}


def wish(protection: Protection, dest: str, **more: t.Any) -> kit.Result:
    disk = {"name": "vda", "dest": dest, "type": "volume", **more}
    return {"repository": str(protection.repository), "domain_uuid": protection.domain.uuid, "disks": [disk]}


def test_a_volume_is_made_and_libvirt_knows_it(protection: Protection, workdir: pathlib.Path) -> None:
    """Check, run, check again, run again; in either format; a volume of somebody else is left alone."""
    point = protection.points[-1]
    with pool("lab", workdir / "pool") as folder:
        for form in ("qcow2", "raw"):
            asked = wish(protection, f"lab/web.{form}", format=form)
            results = [kit.run("restore_disks", check=check, **asked) for check in (True, False, True, False)]
            assert [result["changed"] for result in results] == [True, True, False, False]
            assert {result["disks"][0]["dest"] for result in results} == {str(folder / f"web.{form}")}
            assert f"web.{form}" in volumes("lab")
            assert f"<format type='{form}'/>" in virsh("vol-dumpxml", f"web.{form}", "lab")
            assert content_hash(folder / f"web.{form}") == point.truth["vda"]

        virsh("pool-destroy", "lab")
        virsh("pool-start", "lab")
        virsh("vol-create-as", "lab", "taken", "1M")
        sentence = kit.refusal("restore_disks", **wish(protection, "lab/taken"))
        assert f"disks[0].dest: {str(folder / 'taken')!r} exists and has no record of a restore; set over" in sentence
        assert kit.run("restore_disks", **wish(protection, "lab/taken"), overwrite=True)["changed"]
        assert "<capacity unit='bytes'>6291456</capacity>" in virsh("vol-dumpxml", "taken", "lab")


def test_a_volume_that_libvirt_has_not_seen_is_shown_to_it(protection: Protection, workdir: pathlib.Path) -> None:
    """As after a kill between the name of the file and the look of the pool at its directory."""
    with pool("lab", workdir / "pool") as folder:
        named = {"name": "vda", "dest": str(folder / "web.qcow2")}
        assert kit.run("restore_disks", **{**wish(protection, ""), "disks": [named]})["changed"]
        assert volumes("lab") == set()
        assert not kit.run("restore_disks", check=True, **wish(protection, "lab/web.qcow2"))["changed"]
        assert volumes("lab") == set()
        assert not kit.run("restore_disks", **wish(protection, "lab/web.qcow2"))["changed"]
        assert "web.qcow2" in volumes("lab")


REFUSED: tuple[tuple[kit.Result, str], ...] = (
    ({"dest": "nowhere/a"}, "'nowhere/a' is in no storage pool of this host (it has: asleep, lab); name one of them"),
    ({"dest": "asleep/a"}, "'asleep/a' is in storage pool asleep, which is not active; start it (virsh pool-start as"),
    ({"dest": "lab"}, "'lab' is not of the form pool/volume; give both"),
    ({"dest": "lab/../a"}, "'lab/../a' is no name of a volume, which is a file; leave out the slash or the dots"),
    ({"dest": "lab/.."}, "'lab/..' is no name of a volume"),
    ({"dest": "lab/a\nb"}, "holds a newline or another control character"),
    ({"dest": "lab/a", "record": "/a"}, "was given for a dest that is a file"),
    ({"dest": "/dev/none", "type": "block", "format": "raw"}, "'/dev/none' is no block device of this host; make it"),
)


@pytest.mark.parametrize("check", [True, False])
def test_what_is_no_place_is_refused_in_words(protection: Protection, workdir: pathlib.Path, check: bool) -> None:
    with pool("lab", workdir / "pool") as folder, pool("asleep", workdir / "other"):
        virsh("pool-destroy", "asleep")
        for disk, words in REFUSED:
            sentence = kit.refusal("restore_disks", check=check, **wish(protection, **disk))
            assert sentence.startswith("disks[0].")
            assert words in sentence
        assert list(folder.iterdir()) == []
        far = kit.refusal("restore_disks", **wish(protection, "lab/a"), uri="qemu+ssh://elsewhere/system")
        assert far.startswith("uri: 'qemu+ssh://elsewhere/system' ")


@pytest.mark.parametrize("check", [True, False])
def test_in_a_pool_of_devices_none_is_made(protection: Protection, workdir: pathlib.Path, check: bool) -> None:
    xml = "<pool type='mpath'><name>devices</name><target><path>/dev/mapper</path></target></pool>"
    (workdir / "devices.xml").write_text(xml, encoding="ascii")
    virsh("pool-define", workdir / "devices.xml")
    virsh("pool-start", "devices")
    try:
        sentence = kit.refusal("restore_disks", check=check, **wish(protection, "devices/web", format="raw"))
        assert "is not there, and in storage pool devices of type mpath none is made; make it first" in sentence
        assert "(virsh vol-create-as devices web SIZE)" in sentence
    finally:
        virsh("pool-destroy", "devices")
        virsh("pool-undefine", "devices")


def test_a_device_in_a_pool_is_written_in_place(protection: Protection, workdir: pathlib.Path) -> None:
    """A pool of a directory lists the devices in it as well, as those of other kinds do."""
    point = protection.points[-1]
    (workdir / "old").write_bytes(b"\xa5" * SIZE)
    with loop_device(workdir / "old") as device, pool("lab", workdir / "pool") as folder:
        os.mknod(folder / "lv", 0o600 | 0o060000, os.stat(device).st_rdev)
        virsh("pool-refresh", "lab")
        assert "is a block device without a record; set overwrite" in kit.refusal(
            "restore_disks", **wish(protection, "lab/lv", format="raw")
        )
        assert "can't be written to a block device; use format raw" in kit.refusal(
            "restore_disks", **wish(protection, "lab/lv"), overwrite=True
        )
        assert (workdir / "old").read_bytes() == b"\xa5" * SIZE
        done = kit.run("restore_disks", **wish(protection, "lab/lv", format="raw"), overwrite=True)
        assert (done["changed"], done["disks"][0]["atomic"]) == (True, False)
        call("qemu-img", "compare", "-f", "raw", "-F", "qcow2", device, point.tip("vda"))


def test_no_room_in_the_pool_leaves_what_was_there(protection: Protection, workdir: pathlib.Path) -> None:
    folder = workdir / "pool"
    folder.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", folder)
    try:
        with pool("lab", folder):
            (folder / "web.qcow2").write_bytes(b"old")
            sentence = kit.refusal("restore_disks", **wish(protection, "lab/web.qcow2"), overwrite=True)
            assert "No space left on device" in sentence
            assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("web.qcow2", b"old")]
    finally:
        call("umount", folder)


def test_the_role_brings_a_domain_back_into_a_pool(
    protection: Protection, workdir: pathlib.Path, copies: list[str]
) -> None:
    """A copy in a pool, its backups, and the copy of that back into its pool under another name, which is mapped."""
    role = Restoration(workdir, protection.repository)
    domain = protection.domain
    copies += [f"{domain.name}-copy"]
    with pool("lab", workdir / "pool") as folder, pool("other", workdir / "other") as other:
        into: kit.Result = {"restore_domain": domain.name, "restore_as": copies[0], "restore_state": "paused"}
        changed, result = role.restore(**into, restore_pool="lab")
        volume = f"{copies[0]}-vda.qcow2"
        assert (changed > 0, result["disks"][0]["source"]) == (True, f"lab/{volume}")
        assert source(copies[0]) == {"type": "volume", "source": f"lab/{volume}"}
        assert volume in volumes("lab")

        twin = copy.copy(domain)
        twin.name, twin.uuid = copies[0], result["domain"]["uuid"]
        again = Protection(twin, protection.repository)
        points = [again.backup(), again.backup()]
        assert [point.levels["vda"] for point in points] == [FULL, INCREMENTAL]
        virsh("destroy", copies[0])
        virsh("undefine", copies[0], "--checkpoints-metadata")
        shutil.rmtree(folder)
        folder.mkdir()
        asked = {"restore_domain": copies[0], "restore_pools": {"lab": "other"}, "restore_state": "paused"}
        changed, result = role.restore(**asked)
        assert source(copies[0]) == {"type": "volume", "source": f"other/{volume}"}
        assert content_hash(other / volume) == points[-1].truth["vda"]
        assert role.restore(**asked)[0] == 0


def test_a_running_domain_moves_into_a_pool(protection: Protection, workdir: pathlib.Path, domains: Domains) -> None:
    """As the second half of an instant restore; the domain is told the path, as QEMU knows no pools."""
    domain = domains(Disk("vda", size=SIZE))
    domain.write("vda", MIB, MIB)
    truth = file_hash(domain.frozen_copy("vda"))
    move = {"domain": domain.name, "disks": [{"name": "vda", "dest": "lab/moved.qcow2", "type": "volume"}]}
    assert "is in no storage pool of this host (it has: none)" in kit.refusal("virt_disk_copy", **move)
    with pool("lab", workdir / "pool") as folder:
        results = [kit.run("virt_disk_copy", check=check, **move) for check in (True, False, True, False)]
        assert [result["changed"] for result in results] == [True, True, False, False]
        assert domain.live_source("vda") == folder / "moved.qcow2"
        assert "moved.qcow2" in volumes("lab")
        domain.destroy()
        assert content_hash(folder / "moved.qcow2") == truth
