# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Whether a drill passed, in words. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.names import check_absolute, check_given
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError

if t.TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable

    from ansible_collections.virt.backup.plugins.module_utils._model.drill import (
        Answer,
        Check,
        DrillRecord,
        DrillRequest,
    )

_SHOWN = 200
"""Characters of an answer that an error shows."""


def check_drill(request: DrillRequest) -> None:
    """Refuse what can't be meant.

    :raises InputError: names the parameter.
    """
    if not request.agent and not request.console:
        raise InputError(
            "console", "", "leaves nothing to wait for", "give a line of the console, or set agent to true"
        )
    if request.checks and not request.agent:
        raise InputError("agent", False, "leaves nobody to run checks", "set it to true, or leave checks out")
    for name, value in (("timeout", request.timeout), ("check_timeout", request.check_timeout)):
        if value <= 0:
            raise InputError(name, value, "is no time", "give seconds, at least 1")
    _check_pattern("console", request.console)
    if request.screenshot:
        check_absolute("screenshot", request.screenshot)
    for index, entry in enumerate(request.checks):
        check_given(f"checks[{index}].name", entry.name, "a name for the report")
        _check_pattern(f"checks[{index}].stdout", entry.stdout)
        if not entry.command:
            raise InputError(
                f"checks[{index}].command", [], "is empty", "give a program of the guest and its arguments"
            )


def _check_pattern(parameter: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(
            parameter, pattern, f"is no regular expression ({error})", "mind its special characters"
        ) from error


def why_failed(check: Check, answer: Answer) -> str:
    """Return why an answer is not the one that was asked for, empty when it is."""
    if answer.problem:
        return answer.problem
    if answer.rc != check.rc:
        said = _short(answer.stderr or answer.stdout)
        return f"it returned {answer.rc} instead of {check.rc}" + (f": {said}" if said else "")
    if check.stdout and not re.search(check.stdout, answer.stdout, re.MULTILINE):
        return f"its output does not match {check.stdout!r}: {_short(answer.stdout) or 'it is empty'}"
    return ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def passed_since(
    drills: Iterable[tuple[str, DrillRecord]], max_age: int, now: datetime.datetime
) -> tuple[str, DrillRecord] | None:
    """Return the newest drill that passed within so many seconds, with its restore point's id; 0 lets none count."""
    recent = [
        (record.when, identifier, record)
        for identifier, record in drills
        if record.passed and 0 <= (now - record.when).total_seconds() < max_age
    ]
    if not recent:
        return None
    _when, identifier, record = max(recent, key=lambda entry: entry[:2])
    return identifier, record
