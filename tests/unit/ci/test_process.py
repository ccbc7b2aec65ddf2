# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A step's command ends with everything that it started, in time, or the step is red."""

from __future__ import annotations

import signal
import typing as t
from pathlib import Path

import guard
import paths
import process
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> t.Iterator[None]:
    """Adopt orphans in this test's process, log elsewhere, and be impatient."""
    monkeypatch.setattr(paths, "LOGS", tmp_path)
    monkeypatch.setattr(process, "_GRACE", 0.3)
    process.adopt_orphans()
    yield
    process.adopt_orphans(adopt=False)


def test_the_output_of_each_command_comes_back_and_is_logged(tmp_path: Path) -> None:
    run = process.Commands("step", {})
    assert run("echo", "one") == "one\n"
    assert run("sh", "-c", 'echo "$X"', X="two") == "two\n"
    assert (tmp_path / "step.log").read_text() == "$ echo one\none\n$ sh -c 'echo \"$X\"'\ntwo\n"


@pytest.mark.parametrize(
    ("script", "limit", "reason"),
    [
        ("exit 3", 9.0, "sh ended with status 3"),
        ("kill -9 $$", 9.0, "sh ended with status -9"),
        ("sleep 60", 0.2, "did not end within"),
        ("trap '' TERM; sleep 60 & wait; wait", 0.2, "did not end within"),
        ("sleep 61 & exit 0", 9.0, "left processes behind: [0-9]+ sleep 61"),
        ("setsid -f sleep 62 >/dev/null 2>&1", 9.0, "left processes behind: [0-9]+ sleep 62"),
    ],
)
def test_red(script: str, limit: float, reason: str) -> None:
    with pytest.raises(guard.Red, match=reason):
        process.Commands("step", {})("sh", "-c", script, limit=limit)
    assert process.living_children() == []


def test_the_tail_is_the_end_of_the_log() -> None:
    run = process.Commands("step", {})
    run("seq", "200")
    assert run.tail(2) == "199\n200"


SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


@pytest.fixture
def deaf() -> t.Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_hears_signals_that_its_starter_ignored(number: signal.Signals) -> None:
    process.hear_signals()
    with pytest.raises(guard.Red, match=f"ended with status -{int(number)}$"):
        process.Commands("step", {})("python3", "-c", f"import os; os.kill(os.getpid(), {int(number)})", limit=9)


@pytest.mark.usefixtures("deaf")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_ends_the_command_as_well(number: signal.Signals) -> None:
    process.hear_signals()
    with pytest.raises(SystemExit):
        process.Commands("step", {})("sh", "-c", f"kill -{int(number)} $PPID; sleep 63", limit=9)
    assert process.living_children() == []
