# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""virt_disk_copy: the disks of a running domain move while it writes, all of them or none."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import typing as t

import pytest
from integration import virt_kit as kit
from integration.protection import FULL, INCREMENTAL, Protection
from lab import services
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import call, content_hash, file_hash, virsh
from lab.wait import until

SLOW = 2 * MIB
"""Bytes per second of a copy that a test wants to meet in the middle."""


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    domain = domains(Disk("vda", size=8 * MIB), Disk("vdb", size=8 * MIB))
    for name in ("vda", "vdb"):
        domain.write(name, 0, 6 * MIB, pattern=0x11)
    return domain


def places(workdir: pathlib.Path, *names: str, **options: str) -> list[kit.Result]:
    return [{"name": name, "dest": str(workdir / f"{name}.moved"), **options} for name in names]


def sources(domain: LabDomain, *options: str) -> dict[str, str]:
    return dict(re.findall(r"^ *(vd\w) +(\S+)$", virsh("domblklist", domain.name, *options), re.MULTILINE))


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_all_disks_move_and_stay_where_they_are(domain: LabDomain, workdir: pathlib.Path, form: str) -> None:
    disks = places(workdir, "vda", "vdb", format=form)
    status = workdir / "status"
    predicted = kit.run("virt_disk_copy", check=True, domain=domain.name, disks=disks)
    assert not (workdir / "vda.moved").exists()

    moved = kit.run("virt_disk_copy", domain=domain.name, disks=disks, status_file=str(status))
    assert predicted["changed"]
    assert moved["changed"]
    assert predicted["disks"] == moved["disks"]
    assert predicted["diff"] == moved["diff"]
    wanted = {disk["name"]: disk["dest"] for disk in disks}
    assert sources(domain) == sources(domain, "--inactive") == wanted
    assert {image["state"] for image in json.loads(status.read_text())["images"]} == {"done"}

    again = kit.run("virt_disk_copy", domain=domain.name, disks=disks)
    assert not again["changed"]
    domain.write("vda", 7 * MIB, MIB, pattern=0x22)
    domain.destroy()
    for name, image in wanted.items():
        shown = json.loads(call("qemu-img", "info", "--output=json", image))
        assert (shown["format"], shown["virtual-size"], "backing-filename" in shown) == (form, 8 * MIB, False)
        expected = b"\x11" * (6 * MIB) + (b"\0" * MIB + b"\x22" * MIB if name == "vda" else b"\0" * 2 * MIB)
        (workdir / "expected").write_bytes(expected)
        assert content_hash(pathlib.Path(image)) == file_hash(workdir / "expected")


def test_what_is_written_meanwhile_is_in_both_places(domain: LabDomain, workdir: pathlib.Path) -> None:
    [disk] = places(workdir, "vda")
    before = pathlib.Path(sources(domain)["vda"])
    with running(domain, [disk], bandwidth=SLOW) as result:
        domain.write("vda", 2 * MIB, MIB, pattern=0x33)
        domain.write("vda", 7 * MIB, MIB, pattern=0x44)
        virsh("blockjob", domain.name, "vda", "--bandwidth", "0")
    assert result["changed"], result
    domain.write("vda", 0, MIB, pattern=0x55)
    domain.destroy()
    written = b"\x11" * (2 * MIB) + b"\x33" * MIB + b"\x11" * (3 * MIB) + b"\0" * MIB + b"\x44" * MIB
    (workdir / "expected").write_bytes(written)
    assert content_hash(before) == file_hash(workdir / "expected")
    (workdir / "expected").write_bytes(b"\x55" * MIB + written[MIB:])
    assert content_hash(pathlib.Path(disk["dest"])) == file_hash(workdir / "expected")


def test_a_block_device_is_written_in_place(domain: LabDomain, workdir: pathlib.Path) -> None:
    backing = workdir / "device"
    backing.write_bytes(b"\xff" * (8 * MIB))
    device = call("losetup", "--find", "--show", str(backing)).strip()
    try:
        disks = [{"name": "vda", "dest": device, "type": "block", "format": "raw"}]
        assert kit.run("virt_disk_copy", domain=domain.name, disks=disks)["changed"]
        domain.destroy()
    finally:
        call("losetup", "--detach", device)
    (workdir / "expected").write_bytes(b"\x11" * (6 * MIB) + b"\0" * (2 * MIB))
    assert file_hash(backing) == file_hash(workdir / "expected")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_domain_where_it_was(domain: LabDomain, workdir: pathlib.Path, number: int) -> None:
    before = sources(domain)
    with running(domain, places(workdir, "vda", "vdb"), bandwidth=SLOW) as result:
        os.kill(result["pid"], number)
    assert result["failed"]
    assert sources(domain) == before
    assert list(workdir.iterdir()) == []
    domain.write("vda", 0, MIB)


def test_no_space_for_one_disk_moves_none(domain: LabDomain, workdir: pathlib.Path) -> None:
    small = workdir / "small"
    small.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small))
    try:
        before = sources(domain)
        disks = [*places(workdir, "vda"), {"name": "vdb", "dest": str(small / "vdb.moved")}]
        assert "ended before it was complete" in kit.refusal("virt_disk_copy", domain=domain.name, disks=disks)
        assert sources(domain) == before
        assert [*small.iterdir(), *workdir.glob("*.moved")] == []
        assert domain.state == "paused"
        domain.write("vdb", 0, MIB)
    finally:
        call("umount", str(small))


def test_what_is_replaced_is_kept_until_the_copy_is_complete(domain: LabDomain, workdir: pathlib.Path) -> None:
    """By a signal, by a kill, and by QEMU's death: the older file is there, or the same call finds its own half one."""
    [disk] = places(workdir, "vda")
    old, kept = pathlib.Path(disk["dest"]), workdir / ".vda.moved.before-copy"
    old.write_bytes(b"old")
    with running(domain, [disk], bandwidth=SLOW, overwrite=True) as result:
        assert kept.read_bytes() == b"old"
        os.kill(result["pid"], signal.SIGTERM)
    assert result["failed"]
    assert [path.name for path in workdir.iterdir()] == [old.name]
    assert old.read_bytes() == b"old"

    with running(domain, [disk], bandwidth=SLOW, overwrite=True) as result:
        os.kill(result["pid"], signal.SIGKILL)
    domain.kill()
    domain.start()
    assert kept.read_bytes() == b"old"
    assert kit.run("virt_disk_copy", check=True, domain=domain.name, disks=[disk])["changed"]
    assert kit.run("virt_disk_copy", domain=domain.name, disks=[disk])["changed"]
    assert [path.name for path in workdir.iterdir()] == [old.name]
    domain.destroy()
    (workdir / "expected").write_bytes(b"\x11" * (6 * MIB) + b"\0" * (2 * MIB))
    assert content_hash(old) == file_hash(workdir / "expected")


def test_what_somebody_has_is_never_replaced(domain: LabDomain, domains: Domains, workdir: pathlib.Path) -> None:
    other = domains(Disk("vda", size=8 * MIB), start=False)
    here = sources(domain)
    held = workdir / "held.raw"
    held.write_bytes(bytes(8 * MIB))
    (workdir / "folder").mkdir()
    device = call("losetup", "--find", "--show", str(held)).strip()
    small = workdir / "small.raw"
    small.write_bytes(bytes(4 * MIB))
    tiny = call("losetup", "--find", "--show", str(small)).strip()
    call("mke2fs", "-q", "-F", device)
    call("mount", device, str(workdir / "folder"))
    try:
        refused = (
            ({"dest": str(other.disks["vda"].image)}, f"is used by domain '{other.name}' (disk vda)"),
            ({"dest": here["vdb"]}, f"is used by domain '{domain.name}' (disk vdb)"),
            ({"dest": str(workdir)}, "is no plain file"),
            ({"dest": device, "type": "block", "format": "raw"}, "is in use"),
            ({"dest": tiny, "type": "block", "format": "raw"}, "has room for 4194304 bytes, and the disk has 8388608"),
        )
        before = {path: file_hash(path) for path in (*map(pathlib.Path, here.values()), other.disks["vda"].image)}
        for place, words in refused:
            for check in (True, False):
                options = {"domain": domain.name, "disks": [{"name": "vda", **place}], "overwrite": True}
                assert words in kit.refusal("virt_disk_copy", check=check, **options), place
        assert {path: file_hash(path) for path in before} == before
        assert sources(domain) == here
    finally:
        call("umount", str(workdir / "folder"))
        call("losetup", "--detach", device)
        call("losetup", "--detach", tiny)


def test_a_killed_module_s_copy_is_joined(domain: LabDomain, workdir: pathlib.Path) -> None:
    disks = places(workdir, "vda", "vdb")
    with running(domain, disks, bandwidth=SLOW, wanted=2) as result:
        os.kill(result["pid"], signal.SIGKILL)
    for name in ("vda", "vdb"):
        virsh("blockjob", domain.name, name, "--bandwidth", "0")
    assert kit.run("virt_disk_copy", domain=domain.name, disks=disks)["changed"]
    assert sources(domain) == {disk["name"]: disk["dest"] for disk in disks}


def test_a_killed_daemon_s_copy_goes_on(domain: LabDomain, workdir: pathlib.Path) -> None:
    """QEMU goes on with the copy; libvirtd knows of it again after its restart, and the same call moves the domain."""
    disks = places(workdir, "vda")
    with running(domain, disks, bandwidth=SLOW) as result:
        services.restart("libvirtd", signal.SIGKILL)
    assert result["failed"]
    domain.write("vda", 7 * MIB, MIB, pattern=0x44)
    virsh("blockjob", domain.name, "vda", "--bandwidth", "0", check=False)
    assert kit.run("virt_disk_copy", domain=domain.name, disks=disks, overwrite=True)["changed"]
    domain.destroy()
    (workdir / "expected").write_bytes(b"\x11" * (6 * MIB) + b"\0" * MIB + b"\x44" * MIB)
    assert content_hash(pathlib.Path(disks[0]["dest"])) == file_hash(workdir / "expected")


BAD: tuple[tuple[str, kit.Result, str], ...] = (
    ("no disk", {"disks": []}, "disks: [] is empty"),
    ("unknown disk", {"disks": [{"name": "vdz", "dest": "/srv/images/x"}]}, "'vdz' is not a disk of domain"),
    ("relative", {"disks": [{"name": "vda", "dest": "x"}]}, "'x' is not an absolute path"),
    ("no folder", {"disks": [{"name": "vda", "dest": "/srv/none/x"}]}, "has no directory '/srv/none'"),
    ("there", {"disks": [{"name": "vda", "dest": "/etc/passwd"}]}, "'/etc/passwd' is there already"),
    ("twice", {"disks": [{"name": "vda", "dest": f"/srv/images/{n}"} for n in "ab"]}, "'vda' is given twice"),
    ("one place", {"disks": [{"name": n, "dest": "/srv/images/x"} for n in ("vda", "vdb")]}, "given twice as dest"),
    ("form", {"disks": [{"name": "vda", "dest": "/dev/loop0", "type": "block"}]}, "use raw"),
    ("device", {"disks": [{"name": "vda", "dest": "/dev/x", "type": "block", "format": "raw"}]}, "is not there"),
    ("time", {"disks": [{"name": "vda", "dest": "/srv/images/x"}], "timeout": 0}, "0 is no time"),
    ("band", {"disks": [{"name": "vda", "dest": "/srv/images/x"}], "bandwidth": -1}, "-1 is negative"),
    ("status", {"disks": [{"name": "vda", "dest": "/srv/images/x"}], "status_file": "x"}, "status_file: 'x'"),
)


def test_bad_input_is_one_sentence_and_moves_nothing(domain: LabDomain) -> None:
    before = sources(domain)
    for name, options, words in BAD:
        assert words in kit.refusal("virt_disk_copy", domain=domain.name, **options), name
    assert sources(domain) == before


def test_only_a_running_domain_s_disks_are_copied(domain: LabDomain, workdir: pathlib.Path) -> None:
    domain.destroy()
    assert "is off" in kit.refusal("virt_disk_copy", domain=domain.name, disks=places(workdir, "vda"))


def test_somebody_else_s_copy_is_left_alone(domain: LabDomain, workdir: pathlib.Path) -> None:
    other = workdir / "other"
    virsh("blockcopy", domain.name, "vda", str(other), "--transient-job", "--bandwidth", "1")
    assert "left alone" in kit.refusal("virt_disk_copy", domain=domain.name, disks=places(workdir, "vda"))
    virsh("blockjob", domain.name, "vda", "--abort")


def test_a_backup_that_runs_is_left_alone(domain: LabDomain, workdir: pathlib.Path) -> None:
    before = sources(domain)
    kit.backup(domain, disks=[{"name": "vda"}], checkpoint={"name": "ck"})
    refused = kit.refusal("virt_disk_copy", domain=domain.name, disks=places(workdir, "vdb", "vda"))
    assert "'vda' of domain" in refused
    assert "has a job, such as a backup, which is left alone" in refused
    assert (sources(domain), list(workdir.iterdir()), domain.has_job()) == (before, [], True)
    kit.end(domain)


def test_a_backup_waits_for_the_copy_and_then_only_the_moved_disk_is_full(
    domain: LabDomain, workdir: pathlib.Path
) -> None:
    protection = Protection(domain, workdir / "repository")
    first = protection.backup()
    virsh("blockcopy", domain.name, "vda", str(workdir / "vda.moved"), "--transient-job")
    refused = kit.refusal("virt_backup", domain=domain.name, checkpoint={"name": "ck2"})
    assert "A copy, commit or pull works on that disk" in refused or "already in active block job" in refused
    assert kit.nothing_left(domain, first.checkpoint)
    assert kit.run("virt_disk_copy", domain=domain.name, disks=places(workdir, "vda"))["changed"]
    domain.write("vda", 4 * MIB, MIB, pattern=0x44)
    after = protection.backup()
    assert after.levels == {"vda": FULL, "vdb": INCREMENTAL}
    assert "the disk's source changed from" in after.reason("vda")
    protection.check_all()


class running:  # noqa: N801  reads as a word of the test
    """A call in a child; the block is entered when its copies have begun, and left when it has ended."""

    def __init__(self, domain: LabDomain, disks: list[kit.Result], wanted: int = 1, **options: t.Any) -> None:
        self._domain, self._wanted = domain, wanted
        self._work = kit.work_of("virt_disk_copy", domain=domain.name, disks=disks, **options)
        self._result: kit.Result = {}

    def __enter__(self) -> kit.Result:
        pid, self._reading = kit.start_child(self._work)
        self._result["pid"] = pid
        until("the copy runs", lambda: virsh("dumpxml", self._domain.name).count("<mirror") >= self._wanted)
        return self._result

    def __exit__(self, *unused: object) -> None:
        with open(self._reading, encoding="utf-8") as pipe:
            printed = pipe.read()
        os.waitpid(self._result["pid"], 0)
        self._result.update(kit.result_in(printed) if printed.strip() else {"failed": True})
