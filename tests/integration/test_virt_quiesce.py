# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Freezing a real guest around the begin of a job: it thaws on every path, also when nobody of ours is left."""

from __future__ import annotations

import functools
import os
import signal
import socket
import time
import typing as t
import uuid

import pytest
from ansible.module_utils.testing import patch_module_args
from lab import services
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.guest import CHANNEL, Guest
from lab.tools import call, virsh
from lab.wait import until

from ansible_collections.virt.backup.plugins.module_utils import _libvirt
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._run import preflight, quiesce
from ansible_collections.virt.backup.plugins.modules import virt_backup
from ansible_collections.virt.backup.tests.integration import virt_kit as kit

NO_AGENT = "has no connected guest agent (channel org.qemu.guest_agent.0)"


@pytest.fixture(scope="module")
def running() -> t.Iterator[Guest]:
    """Return one running guest for all tests, with a mounted ext4 on vda."""
    with Guest(f"guest-{uuid.uuid4().hex[:8]}", Disk("vda", size=64 * MIB)) as guest:
        guest.define()
        guest.start()
        guest.wait_for_agent()
        guest.make_filesystem("vda", "/data")
        yield guest


@pytest.fixture
def guest(running: Guest) -> t.Iterator[Guest]:
    """Return the guest, thawed before and after, with nothing left of a test."""
    assert frozen(running) == "thawed"
    yield running
    assert frozen(running) == "thawed"
    running.sh("echo still writable > /data/after && sync", seconds=20)
    kit.end(running)
    for name in running.checkpoints():
        kit.run("virt_checkpoint", domain=running.name, name=name, state="absent")
    assert kit.nothing_left(running)


def frozen(guest: Guest) -> str:
    """Return what the agent says of the guest's file systems: ``frozen`` or ``thawed``."""
    return str(guest.agent("guest-fsfreeze-status")["return"])


def at_begin(monkeypatch: pytest.MonkeyPatch, act: t.Callable[[t.Callable[[], None]], None]) -> None:
    """Call ``act`` in place of libvirt's begin; it gets the true one to call or not."""
    begin = _libvirt.DomainHandle.begin_backup

    def instead(self: _libvirt.DomainHandle, *arguments: t.Any, **options: t.Any) -> None:
        act(functools.partial(begin, self, *arguments, **options))

    monkeypatch.setattr(_libvirt.DomainHandle, "begin_backup", instead)


@pytest.mark.parametrize("wish", ["try", "require"])
def test_the_job_begins_while_the_guest_is_frozen(guest: Guest, monkeypatch: pytest.MonkeyPatch, wish: str) -> None:
    seen: list[str] = []

    def look(begin: t.Callable[[], None]) -> None:
        seen.append(frozen(guest))
        begin()
        print(f"at begin the guest was {seen[-1]}")

    at_begin(monkeypatch, look)
    options = {"domain": guest.name, "quiesce": wish, "checkpoint": {"name": "ck1"}}
    assert not kit.run("virt_backup", check=True, **options)["quiesced"]
    printed = kit.printed_by_child(lambda: _module(options))
    assert "at begin the guest was frozen" in printed
    assert '"quiesced": true' in printed
    assert frozen(guest) == "thawed"
    assert guest.has_job()


def _module(options: dict[str, t.Any]) -> None:
    with patch_module_args(options):
        virt_backup.main()


def test_quiesced_and_how_long_are_told(guest: Guest) -> None:
    began = time.monotonic()
    job = kit.backup(guest, quiesce="require")
    took = time.monotonic() - began
    assert job["quiesced"] is True
    assert 0 < job["freeze_seconds"] < took
    again = kit.backup(guest, quiesce="require")
    assert (again["changed"], again["quiesced"]) == (False, False)


def test_never_does_not_freeze(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_libvirt.DomainHandle, "freeze", _must_not_be_called)
    job = kit.backup(guest, quiesce="never")
    assert (job["quiesced"], job["freeze_seconds"]) == (False, 0.0)


def _must_not_be_called(*_arguments: object) -> t.NoReturn:
    raise AssertionError


def test_what_the_guest_wrote_before_the_freeze_is_in_the_backup(guest: Guest) -> None:
    guest.sh("echo unsynced > /data/fresh")
    job = kit.backup(guest, quiesce="require")
    image = guest.folder / "export.raw"
    call("nbdcopy", kit.disk_of(job, "vda")["uri"], image)
    assert b"unsynced\n" in image.read_bytes()


def test_a_begin_that_fails_in_the_freeze_thaws(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_begin: t.Callable[[], None]) -> None:
        assert frozen(guest) == "frozen"
        raise BackupError("begin failed while the guest was frozen")

    at_begin(monkeypatch, fail)
    sentence = kit.refusal("virt_backup", domain=guest.name, quiesce="require", checkpoint={"name": "ck1"})
    assert sentence == "begin failed while the guest was frozen"
    assert frozen(guest) == "thawed"
    assert guest.checkpoints() == []


def test_a_begin_that_libvirt_refuses_thaws(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "check_server", lambda *_arguments: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = {"transport": "tcp", "name": "127.0.0.1", "port": other.getsockname()[1]}
        options = {"domain": guest.name, "quiesce": "require", "server": server, "checkpoint": {"name": "ck1"}}
        sentence = kit.refusal("virt_backup", **options)
    assert "Address already in use" in sentence
    assert frozen(guest) == "thawed"
    assert guest.checkpoints() == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_the_freeze_the_guest_thaws(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    def wait_to_be_killed(begin: t.Callable[[], None]) -> None:
        begin()
        while True:
            signal.pause()

    at_begin(monkeypatch, wait_to_be_killed)
    options = {"domain": guest.name, "quiesce": "require", "checkpoint": {"name": "ck1"}}
    pid, reading = kit.start_child(lambda: _module(options))
    try:
        until("the job has begun", guest.has_job)
        assert frozen(guest) == "frozen"
    finally:
        os.kill(pid, how)
        with open(reading, encoding="utf-8") as pipe:
            printed = pipe.read()
        os.waitpid(pid, 0)
    until("the guest is thawed", lambda: frozen(guest) == "thawed", 30)
    # Nobody was left to undo the one; the other undid what it had begun, and said so.
    assert guest.has_job() is (how is signal.SIGKILL)
    assert guest.checkpoints() == (["ck1"] if how is signal.SIGKILL else [])
    assert ("Interrupted by SIGTERM; what had been begun was undone." in printed) is (how is signal.SIGTERM)


BOUND = 3.0
"""How long the watchdog waits here, in place of two minutes."""


def slow_begin(guest: Guest, wish: str) -> kit.Result:
    """Begin while libvirtd stands still until the watchdog has acted; return the result of the module."""
    daemon = services.pid_of("libvirtd")
    stands_still, goes_on = os.pipe()

    def act(begin: t.Callable[[], None]) -> None:
        os.kill(daemon, signal.SIGSTOP)
        os.write(goes_on, b"!")
        begin()

    options = {"domain": guest.name, "quiesce": wish, "checkpoint": {"name": "ck1"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quiesce, "_WATCHDOG_SECONDS", BOUND)
        at_begin(patch, act)
        pid, reading = kit.start_child(kit.work_of("virt_backup", **options))
    os.read(stands_still, 1)
    frozen_at = time.monotonic()
    until("the guest has waited long enough", lambda: time.monotonic() - frozen_at > BOUND + 1, 2 * BOUND)
    os.kill(daemon, signal.SIGCONT)
    until("the guest is thawed", lambda: frozen(guest) == "thawed", 30)
    with open(reading, encoding="utf-8") as pipe:
        result = kit.result_in(pipe.read())
    os.waitpid(pid, 0)
    for descriptor in (stands_still, goes_on):
        os.close(descriptor)
    return result


def test_a_libvirtd_that_hangs_in_the_begin_does_not_count_as_frozen(guest: Guest) -> None:
    result = slow_begin(guest, "try")
    assert (result["failed"], result["quiesced"], result["freeze_seconds"]) == (False, False, BOUND)
    assert result["warnings"][0].startswith(
        "Not frozen in the moment of the backup: the guest was thawed after 3 seconds"
    )
    assert guest.has_job()


def test_a_libvirtd_that_hangs_in_the_begin_fails_what_requires_the_freeze(guest: Guest) -> None:
    result = slow_begin(guest, "require")
    assert result["msg"].startswith("quiesce: require was not met: the guest was thawed after 3 seconds, and the begin")
    assert kit.nothing_left(guest)


def test_a_begin_that_never_returns_thaws_within_the_bound(guest: Guest) -> None:
    """Whatever keeps it: nobody waits for the module."""

    def never(_begin: t.Callable[[], None]) -> None:
        while True:
            signal.pause()

    options = {"domain": guest.name, "quiesce": "require", "checkpoint": {"name": "ck1"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quiesce, "_WATCHDOG_SECONDS", BOUND)
        at_begin(patch, never)
        pid, _reading = kit.start_child(lambda: _module(options))
    try:
        until("the guest is frozen", lambda: frozen(guest) == "frozen")
        until("the guest is thawed", lambda: frozen(guest) == "thawed", BOUND + 10)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_thaw_that_fails_is_told_and_the_watchdog_does_it(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: _libvirt.DomainHandle) -> None:
        raise BackupError("The guest did not thaw.")

    monkeypatch.setattr(_libvirt.DomainHandle, "thaw", broken)
    job = kit.backup(guest, quiesce="require")
    assert any("The guest did not thaw." in warning for warning in job["warnings"])
    until("the guest is thawed", lambda: frozen(guest) == "thawed", 30)


def test_an_agent_that_cannot_freeze_is_a_warning_or_a_refusal_and_thaws(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze = _libvirt.DomainHandle.freeze

    def answer_lost(self: _libvirt.DomainHandle) -> int:
        freeze(self)
        raise BackupError("The answer to the freeze was lost.")

    monkeypatch.setattr(_libvirt.DomainHandle, "freeze", answer_lost)
    sentence = kit.refusal("virt_backup", domain=guest.name, quiesce="require", checkpoint={"name": "ck1"})
    assert sentence == "The answer to the freeze was lost."
    assert frozen(guest) == "thawed"
    assert kit.nothing_left(guest)
    job = kit.backup(guest, quiesce="try", checkpoint={"name": "ck1"})
    assert job["quiesced"] is False
    assert any("The answer to the freeze was lost." in warning for warning in job["warnings"])
    assert frozen(guest) == "thawed"


def test_a_paused_guest_cannot_freeze_and_is_thawed_when_it_goes_on(guest: Guest) -> None:
    virsh("suspend", guest.name)
    try:
        foreseen = kit.backup(guest, check=True, quiesce="try")
        job = kit.backup(guest, quiesce="try")
        assert foreseen["warnings"] == job["warnings"]
        assert "is paused" in job["warnings"][0]
        assert job["quiesced"] is False
        kit.end(guest)
        for check in (True, False):
            sentence = kit.refusal("virt_backup", check=check, domain=guest.name, quiesce="require")
            assert "is paused" in sentence
    finally:
        virsh("resume", guest.name)
    guest.wait_for_agent(30)


def test_a_checkpoint_is_made_while_the_guest_is_frozen(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    create = _libvirt.DomainHandle.create_checkpoint

    def looking(self: _libvirt.DomainHandle, *arguments: t.Any, **options: t.Any) -> None:
        assert frozen(guest) == "frozen"
        create(self, *arguments, **options)

    monkeypatch.setattr(_libvirt.DomainHandle, "create_checkpoint", looking)
    made = kit.run("virt_checkpoint", domain=guest.name, name="ck1", quiesce="require")
    assert made["quiesced"] is True
    assert made["freeze_seconds"] > 0
    assert frozen(guest) == "thawed"


# no agent


@pytest.fixture(scope="module")
def agentless() -> t.Iterator[LabDomain]:
    """Return a domain with the agent's channel and nobody at its other end."""
    made = Domains()
    yield made(Disk("vda"), devices=CHANNEL)
    made.close()


@pytest.mark.parametrize("module", ["virt_backup", "virt_checkpoint"])
def test_require_without_an_agent_is_refused_before_anything(agentless: LabDomain, module: str) -> None:
    stale = kit.SCRATCH / f"virt-backup-{agentless.uuid}-vda.qcow2"
    stale.touch()
    made = {"name": "ck1"} if module == "virt_checkpoint" else {"checkpoint": {"name": "ck1"}}
    for check in (True, False):
        sentence = kit.refusal(module, check=check, domain=agentless.name, quiesce="require", **made)
        assert sentence.startswith(f"quiesce: require cannot be met: domain '{agentless.name}' {NO_AGENT}")
    assert stale.exists()
    stale.unlink()
    assert kit.nothing_left(agentless)


def test_try_without_an_agent_goes_on_and_says_so(agentless: LabDomain) -> None:
    options = {"domain": agentless.name, "quiesce": "try"}
    foreseen = kit.run("virt_backup", check=True, **options)
    job = kit.run("virt_backup", **options)
    words = [f"Not frozen: domain '{agentless.name}' {NO_AGENT}; the backup is crash-consistent."]
    assert foreseen["warnings"] == job["warnings"] == words
    assert job["quiesced"] is False
    kit.end(agentless)
