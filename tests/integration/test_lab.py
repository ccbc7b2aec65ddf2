# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab itself: what it promises to the other tests."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys

import pytest
from lab import processes, services
from lab.disks import KIB, MIB, Disk, cdrom, empty_cdrom
from lab.domains import Domains
from lab.errors import LabError, LeftoverError
from lab.guest import Guest
from lab.hypervisor import Hypervisor
from lab.node import NODES, TESTS
from lab.tools import call, content_hash, file_hash, image_info, same_content, virsh_names
from lab.wait import until

DOMAIN = "<domain type='qemu'><name>{}</name><memory>32768</memory><os><type>hvm</type></os></domain>"


def test_two_hypervisors_are_strangers() -> None:
    with Hypervisor("hv1") as one, Hypervisor("hv2") as two:
        for host in (one, two):
            assert host.run(["hostname"]).stdout.strip() == host.name
            host.run(["virsh", "-c", "qemu:///system", "define", "/dev/stdin"], input=DOMAIN.format(host.name))
            assert host.run(["virsh", "-c", "qemu:///system", "list", "--all", "--name"]).stdout.split() == [host.name]
        assert virsh_names("list", "--all", "--name") == []
        namespaces, folders = one._namespaces | two._namespaces, (one.folder, two.folder)
        assert processes.members(namespaces)
    assert processes.members(namespaces) == []
    assert not any(folder.exists() for folder in folders)


def test_what_outlives_a_hypervisor_is_named_and_removed() -> None:
    host = Hypervisor("careless")
    host.start()
    host.run(["truncate", "--size=1M", "/srv/images/disk"])
    loop = host.run(["losetup", "--find", "--show", "/srv/images/disk"]).stdout.strip()
    with pytest.raises(LeftoverError, match=loop):
        host.stop()
    assert "careless" not in call("losetup", "--list")
    assert not host.folder.exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_enter_passes_signals_on_and_tears_down(how: signal.Signals, tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "started"
    script = f"import pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(60)"
    argv = [str(TESTS / "lab" / "enter"), "--name", "signalled", "--", sys.executable, "-c", script]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    until("the command runs", mark.exists, 60)
    process.send_signal(how)
    assert process.wait(30) == 128 + how
    assert not list(NODES.glob("signalled-*"))


def test_enter_passes_the_exit_status_on() -> None:
    done = subprocess.run([TESTS / "lab" / "enter", "--", "sh", "-c", "exit 7"], check=False)
    assert done.returncode == 7


def test_a_killed_enter_takes_its_hypervisor_along(tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "pid"
    script = f"import os, pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(60)"
    argv = [str(TESTS / "lab" / "enter"), "--name", "killed", "--", sys.executable, "-c", script]
    process = subprocess.Popen(argv)
    until("the command runs", mark.exists, 60)
    (command,) = processes.children(processes.children(process.pid)[-1])
    namespaces = processes.namespaces(command) - processes.namespaces(os.getpid())
    process.kill()
    process.wait()
    until("its processes are gone", lambda: not processes.members(namespaces))
    with Hypervisor("next"):
        assert not list(NODES.glob("killed-*"))


def test_hosts_are_reached_over_ssh_and_go_when_told(tmp_path: pathlib.Path) -> None:
    hosts, inventory = [TESTS / "lab" / "hosts"], tmp_path / "inventory.json"
    name = ["--name", f"test-{os.getpid()}"]
    subprocess.run([*hosts, "up", *name, "--hosts", "2", "--inventory", inventory], check=True)
    try:
        members = json.loads(inventory.read_text())["all"]["children"]["hypervisors"]
        key = members["vars"]["ansible_ssh_private_key_file"]
        for host, variables in members["hosts"].items():
            ssh = ["ssh", *shlex.split(members["vars"]["ansible_ssh_common_args"]), "-i", key]
            asked = [*hosts, "exec", *name, "--", *ssh, f"root@{variables['ansible_host']}", "hostname; ip -br link"]
            answer = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
            assert answer.startswith(f"{host}\n")
            assert "eth0" not in answer
    finally:
        subprocess.run([*hosts, "down", *name], check=True)
    assert not pathlib.Path(key).exists()
    assert not inventory.exists()


def test_a_live_write_is_in_the_bitmap_and_in_the_copy(domains: Domains) -> None:
    domain = domains(Disk("vda", size=16 * MIB))
    domain.make_checkpoint("ck1", "vda")
    assert domain.dirty_bytes("ck1", "vda") == 0
    before = domain.frozen_copy("vda")
    domain.write("vda", MIB, 128 * KIB, pattern=0x42)
    assert domain.dirty_bytes("ck1", "vda") == 128 * KIB
    after = domain.frozen_copy("vda")
    assert after.read_bytes()[MIB : MIB + 128 * KIB] == b"\x42" * 128 * KIB
    assert "mismatch" in same_content(before, after)
    assert same_content(after, domain.live_source("vda")) == ""
    assert file_hash(after) == content_hash(domain.live_source("vda"))
    domain.discard("vda", MIB, 128 * KIB)
    assert same_content(before, domain.frozen_copy("vda")) == ""


def test_every_kind_of_disk_starts_and_takes_writes(domains: Domains) -> None:
    domain = domains(
        Disk("vda"),
        Disk("vdb", format="raw"),
        Disk("vdc", compat="0.10"),
        Disk("vdd", readonly=True),
        Disk("vde", kind="block", size=8 * MIB),
        Disk("vdf", kind="nbd", size=8 * MIB),
        Disk("vdg", transient=True),
        Disk("sda", bus="sata", cluster_size=4 * KIB),
        Disk("sdb", bus="scsi", serial="S-1"),
        cdrom("sdc"),
        empty_cdrom("sdd"),
    )
    for target in ("vda", "vdb", "vdc", "vde", "vdf", "vdg", "sda", "sdb"):
        domain.write(target, 0, 64 * KIB, pattern=0x11)
        assert domain.frozen_copy(target).read_bytes()[: 64 * KIB] == b"\x11" * 64 * KIB, target
    assert image_info(domain.disks["vdc"].image)["format-specific"]["data"]["compat"] == "0.10"


def test_disks_come_and_go_and_power_cycles_keep_bitmaps(domains: Domains) -> None:
    domain = domains()
    domain.attach(Disk("vdb", size=8 * MIB))
    domain.write("vdb", 0, MIB)
    domain.make_checkpoint("ck1", "vda", "vdb")
    domain.write("vda", 0, 64 * KIB)
    domain.power_cycle()
    assert domain.dirty_bytes("ck1", "vda") == 64 * KIB
    image = domain.detach("vdb").image
    assert domain.disk_element("vdb") is None
    assert image.exists()
    domain.kill()
    assert domain.state == "shut off"


def test_daemons_restart_and_stay_down_when_held(domains: Domains) -> None:
    domain = domains()
    first = services.pid_of("libvirtd")
    services.restart("libvirtd")
    assert services.pid_of("libvirtd") != first
    assert domain.state == "paused"
    with services.held_down("libvirtd"):
        assert services.pid_of("libvirtd") == 0
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(OSError, match=r"refused|No such"):
            probe.connect("/run/libvirt/libvirt-sock")
    assert domain.state == "paused"


def test_the_guest_works_on_its_disks_through_the_agent(guest: Guest) -> None:
    guest.make_filesystem("vda", "/data")
    guest.sh("echo one > /data/one; sync")
    assert guest.checksums("/data") == {"/data/one": hashlib.sha256(b"one\n").hexdigest()}
    assert guest.agent("guest-fsfreeze-freeze")["return"] == 1
    assert guest.agent("guest-fsfreeze-thaw")["return"] == 1
    guest.attach(Disk("vdb", size=64 * MIB))
    guest.make_filesystem("vdb", "/more")
    before = guest.live_source("vdb").stat().st_blocks
    guest.sh("dd if=/dev/urandom of=/more/big bs=1M count=16 2>/dev/null; sync")
    full = guest.live_source("vdb").stat().st_blocks
    guest.sh("rm /more/big; sync; fstrim /more")
    assert before <= guest.live_source("vdb").stat().st_blocks < full
    with pytest.raises(LabError, match="ended with 3: no"):
        guest.sh("echo no >&2; exit 3")
