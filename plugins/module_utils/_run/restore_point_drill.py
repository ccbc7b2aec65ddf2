# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Whether a drill is due, and the record of one that was done."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.drill import passed_since
from ansible_collections.virt.backup.plugins.module_utils._decide.duration import seconds_of
from ansible_collections.virt.backup.plugins.module_utils._model.drill import CheckOutcome, DrillRecord
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import utc_now, world
from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import FoundPoint, PointRequest, find_point
from ansible_collections.virt.backup.plugins.module_utils._store.drilled import (
    read_drilled,
    to_json,
    write_drilled,
)
from ansible_collections.virt.backup.plugins.module_utils._store.fields import show_moment


@dataclasses.dataclass(frozen=True)
class DrillNote:
    """What a drill came to, as the one who did it tells. Without one the question is whether a drill is due."""

    passed: bool
    problem: str = ""
    seconds: float = 0.0
    checks: tuple[CheckOutcome, ...] = ()


def drill_of(point: PointRequest, max_age: str, note: DrillNote | None, *, check: bool) -> Outcome:
    """Record ``note``, or tell whether a drill is due: none of this domain passed within ``max_age``, such as ``30d``.

    :raises InputError: there is no such restore point, or no such age.
    """
    seconds_of("max_age", max_age)
    found = find_point(point)
    with world(f"repository {found.repository.path}"):
        return _question(found, max_age) if note is None else _record(found, note, check=check)


def _question(found: FoundPoint, max_age: str) -> Outcome:
    seconds = seconds_of("max_age", max_age)
    drills = [(point.id, record) for point in found.catalog.points for record in [read_drilled(point.path)] if record]
    last = passed_since(drills, seconds, utc_now())
    if last:
        reason = f"a drill of {last[0]} passed at {show_moment(last[1].when)}, which is within {max_age}"
    elif seconds:
        reason = f"no drill of this domain passed within {max_age}"
    else:
        reason = "no maximum age is set, so every run is a drill"
    result: dict[str, t.Any] = {
        "restore_point": found.as_result(),
        "due": last is None,
        "reason": reason,
        "drill": to_json(last[1]) if last else None,
    }
    return Outcome(False, result)


def _record(found: FoundPoint, note: DrillNote, *, check: bool) -> Outcome:
    before = read_drilled(found.point.path)
    record = DrillRecord(utc_now(), note.passed, note.problem, note.seconds, note.checks)
    if not check:
        write_drilled(found.point.path, record)
    shown = to_json(record)
    result = {"restore_point": found.as_result(), "due": False, "reason": "a drill was recorded", "drill": shown}
    return Outcome(True, result, to_json(before) if before else {}, shown)
