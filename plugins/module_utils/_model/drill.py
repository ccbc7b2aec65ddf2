# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A drill: a machine from a backup boots, shows a sign of life, and answers the questions of its owner."""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    import datetime


@dataclasses.dataclass(frozen=True)
class Check:
    """A question: a command in the guest, by its agent, and what it has to answer.

    ``stdout`` is a regular expression that its output has to match, empty for any.
    """

    name: str
    command: tuple[str, ...]
    rc: int = 0
    stdout: str = ""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a command in the guest returned; ``problem`` says in words why that is none."""

    rc: int = -1
    stdout: str = ""
    stderr: str = ""
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class DrillRequest:
    """The parameters of ``virt_drill``; times in seconds. ``console`` is a regular expression, empty for none."""

    uri: str
    domain: str
    agent: bool = True
    console: str = ""
    checks: tuple[Check, ...] = ()
    timeout: float = 300.0
    check_timeout: float = 60.0
    screenshot: str = ""


@dataclasses.dataclass(frozen=True)
class CheckOutcome:
    """What came of one check."""

    name: str
    passed: bool
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class DrillRecord:
    """What came of a drill. ``seconds`` is the time from the command to a machine that lives: the time to recover."""

    when: datetime.datetime
    passed: bool
    problem: str = ""
    seconds: float = 0.0
    checks: tuple[CheckOutcome, ...] = ()
