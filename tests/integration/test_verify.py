# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bit rot in restore points that were made on real libvirt: found, named, and what comes out of chains read by QEMU."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import typing as t

import pytest
from integration import virt_kit as kit
from integration.protection import FULL, INCREMENTAL, Point, Protection
from integration.virt_kit import Result
from lab.disks import KIB, MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import call

SECRET = {"secret": "Kq9x0x7-winter"}


class Verified:
    """A protected domain of two disks, and what restore_point_verify says of it."""

    def __init__(self, domain: LabDomain, folder: pathlib.Path) -> None:
        self.domain, self.folder = domain, folder
        self.protection = Protection(domain, folder / "repository")
        self.place: Result = {"repository": str(self.protection.repository), "domain_uuid": domain.uuid}

    def backup(self, number: int, **options: t.Any) -> Point:
        """Change both disks, each at a place of its own, and back up."""
        self.domain.write("vda", number * MIB, 256 * KIB, pattern=number)
        self.domain.write("vdb", number * MIB + 64 * KIB, 64 * KIB, pattern=number)
        return self.protection.backup(**options)

    def verify(self, **options: t.Any) -> Result:
        """Verify, all of it being good."""
        return kit.run("restore_point_verify", **{**self.place, **options})

    def damaged(self, **options: t.Any) -> tuple[set[tuple[str, str, tuple[str, ...]]], str]:
        """Return id, file and broken restore points of each damage, and the sentence."""
        result = kit.attempt("restore_point_verify", **{**self.place, **options})
        assert result["failed"], result
        assert "Traceback" not in str(result.get("exception", "")), result
        return {(one["id"], one["file"], tuple(one["breaks"])) for one in result["damaged"]}, result["msg"]


@pytest.fixture
def verified(domains: Domains, workdir: pathlib.Path) -> Verified:
    return Verified(domains(Disk("vda", size=8 * MIB), Disk("vdb", size=8 * MIB)), workdir)


def flip(path: pathlib.Path, at: int, bit: int = 3) -> None:
    """Flip a bit in place."""
    with open(path, "r+b") as file:
        file.seek(at)
        (value,) = file.read(1)
        file.seek(at)
        file.write(bytes([value ^ 1 << bit]))


def test_one_flipped_bit_in_any_file(verified: Verified) -> None:
    """In turn in each file of the restore point in the middle, which another builds on."""
    first, middle, last = (verified.backup(number) for number in (1, 2, 3))
    assert [point.levels["vda"] for point in (first, middle, last)] == [FULL, INCREMENTAL, INCREMENTAL]
    whole = verified.verify(content=True)
    assert [disk["content_verified"] for point in whole["restore_points"] for disk in point["disks"]] == [True] * 6
    names = [path.name for path in sorted(middle.path.iterdir()) if path.name != "verified.json"]
    assert {"domain.xml", "checkpoint.xml", "manifest.json", "vda.qcow2", "vdb.digests", "SHA256SUMS"} <= set(names)
    for name in names:
        path = middle.path / name
        for at in (0, path.stat().st_size // 2, path.stat().st_size - 1):
            flip(path, at)
            found, sentence = verified.damaged()
            assert {entry[:2] for entry in found} == {(middle.id, name)}, (name, at)
            above = {last.id} if name in ("manifest.json", "vda.qcow2", "vdb.qcow2") else set()
            assert {identifier for entry in found for identifier in entry[2]} == {middle.id, *above}, (name, at)
            assert f"{middle.id}/{name}" in sentence
            flip(path, at)
    again = verified.verify(content=True)
    assert {point["good"] for point in again["restore_points"]} == {True}
    assert not list(verified.protection.repository.rglob("damaged.json"))
    assert verified.backup(4).levels == {"vda": INCREMENTAL, "vdb": INCREMENTAL}


def test_one_flipped_bit_in_what_the_domain_keeps_beside_its_disks(verified: Verified) -> None:
    """Firmware variables and the state of a TPM, by their names alone: nobody here can read what is in them."""
    protection = verified.protection
    run = protection.stage()
    protection.start(run)
    protection.copy(run)
    protection.stop()
    beside = {"nvram": 540672, "tpm2-00.permall": 6000}
    for name, size in beside.items():
        (pathlib.Path(run.plan["staging"]) / name).write_bytes(os.urandom(size))
    publishing = protection.publishing(run)
    publishing["files"] += [{"name": name} for name in beside]
    point = pathlib.Path(kit.run("restore_point", **publishing)["path"])
    assert verified.verify()["damaged"] == []
    for name, size in beside.items():
        for at in (0, size // 2, size - 1):
            flip(point / name, at)
            assert verified.damaged()[0] == {(point.name, name, (point.name,))}
            flip(point / name, at)
    os.truncate(point / "nvram", 1000)
    assert verified.damaged()[0] == {(point.name, "nvram", (point.name,))}
    assert not list(protection.repository.rglob("damaged.json")), "images are a base all the same"


def test_a_flipped_bit_in_what_a_verification_wrote(verified: Verified) -> None:
    """Its own files have no digest: whatever they say then, the next verification finds the same and sets them right."""
    first = verified.backup(1)
    flip(first.tip("vdb"), first.tip("vdb").stat().st_size // 2)
    expected = verified.damaged()
    kept = {name: (first.path / name).read_bytes() for name in ("damaged.json", "verified.json")}
    for name, content in kept.items():
        for at in range(0, len(content), len(content) // 12):
            flip(first.path / name, at)
            looked = kit.run("restore_point_info", **verified.place)
            assert [point["id"] for point in looked["restore_points"] if point["complete"]] == [], (name, at)
            assert verified.damaged() == expected, (name, at)
            assert (first.path / "damaged.json").read_bytes() == kept["damaged.json"], (name, at)
    flip(first.tip("vdb"), first.tip("vdb").stat().st_size // 2)
    flip(first.path / "damaged.json", 40)
    assert verified.verify()["damaged"] == []
    assert not (first.path / "damaged.json").exists()


def test_what_is_damaged_is_no_base(verified: Verified) -> None:
    """Only the disk concerned becomes full; the other goes on."""
    first, second = verified.backup(1), verified.backup(2)
    flip(first.tip("vdb"), first.tip("vdb").stat().st_size // 2)
    found, sentence = verified.damaged(id="latest")
    assert found == {(first.id, "vdb.qcow2", (first.id, second.id))}
    assert sentence.startswith("Not verified as good: ")
    third = verified.backup(3)
    assert third.levels == {"vda": INCREMENTAL, "vdb": FULL}
    assert "the chain to build on is broken" in third.reason("vdb")
    assert verified.verify(id="latest", content=True)["restore_points"][0]["good"]


def test_truncated_missing_and_swapped_are_refused_and_a_copy_is_not(verified: Verified) -> None:
    first, second = verified.backup(1), verified.backup(2)
    other, tip = verified.backup(3, full=True), verified.backup(4)
    repository = verified.protection.repository

    def copy(name: str) -> pathlib.Path:
        """Copy the repository to another path, without times, as a careless tool does."""
        path = verified.folder / name
        shutil.copytree(repository, path, copy_function=shutil.copyfile)
        return path / verified.domain.uuid

    assert {point["good"] for point in verified.verify(repository=str(copy("good").parent), content=True)[
        "restore_points"
    ]} == {True}  # fmt: skip

    moved = Protection(verified.domain, copy("moved").parent)
    assert (moved.id, moved.backup().levels["vda"]) == (verified.protection.id, INCREMENTAL), (
        "as if it had always been there"
    )

    cut = copy("cut")
    os.truncate(cut / second.id / "vda.qcow2", 65536)
    assert verified.damaged(repository=str(cut.parent))[0] == {(second.id, "vda.qcow2", (second.id,))}

    shown = kit.run("restore_point_info", **{**verified.place, "repository": str(cut.parent)})
    assert {point["id"]: point["complete"] for point in shown["restore_points"]}[second.id] is False

    missing = copy("missing")
    shutil.rmtree(missing / other.id)
    assert {entry[::2] for entry in verified.damaged(repository=str(missing.parent))[0]} == {(other.id, (tip.id,))}

    shown = kit.run("restore_point_info", **{**verified.place, "repository": str(missing.parent)})
    assert {point["id"]: point["complete"] for point in shown["restore_points"]}[tip.id] is False

    swapped = copy("swapped")
    shutil.copyfile(swapped / other.id / "vda.qcow2", swapped / first.id / "vda.qcow2")
    found = {(first.id, "vda.qcow2", (first.id, second.id))}
    assert verified.damaged(repository=str(swapped.parent))[0] == found
    assert verified.verify()["restore_points"][-1]["good"]


def test_the_content_tells_what_was_stored_wrong(verified: Verified) -> None:
    """An image that went wrong before its SHA-256 was taken: only reading the chain finds it, and whose image it is."""
    first, second, third = (verified.backup(number) for number in (1, 2, 3))
    call("qemu-io", "-f", "qcow2", "-c", "write -P 0x77 2M 64k", second.tip("vda"))
    forge(second.path, "vda.qcow2")
    assert verified.verify()["damaged"] == []
    assert verified.verify(id=first.id, content=True)["damaged"] == []
    found, sentence = verified.damaged(id=third.id, content=True)
    assert found == {(second.id, "vda.qcow2", (second.id, third.id))}
    assert "vda.qcow2 does not hold what its digests say in 65536 bytes of vda, the first from 2097152" in sentence
    assert verified.damaged()[0] == found, "the bytes alone can't refute it"
    call("qemu-io", "-f", "qcow2", "-c", "write -P 2 2M 64k", second.tip("vda"))
    forge(second.path, "vda.qcow2")
    verified.verify(id=second.id, content=True)
    assert verified.verify(content=True)["damaged"] == []
    assert verified.backup(4).levels["vda"] == INCREMENTAL


def forge(point: pathlib.Path, name: str) -> None:
    """Write the digest that the file has now wherever it is kept."""
    content = (point / name).read_bytes()
    manifest = json.loads((point / "manifest.json").read_text())
    for entry in manifest["stored"]:
        if entry["name"] == name:
            entry.update(size=len(content), digest=f"sha256:{hashlib.sha256(content).hexdigest()}")
    for disk in manifest["disks"]:
        if disk["image"] == name:
            disk["stored_size"] = len(content)
    (point / "manifest.json").write_text(json.dumps(manifest))
    sums = point / "SHA256SUMS"
    names = [line.split()[1] for line in sums.read_text().splitlines() if not line.startswith("#")]
    lines = "".join(f"{hashlib.sha256((point / file).read_bytes()).hexdigest()}  {file}\n" for file in names)
    sums.write_text(f"{lines}# sha256 of the lines above: {hashlib.sha256(lines.encode()).hexdigest()}\n")


def test_beside_a_backup_that_runs(verified: Verified) -> None:
    """The job runs and the lock is held: what is published is verified, the run goes on."""
    verified.backup(1)
    run = verified.protection.stage()
    verified.protection.start(run)
    looks = 0

    def meanwhile() -> None:
        nonlocal looks
        looks += 1
        assert verified.verify(content=True)["damaged"] == []

    meanwhile()
    verified.protection.copy(run, meanwhile=meanwhile)
    verified.protection.stop()
    verified.protection.publish(run).check()
    assert looks
    assert len(verified.verify(content=True)["verified"]) == 2


def test_an_encrypted_chain(verified: Verified) -> None:
    """Its bytes without the secret; its structure and what has a digest with it; another secret is no damage."""
    run = backup_encrypted(verified, 1)
    increment = backup_encrypted(verified, 2)
    assert (run.levels["vda"], increment.levels["vda"]) == (FULL, INCREMENTAL)
    closed = verified.verify(content=True)
    assert {point["record"]["good"] for point in closed["restore_points"]} == {True}
    assert all(point["record"]["notes"] for point in closed["restore_points"])
    opened = verified.verify(content=True, encryption=SECRET, max_age=3600)
    assert len(opened["verified"]) == 2
    full, above = opened["restore_points"]
    assert [disk["content_verified"] for disk in full["disks"]] == [True, True]
    assert {disk["content_reason"] for disk in above["disks"]} != {""}
    assert not any(point["record"]["notes"] for point in opened["restore_points"])
    assert verified.verify(content=True, encryption=SECRET, max_age=3600)["verified"] == []
    found, sentence = verified.damaged(encryption={"secret": "0ther-w0rd"})
    assert found == set()
    assert "encrypted with another secret than the one given" in sentence
    assert "0ther-w0rd" not in sentence
    assert not list(verified.protection.repository.rglob("damaged.json"))
    flip(increment.tip("vda"), increment.tip("vda").stat().st_size // 2)
    assert verified.damaged(encryption=SECRET)[0] == {(increment.id, "vda.qcow2", (increment.id,))}


def backup_encrypted(verified: Verified, number: int) -> Point:
    """Back up with encryption; the images are compared by restore_point_verify alone, so not with the truth here."""
    protection = verified.protection
    verified.domain.write("vda", number * MIB, 256 * KIB, pattern=number)
    encryption = {**SECRET, "iter_time": 10}
    run = protection.stage(encryption=encryption)
    protection.begin(run)
    protection.copy(run, encryption=encryption)
    protection.stop()
    return protection.publish(run)
