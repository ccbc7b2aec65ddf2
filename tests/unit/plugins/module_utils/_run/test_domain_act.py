# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore that fails at any step leaves what was there before; real libvirt proves it in the integration tests."""

from __future__ import annotations

import errno
import pathlib
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, LibvirtFailure, StateError
from ansible_collections.virt.backup.plugins.module_utils._run import domain_act, domain_state
from ansible_collections.virt.backup.plugins.module_utils._run.domain_act import Plan, bring_back, set_going
from ansible_collections.virt.backup.plugins.module_utils._run.domain_source import from_content
from ansible_collections.virt.backup.plugins.module_utils._run.domain_state import Placement
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_record import Record, without_record
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._xml.definition_kit import UUID, domain

OLD, NEW = domain(top="<title>old</title>"), domain(top="<title>new</title>")


class Host:
    """A hypervisor with at most one domain, which is also its handle; ``fails`` names the call that does."""

    def __init__(self, xml: str = "", fails: str = "") -> None:
        self.xml, self.fails, self.running, self.saved, self.uuid = xml, fails, False, False, UUID
        self.persistent = True
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            self.fails = ""
            raise LibvirtFailure(name, 1, "no")

    def domains(self) -> list[Host]:
        return [self] if self.xml else []

    def define(self, xml: str) -> Host:
        self._call("define")
        self.xml = xml
        return self

    def definition(self, *, secure: bool) -> str:
        assert secure
        return self.xml

    def start(self, *, paused: bool) -> None:
        self.running = True
        self._call("start paused" if paused else "start")

    def destroy(self) -> None:
        self._call("destroy")
        self.running = False

    def undefine(self, *, keep_tpm: bool) -> None:
        self._call(f"undefine {keep_tpm}")
        self.xml = ""

    def is_persistent(self) -> bool:
        return self.persistent

    def keeps_tpm(self) -> bool:
        return True

    def is_active(self) -> bool:
        return self.running

    def has_saved_state(self) -> bool:
        return self.saved

    def drop_saved_state(self) -> None:
        self.saved = False


def plan(host: Host, folder: pathlib.Path, state: str = "running") -> Plan:
    (folder / "source").write_bytes(b"stored")
    (file,) = from_content(NEW, (("nvram", str(folder / "source")),), "").files
    placed = (Placement(file, str(folder / "nvram")),)
    existing: t.Any = host if host.xml else None
    return Plan(UUID, NEW, Record("id", "sha256:1"), placed, existing, state)


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail(host: Host, folder: pathlib.Path) -> BackupError:
    """Bring back, which has to fail, and return the error; all is as it was."""
    (folder / "nvram").write_bytes(b"older")
    wanted, before, xml = plan(host, folder), files(folder), host.xml
    with pytest.raises(BackupError) as caught:
        bring_back(t.cast(t.Any, host), wanted)
    assert (files(folder), host.running) == (before, False)
    assert without_record(host.xml) == without_record(xml) if xml else host.xml == ""
    assert caught.value.notes == []
    return caught.value


@pytest.mark.parametrize("existing", ["", OLD])
def test_a_definition_that_libvirt_refuses(tmp_path: pathlib.Path, existing: str) -> None:
    assert isinstance(fail(Host(existing, "define"), tmp_path), LibvirtFailure)


@pytest.mark.parametrize(("existing", "last"), [("", "undefine True"), (OLD, "define")])
def test_a_start_that_fails_halfway(tmp_path: pathlib.Path, existing: str, last: str) -> None:
    host = Host(existing, "start")
    fail(host, tmp_path)
    assert host.calls == ["define", "define", "start", "destroy", last]


def test_no_space_for_the_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(domain_state, "sync_directory", full)
    host = Host(OLD)
    error = fail(host, tmp_path)
    assert isinstance(error, StateError)
    assert f"could not be put in place: No space left on device ({tmp_path}); all is as it was" in error.message
    assert host.calls == []


def test_what_can_not_be_taken_back_is_told_and_the_rest_is(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(OLD, "start")
    (tmp_path / "nvram").write_bytes(b"older")
    wanted, before = plan(host, tmp_path), files(tmp_path)

    def refuses() -> t.NoReturn:
        raise LibvirtFailure("Stopping", 1, "no")

    monkeypatch.setattr(host, "destroy", refuses)
    with pytest.raises(LibvirtFailure) as caught:
        bring_back(t.cast(t.Any, host), wanted)
    assert caught.value.notes == ["the definition could not be taken back: Stopping failed: libvirt error 1: no."]
    assert files(tmp_path) == before


def test_all_is_well(tmp_path: pathlib.Path) -> None:
    host = Host(OLD)
    host.saved = True
    (tmp_path / "nvram").write_bytes(b"older")
    bring_back(t.cast(t.Any, host), plan(host, tmp_path, "restored"))
    assert (files(tmp_path)["nvram"], len(files(tmp_path)), host.saved) == (b"stored", 2, False)
    assert (without_record(host.xml), host.calls) == (without_record(NEW), ["define", "define"])


class Stuck:
    """A running domain that an error of a disk has paused; so many times more it stands still again."""

    name = "web"

    def __init__(self, times: int) -> None:
        self.times, self.resumed = times, 0

    def is_active(self) -> bool:
        return True

    def state(self) -> str:
        return "paused"

    def is_paused_by_io_error(self) -> bool:
        return self.resumed <= self.times

    def resume(self) -> None:
        self.resumed += 1


@pytest.mark.parametrize("times", [0, 1, 5])
def test_a_domain_that_stood_still_goes_on_when_what_it_reads_is_there_again(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_act, "_LOOK_SECONDS", 0)
    stuck = Stuck(times)
    set_going(t.cast(t.Any, stuck), "running")
    assert stuck.resumed == times + 1


def test_a_domain_that_stands_still_for_good_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain_act, "_LOOK_SECONDS", 0)
    with pytest.raises(StateError, match="stands still since a read or write of one of its disks fails"):
        set_going(t.cast(t.Any, Stuck(1000)), "running")


def test_only_what_runs_stands_still_on_errors() -> None:
    started: list[tuple[str, bool]] = []

    class Starting(Host):
        def start_as(self, xml: str, *, paused: bool) -> None:
            started.append((xml, paused))

    disk = "<disk type='file'><driver name='qemu' type='qcow2'/><source file='/a'/><target dev='vda'/></disk>"
    host = Starting(domain(disk))
    set_going(t.cast(t.Any, host), "paused", ["vda"])
    ((xml, paused),) = started
    assert paused
    assert 'error_policy="stop" rerror_policy="stop"' in xml
    assert "policy" not in host.xml
