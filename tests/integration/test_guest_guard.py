# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scratch space that runs out under a real guest: the job ends before the guest meets an error.

Where it met one all the same, it goes on when the job has ended, on every path; not when the pause is somebody else's.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t
import uuid

import pytest
from integration import virt_kit as kit
from integration.protection import Protection, attempt_while
from integration.virt_kit import SOCKETS, Result
from lab.disks import MIB, Disk
from lab.guest import Guest
from lab.tools import call, virsh
from lab.wait import until

from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._run import backup_start

SIZE = 32 * MIB
ROOM = 16 * MIB
LOW_WATER = 8 * MIB
PAUSED, RUNNING = "paused (I/O error)", "running"

# Overwrites the disk from its beginning; each line of its output is a piece that was written, and an error ends it.
WRITES = "for i in $(seq 0 {last}); do dd if=/dev/zero of=/dev/vda bs=512k count=1 seek=$i oflag=direct 2>/dev/null{pace}; done"


@pytest.fixture(scope="module")
def running() -> t.Iterator[Guest]:
    """Return one running guest for all tests."""
    with Guest(f"guest-{uuid.uuid4().hex[:8]}", Disk("vda", size=SIZE)) as guest:
        guest.define()
        guest.start()
        guest.wait_for_agent()
        yield guest


@pytest.fixture
def guest(running: Guest) -> t.Iterator[Guest]:
    """Return the guest with a disk that is full of data: what is empty takes no room when it is overwritten."""
    if running.state == "shut off":
        running.start()
        running.wait_for_agent()
    running.write("vda", 0, SIZE, 0x5A)
    yield running
    kit.attempt("virt_backup", domain=running.name, state="stopped")
    for name in running.checkpoints():
        kit.run("virt_checkpoint", domain=running.name, name=name, state="absent")
    assert kit.nothing_left(running)
    if running.state != "shut off":
        virsh("resume", running.name, check=False)
        running.wait_for_agent(30)


@pytest.fixture
def scratch(workdir: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Return a small file system for scratch."""
    folder = workdir / "scratch"
    folder.mkdir()
    call("mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=0777", "none", folder)
    yield folder
    call("umount", folder)


class Writer:
    """A process in the guest that overwrites its disk; ``pace`` slows it down to 4 MiB/s at most."""

    def __init__(self, guest: Guest, *, pace: bool = False, size: int = SIZE, pid: int = 0) -> None:
        """Start it; or, with ``pid``, be one that was started elsewhere."""
        script = WRITES.format(last=size // MIB * 2 - 1, pace=" && sleep 0.125" if pace else "")
        options = {"path": "/bin/sh", "arg": ["-ec", script], "capture-output": True}
        self.pid = pid or int(guest.agent("guest-exec", **options)["return"]["pid"])
        self._guest = guest
        self.status: int | None = None

    def has_ended(self) -> bool:
        """Whether it has ended, with what exit status; the agent tells it once."""
        found = self._guest.agent("guest-exec-status", pid=self.pid)["return"]
        self.status = int(found["exitcode"]) if found["exited"] else None
        return self.status is not None


def state(guest: Guest) -> str:
    return virsh("domstate", guest.name, "--reason").strip()


def begin(guest: Guest, scratch: pathlib.Path, **options: t.Any) -> Result:
    return kit.backup(guest, scratch_dir=str(scratch), scratch_min_free="0%", **options)


def paused_by_its_writes(guest: Guest) -> Writer:
    """Have the guest write until it stands still; return the process that did."""
    writer = Writer(guest)
    until("an I/O error has paused the guest", lambda: state(guest) == PAUSED, 60)
    return writer


def goes_on(guest: Guest, writer: Writer) -> None:
    """See that the guest runs, and that it never heard of an error: what had failed was written again."""
    assert state(guest).startswith(RUNNING)
    guest.wait_for_agent(30)
    until("all is written", writer.has_ended, 60, step=0.2)
    assert writer.status == 0


def extraction(job: Result, dest: pathlib.Path) -> Result:
    """Return the parameters of a copy so slow that it never ends by itself."""
    image = {"uri": kit.disk_of(job, "vda")["uri"], "dest": str(dest)}
    return {"images": [image], "rate_limit": 64 * 1024, "timeout": 30}


def test_the_job_ends_before_the_guest_meets_an_error(
    guest: Guest, scratch: pathlib.Path, workdir: pathlib.Path
) -> None:
    job = begin(guest, scratch, lease=300, scratch_low_water="8M", checkpoint={"name": "ck"})
    room = job["scratch"][0]
    assert (room["place"], room["disks"], room["low_water"]) == (str(scratch), ["vda"], LOW_WATER)
    assert room["worst_case"] > SIZE > room["free"]
    writer = Writer(guest, pace=True, size=ROOM + 4 * MIB)
    states: set[str] = set()
    copy = attempt_while("nbd_extract", lambda: states.add(state(guest)), **extraction(job, workdir / "vda.qcow2"))
    assert copy["failed"]
    why = f"Scratch space in '{scratch}' ran low ("
    assert copy["msg"].startswith(why)
    assert " MiB left, 8.0 MiB wanted): the job was ended to protect the guest. images[0].uri: " in copy["msg"]
    goes_on(guest, writer)
    assert {found.partition(" ")[0] for found in states} == {RUNNING}
    assert virsh("domblkerror", guest.name, check=False).strip() in ("", "No errors found")
    foreseen = kit.end(guest, check=True)
    ended = kit.end(guest)
    for result in (foreseen, ended):
        assert (result["changed"], result["resumed"]) == (False, False)
        assert result["ended_early"].startswith(why)
        assert result["warnings"] == [result["ended_early"]]
    assert kit.end(guest)["ended_early"] == ""
    assert [*SOCKETS.iterdir(), *scratch.iterdir()] == []
    assert not (workdir / "vda.qcow2").exists()


def test_without_a_watch_a_full_scratch_pauses_the_guest_and_the_end_resumes_it(
    guest: Guest, scratch: pathlib.Path
) -> None:
    begin(guest, scratch)
    writer = paused_by_its_writes(guest)
    assert guest.has_job()
    ended = kit.end(guest)
    assert (ended["changed"], ended["resumed"], ended["ended_early"]) == (True, True, "")
    assert f"An I/O error had paused domain '{guest.name}' during the job, and it was resumed" in ended["warnings"][0]
    goes_on(guest, writer)


def test_the_guard_ends_the_job_of_a_guest_that_was_paused_and_resumes_it(guest: Guest, scratch: pathlib.Path) -> None:
    begin(guest, scratch, lease=300, scratch_low_water="0")
    writer = paused_by_its_writes(guest)
    until("the guard has resumed it", lambda: state(guest).startswith(RUNNING), 60)
    goes_on(guest, writer)
    ended = kit.end(guest)
    assert (ended["changed"], ended["resumed"]) == (False, True)
    assert ended["ended_early"].startswith("An I/O error paused the guest, perhaps on scratch space: the job was ended")
    assert ended["ended_early"].endswith("was resumed.")


def test_a_run_that_died_is_ended_by_its_lease_and_the_guest_goes_on(guest: Guest, scratch: pathlib.Path) -> None:
    """libvirt keeps the guard from seeing the pause before the lease is over: it stands still meanwhile."""
    begin(guest, scratch, lease=5, scratch_low_water="0")
    guard = int(next(SOCKETS.glob("*.lease")).read_text(encoding="ascii"))
    os.kill(guard, 19)
    try:
        writer = paused_by_its_writes(guest)
    finally:
        os.kill(guard, 18)
    until("the guard has resumed it", lambda: state(guest).startswith(RUNNING), 60)
    goes_on(guest, writer)
    until("the guard has gone", lambda: not [*SOCKETS.glob("*.lease")])
    kit.end(guest)


def test_a_begin_that_fails_later_resumes_the_guest(
    guest: Guest, scratch: pathlib.Path, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_handle: object, _planned: object) -> t.NoReturn:
        (workdir / "writer").write_text(str(paused_by_its_writes(guest).pid), encoding="ascii")
        raise StateError("this failed.")

    monkeypatch.setattr(backup_start, "_begun_job", fail)
    options = {"scratch_dir": str(scratch), "scratch_min_free": "0%", "checkpoint": {"name": "ck"}}
    sentence = kit.refusal("virt_backup", domain=guest.name, **options)
    assert sentence.startswith("this failed. While cleaning up: An I/O error had paused domain")
    goes_on(guest, Writer(guest, pid=int((workdir / "writer").read_text(encoding="ascii"))))


def test_the_doctor_resumes_the_guest_of_a_run_that_died(
    guest: Guest, scratch: pathlib.Path, workdir: pathlib.Path
) -> None:
    protection = Protection(guest, workdir / "repository")
    run = protection.stage()
    protection.job |= {"scratch_dir": str(scratch), "scratch_min_free": "0%"}
    protection.begin(run)
    writer = paused_by_its_writes(guest)
    protection.break_lock()
    healed = kit.run("virt_backup_doctor", domain=guest.name, repository=str(protection.repository))
    assert healed["repairs"][0]["kind"] == "end_job"
    assert "during the job, and it was resumed" in healed["warnings"][0]
    goes_on(guest, writer)


def test_a_guest_that_was_paused_before_is_left_alone(guest: Guest, scratch: pathlib.Path) -> None:
    begin(guest, scratch)
    writer = paused_by_its_writes(guest)
    virsh("domjobabort", guest.name)
    until("the job has ended", lambda: not guest.has_job())
    assert state(guest) == PAUSED
    for options in ({}, {"lease": 300}):
        begin(guest, scratch, **options)
        ended = kit.end(guest)
        assert (ended["changed"], ended["resumed"], ended["warnings"]) == (True, False, [])
        assert state(guest) == PAUSED
    virsh("resume", guest.name)
    goes_on(guest, writer)


def test_a_guest_that_somebody_paused_meanwhile_is_left_alone(guest: Guest, scratch: pathlib.Path) -> None:
    begin(guest, scratch)
    virsh("suspend", guest.name)
    ended = kit.end(guest)
    assert (ended["resumed"], state(guest)) == (False, "paused (user)")


def test_a_note_that_is_not_ours_is_not_read(guest: Guest, workdir: pathlib.Path) -> None:
    """QEMU's user may write beside the socket."""
    secret = workdir / "secret"
    secret.write_text("nobody's business", encoding="ascii")
    note = SOCKETS / f"libvirt-{guest.uuid}.sock.note"
    note.symlink_to(secret)
    assert kit.end(guest)["ended_early"] == ""
    note.unlink()
    note.write_text("a lie", encoding="ascii")
    subprocess.run(["chown", "libvirt-qemu", str(note)], check=True)
    assert kit.end(guest)["ended_early"] == ""
    note.unlink()


def test_a_guest_that_shuts_down_in_mid_copy_costs_this_run_and_nothing_else(
    guest: Guest, workdir: pathlib.Path
) -> None:
    virsh("suspend", guest.name)
    protection = Protection(guest, workdir / "repository")
    protection.backup()
    virsh("resume", guest.name)
    guest.wait_for_agent(30)
    writer = Writer(guest, size=8 * MIB)
    until("the guest has written", writer.has_ended, 60, step=0.2)
    run = protection.stage()
    protection.begin(run)
    asked: list[int] = []

    def shut_down() -> None:
        if not asked:
            asked.append(1)
            guest.agent("guest-exec", path="/bin/sh", arg=["-c", "poweroff -f"])

    copy = attempt_while("nbd_extract", shut_down, **protection.extraction(run, rate_limit=MIB // 4, timeout=30))
    assert copy["failed"]
    until("the guest is off", lambda: guest.state == "shut off", 60)
    stopped = kit.run("virt_backup", **protection.job, state="stopped")
    assert (stopped["changed"], stopped["warnings"]) == (False, [])
    assert stopped["ended_early"] == f"Domain '{guest.name}' is off, and no job outlives its QEMU."
    for check in (True, False):
        gone = kit.refusal("virt_checkpoint", check=check, domain=guest.name, name=run.checkpoint, state="absent")
        assert "is not running" in gone
    place = {"repository": str(protection.repository), "domain_uuid": guest.uuid}
    assert kit.run("restore_point", **place, state="absent", token=run.plan["token"])["released"]
    protection.check_all()
    guest.start(paused=True)
    assert protection.backup().levels == {"vda": "incremental"}
    protection.check_all()
    for name in guest.checkpoints():
        kit.run("virt_checkpoint", domain=guest.name, name=name, state="absent")
    guest.destroy()
