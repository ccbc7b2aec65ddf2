# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a machine is waited for, on a hypervisor that does what a test says."""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.drill import DrillRequest
from ansible_collections.virt.backup.plugins.module_utils._model.errors import LibvirtFailure
from ansible_collections.virt.backup.plugins.module_utils._model.libvirt_error import NO_DOMAIN
from ansible_collections.virt.backup.plugins.module_utils._run import drill as under_test

Result = dict[str, t.Any]


class Machine:
    """A domain that waits paused, as one connection sees it; what happened is in ``log``, which all of them share."""

    name, uuid, uri = "web-drill", "u", "test:///"

    def __init__(self, log: list[str], console: bytes, *, goes_off: bool) -> None:
        self.log, self.console, self.goes_off = log, console, goes_off

    def read_console(self, opened: t.Callable[[], None], heard: t.Callable[[bytes], None]) -> None:
        if not self.console:
            raise LibvirtFailure("Reading the serial console", 55, "no console")
        self.log.append("console")
        opened()
        heard(self.console)

    def state(self) -> str:
        return "paused"

    def resume(self) -> None:
        self.log.append("resume")

    def is_active(self) -> bool:
        if self.goes_off and "resume" in self.log:
            raise LibvirtFailure("Asking", NO_DOMAIN, "no domain")
        return True


class World:
    """What ``connect`` opens: each connection knows the machine by a handle of its own."""

    def __init__(self, console: bytes = b"", *, goes_off: bool = False) -> None:
        self.log: list[str] = []
        self.handles: list[Machine] = []
        self._console, self._goes_off = console, goes_off

    @contextlib.contextmanager
    def connect(self, _uri: str) -> t.Iterator[World]:
        self.handles.append(Machine(self.log, self._console, goes_off=self._goes_off))
        yield self

    def domain(self, _name: str) -> Machine:
        return self.handles[-1]


def held(monkeypatch: pytest.MonkeyPatch, world: World, **options: t.Any) -> Result:
    monkeypatch.setattr(under_test, "connect", world.connect)
    return under_test.drill(DrillRequest("test:///", "web-drill", agent=False, **options), check=False).result


def test_the_console_is_open_before_the_machine_goes_and_has_a_connection_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(b"login:\r\nready\r\n")
    result = held(monkeypatch, world, console="^ready$")
    assert (result["alive"], result["console"]) == (True, "login:\nready\n")
    assert (world.log, len(world.handles)) == (["console", "resume"], 2)


def test_a_console_that_can_not_be_read_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result = held(monkeypatch, World(), console="ready", timeout=1000)
    assert (result["passed"], "no console" in result["problem"]) == (False, True)


def test_a_transient_machine_that_goes_off_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    result = held(monkeypatch, World(b"panic", goes_off=True), console="ready", timeout=1000)
    assert result["problem"] == "the machine went off while it was waited for"
    assert (result["console"], result["screenshot"]) == ("panic", "")
