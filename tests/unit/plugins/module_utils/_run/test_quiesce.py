# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Freezing around a begin: the guest thaws on every path, and a wish to try never fails a backup."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, StateError
from ansible_collections.virt.backup.plugins.module_utils._run import quiesce
from ansible_collections.virt.backup.plugins.module_utils._run.quiesce import Freeze, foresee_freeze, frozen


class Guest:
    """A domain that writes down what was asked of it; what is in ``fails`` raises."""

    name, uuid, uri = "web", "uuid", "qemu:///system"

    def __init__(self, *fails: str, thawed_early: bool = False) -> None:
        self.fails = fails
        self.thawed_early = thawed_early
        self.log: list[str] = []

    def do(self, what: str) -> None:
        self.log.append(what)
        if what in self.fails:
            raise BackupError(f"{what} failed.")

    def freeze(self) -> int:
        self.do("freeze")
        return 1

    def thaw(self) -> None:
        self.do("thaw")


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Freeze]:
    def attempt_on(guest: Guest, wish: str, *, has_agent: bool = True, body: str = "begin") -> Freeze:
        class Watchdog:
            def __init__(self, uri: str, uuid: str, seconds: float) -> None:
                guest.do("arm")

            def has_acted(self) -> bool:
                return guest.thawed_early

            def thawed(self) -> None:
                guest.do("disarm")

            def take_over(self) -> None:
                guest.do("take over")

        monkeypatch.setattr(quiesce, "ThawWatchdog", Watchdog)
        with frozen(guest, wish, Domain("web", "uuid", agent_connected=has_agent)) as outcome:  # type: ignore[arg-type]
            guest.do(body)
        return outcome

    return attempt_on


Attempt = t.Callable[..., Freeze]

# What fails, the wish, the order of things, whether it counts as frozen, and a word of the warning ("" for none).
PATHS = [
    ((), "never", True, "begin", False, ""),
    ((), "never", False, "begin", False, ""),
    ((), "try", True, "arm freeze begin thaw disarm", True, ""),
    ((), "require", True, "arm freeze begin thaw disarm", True, ""),
    ((), "try", False, "begin", False, "no connected guest agent"),
    (("freeze",), "try", True, "arm freeze begin thaw disarm", False, "freeze failed"),
    (("freeze", "thaw"), "try", True, "arm freeze begin thaw take_over", False, "freeze failed"),
    (("thaw",), "try", True, "arm freeze begin thaw take_over", True, "A watchdog goes on trying"),
    (("arm",), "try", True, "arm begin", False, "arm failed"),
]


@pytest.mark.parametrize(("fails", "wish", "agent", "log", "quiesced", "warning"), PATHS)
def test_paths(
    attempt: Attempt, fails: tuple[str, ...], wish: str, agent: bool, log: str, quiesced: bool, warning: str
) -> None:
    guest = Guest(*fails)
    outcome = attempt(guest, wish, has_agent=agent)
    assert " ".join(word.replace(" ", "_") for word in guest.log) == log
    assert outcome.quiesced is quiesced
    assert (outcome.seconds > 0) >= quiesced or outcome.seconds == 0
    assert warning in " ".join(outcome.warnings)
    assert bool(warning) is bool(outcome.warnings)


@pytest.mark.parametrize(
    ("fails", "agent", "log"),
    [
        (("freeze",), True, ["arm", "freeze", "thaw", "disarm"]),
        (("arm",), True, ["arm"]),
        ((), False, []),
    ],
)
def test_a_requirement_that_is_not_met_fails_before_the_begin(
    attempt: Attempt, fails: tuple[str, ...], agent: bool, log: list[str]
) -> None:
    guest = Guest(*fails)
    with pytest.raises(BackupError):
        attempt(guest, "require", has_agent=agent)
    assert guest.log == log


def test_no_agent_names_the_option_and_the_way_out(attempt: Attempt) -> None:
    with pytest.raises(
        StateError, match=r"quiesce: require cannot be met: .*; start qemu-guest-agent in it or use quiesce: try"
    ):
        attempt(Guest(), "require", has_agent=False)


@pytest.mark.parametrize("wish", ["try", "require"])
def test_a_begin_that_fails_thaws(attempt: Attempt, wish: str) -> None:
    guest = Guest("begin")
    with pytest.raises(BackupError, match="begin failed"):
        attempt(guest, wish)
    assert guest.log == ["arm", "freeze", "begin", "thaw", "disarm"]


def test_a_begin_and_a_thaw_that_fail_leave_the_watchdog(attempt: Attempt) -> None:
    guest = Guest("begin", "thaw")
    with pytest.raises(BackupError, match="begin failed"):
        attempt(guest, "try")
    assert guest.log[-2:] == ["thaw", "take over"]


def test_a_begin_that_takes_longer_than_a_guest_waits_does_not_count_as_frozen(attempt: Attempt) -> None:
    guest = Guest(thawed_early=True)
    outcome = attempt(guest, "try")
    assert (outcome.quiesced, outcome.seconds) == (False, quiesce._WATCHDOG_SECONDS)
    assert outcome.warnings[0].startswith(
        "Not frozen in the moment of the backup: the guest was thawed after 120 seconds"
    )
    assert guest.log == ["arm", "freeze", "begin", "thaw", "disarm"]


def test_a_begin_that_takes_longer_than_a_guest_waits_fails_where_a_freeze_is_required(attempt: Attempt) -> None:
    guest = Guest(thawed_early=True)
    with pytest.raises(StateError, match=r"quiesce: require was not met: .*; look at what keeps libvirt busy"):
        attempt(guest, "require")
    assert guest.log == ["arm", "freeze", "begin", "thaw", "disarm"]


AGENT, PAUSED = Domain("web", "uuid", agent_connected=True), Domain("web", "uuid", agent_connected=True, paused=True)


@pytest.mark.parametrize(
    ("domain", "word"), [(AGENT, ""), (PAUSED, "is paused"), (Domain("web", "uuid"), "no connected guest agent")]
)
def test_what_is_foreseen_without_asking_the_guest(domain: Domain, word: str) -> None:
    assert foresee_freeze(domain, "never") == []
    warnings = foresee_freeze(domain, "try")
    assert bool(warnings) is bool(word)
    assert word in " ".join(warnings)
    if word:
        with pytest.raises(StateError, match=f"quiesce: require cannot be met: .*{word}.*; .* or use quiesce: try"):
            foresee_freeze(domain, "require")
