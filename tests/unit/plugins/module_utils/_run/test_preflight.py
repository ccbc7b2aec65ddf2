# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directories and files that are refused before a job begins. Needs root, as the modules do: who may enter is asked for real."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import time
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import BackupFacts, plan_backup
from ansible_collections.virt.backup.plugins.module_utils._decide.scratch import worst_case
from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest, DiskRequest
from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk, Domain
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.job import Server
from ansible_collections.virt.backup.plugins.module_utils._model.scratch import Room
from ansible_collections.virt.backup.plugins.module_utils._run.preflight import check_places, remove_leftovers
from ansible_collections.virt.backup.plugins.module_utils._run.preflight_scratch import check_scratch, unwatched

UUID = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"
SIZE = 64 << 20
NOBODY = (65534, 65534)


class Host:
    """A folder that stands for a hypervisor: two disks, a scratch directory and one for sockets."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.sockets = folder / "sockets"
        for path in (self.scratch, self.sockets):
            path.mkdir()
        self.disks = []
        for name in ("vda", "vdb"):
            self.image(name)
            self.disks.append(Disk(name, source=str(folder / name), format="qcow2", virtual_size=SIZE))
        self.qemu_ids: tuple[int, int] | None = None
        self.rooms: tuple[Room, ...] = ()

    def image(self, name: str, fmt: str = "qcow2", size: int = SIZE) -> pathlib.Path:
        subprocess.run(["qemu-img", "create", "-q", "-f", fmt, str(self.folder / name), str(size)], check=True)
        return self.folder / name

    @property
    def socket(self) -> pathlib.Path:
        return self.sockets / "a.sock"

    def derived(self, name: str) -> pathlib.Path:
        return self.scratch / f"virt-backup-{UUID}-{name}.qcow2"

    def check(self, *disks: DiskRequest, **options: t.Any) -> list[str]:
        """Check a pull backup of the first disk, or of the disks that are given."""
        pull = options.get("mode", "pull") == "pull"
        defaults: dict[str, t.Any] = {"scratch_dir": str(self.scratch), "disks": disks or (DiskRequest("vda"),)}
        if pull:
            defaults["server"] = Server(socket=str(self.socket))
        request = BackupRequest("qemu:///system", "web", **{**defaults, **options})
        domain = Domain("web", UUID, tuple(self.disks), qemu_ids=self.qemu_ids)
        plan = plan_backup(request, BackupFacts(domain, {}, {}))
        leftovers = check_places(request, plan, domain)
        self.rooms = check_scratch(request, plan, domain, leftovers)
        return leftovers

    def refusal(self, *disks: DiskRequest, **options: t.Any) -> str:
        with pytest.raises(InputError) as caught:
            self.check(*disks, **options)
        return caught.value.message


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def loop(tmp_path: pathlib.Path) -> t.Iterator[str]:
    (tmp_path / "device").write_bytes(b"")
    os.truncate(tmp_path / "device", SIZE)
    yield (device := _attached(tmp_path / "device"))
    subprocess.run(["losetup", "-d", device], check=True)


def _attached(file: pathlib.Path) -> str:
    """Attach a loop device; others on this machine do too, so a free one may be gone when losetup takes it."""
    deadline = time.monotonic() + 10
    while True:
        done = subprocess.run(["losetup", "-f", "--show", file], check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
        assert time.monotonic() < deadline, done.stderr


def scratch(path: object, **options: t.Any) -> DiskRequest:
    return DiskRequest("vda", scratch=str(path), **options)


def test_nothing_in_the_way(host: Host) -> None:
    assert host.check() == []


# Leftovers


def test_a_scratch_file_with_our_own_name_is_a_leftover(host: Host) -> None:
    host.derived("vda").touch()
    host.derived("vdb").touch()
    assert host.check() == [str(host.derived("vda"))]
    remove_leftovers(host.check())
    assert host.check() == []
    assert host.derived("vdb").exists()


def test_a_directory_or_a_link_with_our_own_name_is_none(host: Host) -> None:
    host.derived("vda").mkdir()
    assert "exists already" in host.refusal()
    host.derived("vda").rmdir()
    host.derived("vda").symlink_to(host.folder / "vdb")
    assert "exists already" in host.refusal()


def test_a_file_with_any_other_name_is_none(host: Host) -> None:
    (host.scratch / "a").touch()
    assert host.refusal(scratch(host.scratch / "a")).startswith(
        f"disks[0].scratch: '{host.scratch}/a' exists already; remove it"
    )


def test_a_dangling_link_is_in_the_way(host: Host) -> None:
    (host.scratch / "a").symlink_to("nowhere")
    assert "exists already" in host.refusal(scratch(host.scratch / "a"))


def test_a_leftover_that_cannot_be_removed(tmp_path: pathlib.Path) -> None:
    with pytest.raises(StateError, match="cannot be removed"):
        remove_leftovers([str(tmp_path)])


# Directories


def test_a_directory_that_is_missing(host: Host) -> None:
    assert host.refusal(scratch_dir="/nowhere").startswith("scratch_dir: '/nowhere' does not exist; create it")
    assert "disks[0].scratch: '/nowhere'" in host.refusal(scratch("/nowhere/a"))
    assert "server.socket: '/nowhere'" in host.refusal(server=Server(socket="/nowhere/a.sock"))
    assert "target_dir: '/nowhere'" in host.refusal(mode="push", target_dir="/nowhere")


def test_a_file_for_a_directory(host: Host) -> None:
    assert f"scratch_dir: '{host.folder}/vda' is not a directory" in host.refusal(scratch_dir=str(host.folder / "vda"))


def test_a_directory_that_qemus_user_cannot_enter(host: Host) -> None:
    """The parents count: what pytest gives us is closed to everybody else."""
    host.qemu_ids = NOBODY
    assert "cannot be entered by the user that QEMU runs as (uid 65534)" in host.refusal(
        server=Server("tcp", name="127.0.0.1", port=1)
    )
    assert f"server.socket: '{host.sockets}' cannot be written by the user" in host.refusal()


def test_a_directory_that_qemus_user_can_enter(host: Host) -> None:
    host.qemu_ids = NOBODY
    for path in (host.folder, *host.folder.parents[:-2], host.scratch):
        if path.stat().st_uid == os.getuid() and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o001)
    assert f"server.socket: '{host.sockets}' cannot be written by the user" in host.refusal()
    host.sockets.chmod(0o777)
    assert host.check() == []
    host.scratch.chmod(0o700)
    assert f"scratch_dir: '{host.scratch}' cannot be entered" in host.refusal()
    os.chown(host.scratch, -1, NOBODY[1])
    host.scratch.chmod(0o710)
    assert host.check() == []


# Space


def free(host: Host) -> int:
    vfs = os.statvfs(host.scratch)
    return vfs.f_bavail * vfs.f_frsize


def test_too_little_space_and_the_worst_case(host: Host) -> None:
    host.disks[0] = Disk("vda", source=str(host.folder / "vda"), format="qcow2", virtual_size=free(host) * 20)
    message = host.refusal()
    assert message.startswith(f"scratch_dir: '{host.scratch}' has ")
    assert (
        "are asked for (scratch_min_free: 10%); at worst, when all of disk vda is overwritten during the job,"
        in message
    )
    assert "choose a larger one, or lower scratch_min_free" in message
    assert host.check(scratch_min_free="1%") == []
    assert host.check(scratch_min_free="1M") == []
    assert host.rooms[0].may_run_full


def test_a_hundred_percent_is_the_worst_case_with_its_tables(host: Host) -> None:
    exactly = free(host) // 2
    host.disks[0] = Disk("vda", source=str(host.folder / "vda"), format="qcow2", virtual_size=exactly)
    assert host.check(scratch_min_free="100%") == []
    assert host.rooms[0].worst_case == worst_case(exactly) > exactly
    assert not host.rooms[0].may_run_full


def test_space_is_counted_for_all_disks_of_one_file_system(host: Host) -> None:
    size = free(host) * 7
    host.disks = [Disk(d.name, source=d.source, virtual_size=size) for d in host.disks]
    assert host.check(DiskRequest("vda")) == []
    assert "at worst, when all of disks vda, vdb are overwritten" in host.refusal(
        DiskRequest("vda"), DiskRequest("vdb")
    )
    assert [*host.check(DiskRequest("vda"), DiskRequest("vdb"), scratch_min_free="1%")] == []
    assert [(room.disks, room.worst_case) for room in host.rooms] == [(("vda", "vdb"), 2 * worst_case(size))]


def test_what_a_leftover_takes_is_free_once_it_is_removed(host: Host) -> None:
    host.derived("vda").write_bytes(bytes(8 << 20))
    os.sync()
    assert host.check() == [str(host.derived("vda"))]
    with_leftover = host.rooms[0].free
    remove_leftovers([str(host.derived("vda"))])
    before = free(host)
    assert abs(with_leftover - before) < 4 << 20


# Sockets


def test_a_file_where_the_socket_goes(host: Host) -> None:
    """QEMU unlinks what is there before it binds, be it the disk of another domain."""
    host.socket.touch()
    assert f"server.socket: '{host.socket}' exists and is no socket" in host.refusal()
    assert host.socket.exists()


def test_a_link_where_the_socket_goes(host: Host) -> None:
    host.socket.symlink_to("nowhere")
    assert "exists and is no socket" in host.refusal()


def test_a_socket_that_nobody_serves_any_more(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(host.socket))
    assert host.check() == []


def test_a_socket_that_somebody_serves(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(host.socket))
        server.listen()
        assert f"server.socket: '{host.socket}' is in use by another server" in host.refusal()


# Block devices


def test_a_block_device(host: Host, loop: str) -> None:
    assert host.check(scratch(loop, storage="block")) == []


@pytest.mark.parametrize(("path", "word"), [("/dev/nowhere", "No such file"), ("/dev/null", "is not a block device")])
def test_no_block_device(host: Host, path: str, word: str) -> None:
    assert word in host.refusal(scratch(path, storage="block"))


def test_a_block_device_that_is_the_domains_own_under_another_name(host: Host, loop: str) -> None:
    host.disks[1] = Disk("vdb", source_type="block", source=loop, format="qcow2", virtual_size=SIZE)
    other = host.folder / "node"
    os.mknod(other, 0o660 | 0o060000, os.stat(loop).st_rdev)
    assert "is the source of disk 'vdb' of the domain itself" in host.refusal(scratch(other, storage="block"))


def test_a_scratch_device_that_is_too_small(host: Host, loop: str) -> None:
    host.disks[0] = Disk("vda", source=str(host.folder / "vda"), format="qcow2", virtual_size=SIZE * 11)
    assert f"disks[0].scratch: '{loop}' has 64.0 MiB in all, and" in host.refusal(scratch(loop, storage="block"))
    assert host.check(scratch(loop, storage="block"), scratch_min_free="9%") == []
    assert "how full a device is cannot be watched" in unwatched(host.rooms)[0]
    host.disks[0] = Disk("vda", source=str(host.folder / "vda"), format="qcow2", virtual_size=SIZE // 2)
    host.check(scratch(loop, storage="block"))
    assert unwatched(host.rooms) == []


def test_a_raw_target_device_of_another_size(host: Host, loop: str) -> None:
    wish = DiskRequest("vda", target=loop, storage="block", driver="raw")
    assert host.check(wish, mode="push") == []
    host.disks[0] = Disk("vda", source=str(host.folder / "vda"), format="qcow2", virtual_size=SIZE - 512)
    assert f"has {SIZE} bytes, and disk 'vda' has {SIZE - 512}; give a device of exactly" in host.refusal(
        wish, mode="push"
    )


# TCP


def test_a_port(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        tcp = Server("tcp", name="127.0.0.1", port=port)
        message = host.refusal(server=tcp)
    assert message.startswith(f"server.port: {port} cannot be had on 127.0.0.1: Address already in use; choose another")
    assert host.check(server=tcp) == []
    assert host.check(server=tcp) == []


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("192.0.2.1", "is no address of the hypervisor"),
        ("a..b", "cannot be resolved"),
        ("a" * 64, "cannot be resolved"),
    ],
)
def test_a_name_that_is_not_ours(host: Host, name: str, word: str) -> None:
    message = host.refusal(server=Server("tcp", name=name, port=10809))
    assert message.startswith(f"server.name: '{name}' {word}")


# Files that exist and shall be used


def test_reuse(host: Host) -> None:
    path = host.image("scratch/mine")
    assert host.check(scratch(path), reuse_external=True) == []
    assert path.exists()


def test_reuse_of_what_is_not_there(host: Host) -> None:
    assert "does not exist; create it first" in host.refusal(scratch(host.scratch / "a"), reuse_external=True)


def test_reuse_of_another_size(host: Host) -> None:
    path = host.image("scratch/mine", size=SIZE // 2)
    assert f"has {SIZE // 2} bytes, and disk 'vda' has {SIZE}" in host.refusal(scratch(path), reuse_external=True)


def test_reuse_of_another_format(host: Host) -> None:
    path = host.image("scratch/mine", fmt="raw")
    assert "is no readable qcow2 image" in host.refusal(scratch(path), reuse_external=True)


def test_reuse_of_raw(host: Host) -> None:
    path = host.image("mine", fmt="raw")
    wish = DiskRequest("vda", target=str(path), driver="raw")
    assert host.check(wish, mode="push", reuse_external=True) == []


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_reuse_of_the_domains_own_disk_by_another_name(host: Host, link: str) -> None:
    path = host.scratch / "mine"
    getattr(path, link)(host.folder / "vdb")
    message = host.refusal(scratch(path), reuse_external=True)
    assert message.startswith(f"disks[0].scratch: '{path}' is the source of disk 'vdb' of the domain itself")
