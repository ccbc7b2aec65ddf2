# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The repository's modules as processes of their own, with real images from nbd_extract; qemu-nbd stands for libvirt."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import without_hypervisor

if t.TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., dict[str, t.Any]]

UUID = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"
MIB = 1 << 20

lab_host = without_hypervisor.lab_host


def four_times(run_ok: Run, module: str, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
    """Check, run, check again, run again; return what the run returned."""
    check = run_ok(module, arguments, check=True, diff=True)
    real = run_ok(module, arguments, diff=True)
    again = [run_ok(module, arguments, check=check_again) for check_again in (True, False)]
    assert [check["changed"], real["changed"], *(result["changed"] for result in again)] == [True, True, False, False]
    assert check["diff"]["before"] == real["diff"]["before"]
    assert real["diff"]["before"] != real["diff"]["after"]
    return real


class Guest:
    """A disk that is written to, with a bitmap for each checkpoint, and a frozen copy of each moment."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = nbd.create(folder / f"{name}.qcow2", 4 * MIB)
        self.moments: list[Path] = []

    def info(self) -> dict[str, t.Any]:
        """Return the disk as virt_backup_info lists it."""
        return {
            "name": self.name,
            "source": str(self.path),
            "format": "qcow2",
            "serial": "",
            "virtual_size": 4 * MIB,
            "backup": True,
            "checkpoint": True,
            "checkpoint_reason": "",
        }

    def freeze(self, checkpoint: str) -> Path:
        """Begin a checkpoint; return the frozen disk, whose bitmaps say what changed since the earlier ones."""
        frozen = self.path.with_name(f"{self.name}-{len(self.moments)}.qcow2")
        shutil.copy(self.path, frozen)
        self.moments.append(frozen)
        nbd.add_bitmap(self.path, checkpoint)
        return frozen


class Protection:
    """What the role does for one domain."""

    def __init__(self, run_ok: Run, folder: Path) -> None:
        self.run = run_ok
        self.repository = str(folder / "repository")
        self.checkpoints: list[dict[str, t.Any]] = []

    def backup(self, *guests: Guest) -> dict[str, t.Any]:
        """Make a restore point of these disks and return the module's result."""
        common = {"repository": self.repository, "domain_uuid": UUID}
        staged = {
            **common,
            "state": "staged",
            "domain_name": "web",
            "disks": [guest.info() for guest in guests],
            "checkpoints": self.checkpoints,
        }
        plan = self.run("restore_point", staged)
        with contextlib.ExitStack() as servers:
            images = [
                self._image(servers, guest, disk, plan["checkpoint"]) for guest, disk in zip(guests, plan["disks"])
            ]
            copied = self.run("nbd_extract", {"images": images, "status_file": plan["status_file"]})
        names = [{"name": guest.name, "usable": True, "reason": ""} for guest in guests]
        self.checkpoints.append({"name": plan["checkpoint"], "disks": names})
        present = {
            **common,
            "id": plan["id"],
            "token": plan["token"],
            "disks": plan["disks"],
            "images": copied["images"],
            "files": [{"name": "checkpoint.xml", "content": "<domaincheckpoint/>"}],
            "versions": {"libvirt": "9.0.0"},
            "consistency": {"frozen": True, "freeze_seconds": 0.25},
        }
        return four_times(self.run, "restore_point", present)

    @staticmethod
    def _image(
        servers: contextlib.ExitStack, guest: Guest, disk: dict[str, t.Any], checkpoint: str
    ) -> dict[str, t.Any]:
        bitmap = disk["incremental"]
        options = ["-r", "-B", bitmap] if bitmap else ["-r"]
        server = servers.enter_context(nbd.qemu_nbd(guest.freeze(checkpoint), *options))
        image = {"uri": server.uri(), "dest": disk["image"], "source_id": checkpoint}
        below = {"bitmap": bitmap, "backing_file": disk["backing_file"], "backing_format": "qcow2"}
        return {**image, **below} if bitmap else image


@pytest.fixture
def protection(run_ok: Run, tmp_path: Path) -> Protection:
    made = Protection(run_ok, tmp_path)
    run_ok("backup_repository", {"path": made.repository})
    return made


def test_a_repository_is_made_once(run_ok: Run, tmp_path: Path) -> None:
    made = four_times(run_ok, "backup_repository", {"path": str(tmp_path / "repository")})
    assert made["repository"]["path"] == str(tmp_path / "repository")


def test_each_moment_comes_back_from_a_moved_repository(protection: Protection, run_ok: Run, tmp_path: Path) -> None:
    """Three moments, mixed levels, one disk left out once: each restored image is the frozen one, by qemu-img alone."""
    a, b = Guest(tmp_path, "vda"), Guest(tmp_path, "vdb")
    nbd.qemu_io(a.path, "write -P 1 0 1M")
    first = protection.backup(a)
    nbd.qemu_io(a.path, "write -P 2 512k 64k", "write -z 0 64k", "discard 64k 64k")
    nbd.qemu_io(b.path, "write -P 3 1M 1M")
    second = protection.backup(a, b)
    nbd.qemu_io(b.path, "write -P 4 3M 4k")
    third = protection.backup(b)
    nbd.qemu_io(a.path, "write -P 5 2M 64k")
    fourth = protection.backup(a, b)
    moved = tmp_path / "moved"
    os.rename(protection.repository, moved)
    found = run_ok("restore_point_info", {"repository": str(moved), "domain_name": "web"})
    expected = {first["id"]: "vda:full", second["id"]: "vda:incremental vdb:full", third["id"]: "vdb:incremental"}
    expected[fourth["id"]] = "vda:incremental vdb:incremental"
    assert {
        point["id"]: " ".join(f"{disk['name']}:{disk['level']}" for disk in point["disks"])
        for point in found["restore_points"]
    } == expected
    assert found["latest"]["chain"]["vda"] == [first["id"], second["id"], fourth["id"]]
    moments = {"vda": iter(a.moments), "vdb": iter(b.moments)}
    for point in found["restore_points"]:
        assert (point["complete"], point["problems"]) == (True, [])
        for disk in point["disks"]:
            restored = tmp_path / "restored.qcow2"
            nbd.run("qemu-img", "convert", "-O", "qcow2", f"{point['path']}/{disk['image']}", restored)
            nbd.identical(restored, next(moments[disk["name"]]))
    assert fourth["superseded"] == [checkpoint["name"] for checkpoint in protection.checkpoints[:-1]]


def test_removal_from_the_top_four_times_each(protection: Protection, run_ok: Run, tmp_path: Path) -> None:
    guest = Guest(tmp_path, "vda")
    ids = [protection.backup(guest)["id"] for _number in range(2)]
    for identifier in reversed(ids):
        arguments = {"repository": protection.repository, "domain_uuid": UUID, "state": "absent", "id": identifier}
        four_times(run_ok, "restore_point", arguments)
    assert run_ok("restore_point_info", {"repository": protection.repository, "domain_uuid": UUID})["latest"] is None


def test_secrets_in_small_files_are_not_shown(protection: Protection, run_module: Run, tmp_path: Path) -> None:
    guest = Guest(tmp_path, "vda")
    secret = "<graphics passwd='correct horse battery staple'/>"
    arguments = {
        "repository": protection.repository,
        "domain_uuid": UUID,
        "id": protection.backup(guest)["id"],
        "token": "0" * 32,
        "disks": [{"name": "vda", "level": "full"}],
        "files": [{"name": "domain.xml", "content": secret}],
    }
    failed = run_module("restore_point", arguments)
    assert failed["failed"]
    assert secret not in str(failed)


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("restore_point", {"state": "staged"}, "domain_name"),
        ("restore_point", {"state": "present", "id": "20261123T021500Z-7f3a"}, "token"),
        ("restore_point", {"state": "absent"}, "id: '' is missing; say which"),
        ("restore_point", {"state": "gone"}, "staged, present, absent"),
        ("restore_point", {"state": "absent", "id": "../x"}, "id: '../x' is not the id of a restore point"),
        ("restore_point", {"domain_uuid": "web", "state": "absent", "id": "20261123T021500Z-7f3a"}, "virsh domuuid"),
        ("restore_point_info", {"domain_name": "web"}, "mutually exclusive"),
        ("backup_repository", {"path": "/etc"}, "is not empty"),
    ],
)
def test_wrong_parameters(
    tmp_path: Path, run_failed: Run, module: str, arguments: dict[str, t.Any], words: str
) -> None:
    (tmp_path / "repository.json").write_text('{"format": 1, "id": "4f1c09a2be77"}', encoding="utf-8")
    common = {} if module == "backup_repository" else {"repository": str(tmp_path), "domain_uuid": UUID}
    assert words in run_failed(module, {**common, **arguments})["msg"]
