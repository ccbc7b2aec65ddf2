# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A job whose run has died ends by itself, on real libvirt; one whose run lives goes on for as long as it takes."""

from __future__ import annotations

import os
import pathlib
import signal
import time
import typing as t

import pytest
from integration import virt_kit as kit
from integration.kill_kit import CELLS, announcing
from integration.virt_kit import SCRATCH, SOCKETS, Result
from lab import services
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.wait import until

from ansible_collections.virt.backup.plugins.module_utils import _libvirt
from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._run import backup_start

LEASE = 5
"""The shortest there is."""


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    return domains(Disk("vda", size=8 * MIB))


@pytest.fixture
def server(domain: LabDomain) -> Result:
    return {"transport": "unix", "socket": str(SOCKETS / f"{domain.uuid}-1.sock")}


def begin(domain: LabDomain, server: Result, **options: t.Any) -> int:
    """Begin a job with a lease; return the process id of its switch."""
    kit.backup(domain, server=server, lease=LEASE, checkpoint={"name": "ck"}, **options)
    return switch_of(server)


def switch_of(server: Result) -> int:
    return int(pathlib.Path(f"{server['socket']}.lease").read_text(encoding="ascii"))


def is_there(pid: int) -> bool:
    """Whether a process lives; one that has ended and whose parent has not asked yet does not."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def nothing_left(pid: int) -> None:
    until("the switch has ended", lambda: not is_there(pid))
    assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []


def test_the_job_of_a_run_that_vanished_ends_and_its_checkpoint_stays(domain: LabDomain, server: Result) -> None:
    pid = begin(domain, server)
    assert domain.has_job()
    until("the job has ended by itself", lambda: not domain.has_job(), 60)
    nothing_left(pid)
    assert domain.checkpoints() == ["ck"]
    assert domain.state == "paused"


def test_a_module_that_is_killed_in_its_begin_leaves_no_job(domain: LabDomain, server: Result) -> None:
    cell = next(cell for cell in CELLS if cell.id == "7-begin-after-module")
    with announcing(cell) as stage:
        pid, reading = kit.start_child(kit.work_of("virt_backup", domain=domain.name, server=server, lease=LEASE))
        os.read(stage.announced[0], 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
    switch = switch_of(server)
    assert domain.has_job()
    until("the job has ended by itself", lambda: not domain.has_job(), 60)
    nothing_left(switch)


def test_a_slow_run_that_lives_is_left_alone(domain: LabDomain, server: Result, workdir: pathlib.Path) -> None:
    sign = workdir / "status.json"
    pid = begin(domain, server, signs_of_life=[str(sign)])
    began = time.monotonic()

    def lives() -> bool:
        sign.write_text(str(time.monotonic()), encoding="ascii")
        assert domain.has_job()
        return time.monotonic() - began > 3 * LEASE

    until("three leases have passed", lives, 6 * LEASE)
    assert is_there(pid)
    kit.end(domain, server=server)
    nothing_left(pid)


def test_a_second_call_is_a_sign_of_life(domain: LabDomain, server: Result) -> None:
    pid = begin(domain, server)
    lease = pathlib.Path(f"{server['socket']}.lease")
    before = lease.stat().st_mtime_ns
    again = kit.backup(domain, server=server, lease=LEASE, checkpoint={"name": "ck"})
    assert not again["changed"]
    assert lease.stat().st_mtime_ns > before
    kit.backup(domain, server=server, lease=LEASE, checkpoint={"name": "ck"}, check=True)
    kit.end(domain, server=server)
    nothing_left(pid)


def test_the_orderly_end_disarms_it(domain: LabDomain, server: Result) -> None:
    pid = begin(domain, server)
    kit.end(domain, server=server)
    nothing_left(pid)


def test_check_mode_and_a_begin_that_fails_leave_no_switch(domain: LabDomain, server: Result) -> None:
    kit.backup(domain, server=server, lease=LEASE, check=True)
    assert [*SOCKETS.iterdir()] == []
    taken = {"name": "vda", "scratch": str(SCRATCH / "nowhere" / "vda.qcow2")}
    kit.refusal("virt_backup", domain=domain.name, server=server, lease=LEASE, disks=[taken])
    with announcing(next(cell for cell in CELLS if cell.id == "7-begin-before-module-sigterm")) as stage:
        pid, reading = kit.start_child(kit.work_of("virt_backup", domain=domain.name, server=server, lease=LEASE))
        os.read(stage.announced[0], 1)
        switch = switch_of(server)
        os.kill(pid, signal.SIGTERM)
        with open(reading, encoding="utf-8") as pipe:
            assert "Interrupted by SIGTERM" in kit.result_in(pipe.read())["msg"]
        os.waitpid(pid, 0)
    assert not domain.has_job()
    nothing_left(switch)


def test_a_foreign_job_is_never_ended(domain: LabDomain, server: Result) -> None:
    pid = begin(domain, server)
    foreign = {"transport": "unix", "socket": str(SOCKETS / "foreign.sock")}
    lease = pathlib.Path(f"{server['socket']}.lease")
    # It stands still while one job takes the place of the other, as in the worst moment it would.
    os.kill(pid, signal.SIGSTOP)
    kit.end(domain, server=server)
    lease.write_text(f"{pid}\n", encoding="ascii")
    kit.backup(domain, server=foreign)
    os.kill(pid, signal.SIGCONT)
    until("the switch has ended", lambda: not is_there(pid), 60)
    assert domain.has_job()
    assert not lease.exists()
    kit.end(domain, server=foreign)
    nothing_left(pid)


def test_a_begin_that_cannot_end_its_job_leaves_the_switch_armed(
    domain: LabDomain, server: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job was begun, what follows fails, and so does the end of the job."""

    def fail(*_arguments: t.Any) -> t.NoReturn:
        raise StateError("this failed.")

    monkeypatch.setattr(backup_start, "_begun_job", fail)
    monkeypatch.setattr(_libvirt.DomainHandle, "abort_job", fail)
    kit.refusal("virt_backup", domain=domain.name, server=server, lease=LEASE)
    pid = switch_of(server)
    assert domain.has_job()
    until("the job has ended by itself", lambda: not domain.has_job(), 60)
    nothing_left(pid)


def test_a_libvirtd_that_hangs_holds_nobody(domain: LabDomain, server: Result) -> None:
    pid = begin(domain, server)
    daemon = services.pid_of("libvirtd")
    os.kill(daemon, signal.SIGSTOP)
    try:
        looks = pathlib.Path(f"/proc/{pid}/task")
        until("it asks libvirt, and waits", lambda: len([*looks.iterdir()]) > 1, 30)
        pathlib.Path(f"{server['socket']}.lease").unlink()
        until("the switch has ended", lambda: not is_there(pid), 10)
    finally:
        os.kill(daemon, signal.SIGCONT)
    services.wait_for("libvirtd")
    kit.end(domain, server=server)
    nothing_left(pid)


def test_a_job_on_a_port_has_its_switch_too(domain: LabDomain) -> None:
    server = {"transport": "tcp", "name": "127.0.0.1", "port": 10999}
    kit.backup(domain, server=server, lease=LEASE)
    pid = int((SOCKETS / f"{domain.uuid}-10999.lease").read_text(encoding="ascii"))
    until("the job has ended by itself", lambda: not domain.has_job(), 60)
    nothing_left(pid)


def test_it_ends_with_qemu(domain: LabDomain, server: Result) -> None:
    pid = begin(domain, server, signs_of_life=["/proc/uptime"])
    domain.kill()
    until("the switch has ended", lambda: not is_there(pid), 60)
    pathlib.Path(server["socket"]).unlink(missing_ok=True)
    nothing_left(pid)


def test_a_restart_of_libvirtd_does_not_save_a_dead_run(domain: LabDomain, server: Result) -> None:
    pid = begin(domain, server)
    services.restart("libvirtd")
    until("the job has ended by itself", lambda: not domain.has_job(), 60)
    nothing_left(pid)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lease": 4}, "lease: 4 is neither 0 nor between 5 seconds and 30 days; 900 suits most."),
        ({"lease": -1}, "lease: -1 is neither 0 nor"),
        ({"signs_of_life": ["/tmp/x"]}, "signs_of_life: ['/tmp/x'] is given without lease; give a lease, too."),
        ({"lease": 60, "signs_of_life": ["x"]}, "signs_of_life[0]: 'x'"),
        ({"lease": 60, "mode": "push", "target_dir": "/tmp"}, "lease: 60 is given in push mode; leave it out"),
    ],
)
def test_wrong_parameters(domain: LabDomain, options: Result, sentence: str) -> None:
    assert kit.refusal("virt_backup", domain=domain.name, **options).startswith(sentence)
