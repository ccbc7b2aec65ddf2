# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""``drilled.json``: when a copy of a restore point was last booted, and what came of it. It is replaced as a whole."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._durable import sync_directory
from ansible_collections.virt.backup.plugins.module_utils._model.drill import CheckOutcome, DrillRecord
from ansible_collections.virt.backup.plugins.module_utils._store.fields import (
    BadFile,
    Fields,
    NewerFormat,
    show_moment,
)
from ansible_collections.virt.backup.plugins.module_utils._store.files import NotJson, read_sealed, sealed, write_file
from ansible_collections.virt.backup.plugins.module_utils._store.layout import DRILLED

FORMAT = 1


def to_json(record: DrillRecord) -> dict[str, t.Any]:
    """Return a drill as plain data; the time to recover is in milliseconds, a whole number."""
    checks = [{"name": entry.name, "passed": entry.passed, "reason": entry.reason} for entry in record.checks]
    return {
        "format": FORMAT,
        "when": show_moment(record.when),
        "passed": record.passed,
        "problem": record.problem,
        "milliseconds": round(record.seconds * 1000),
        "checks": checks,
    }


def from_json(data: t.Any, where: str) -> DrillRecord:
    """Read a drill. Raises ``NewerFormat`` or ``BadFile``."""
    fields = Fields(data, where)
    fields.check_format(FORMAT)
    return DrillRecord(
        when=fields.moment("when"),
        passed=fields.flag("passed"),
        problem=fields.text("problem", ""),
        seconds=fields.integer("milliseconds", 0) / 1000,
        checks=tuple(
            CheckOutcome(entry.text("name"), entry.flag("passed"), entry.text("reason", ""))
            for entry in fields.each("checks")
        ),
    )


def read_drilled(directory: str) -> DrillRecord | None:
    """Return the last drill of a restore point; one that can't be read proves nothing, and so is none."""
    path = os.path.join(directory, DRILLED)
    try:
        return from_json(read_sealed(path), path)
    except (FileNotFoundError, NotJson, BadFile, NewerFormat):
        return None


def write_drilled(directory: str, record: DrillRecord) -> None:
    """Replace the record of the last drill."""
    write_file(os.path.join(directory, DRILLED), [sealed(to_json(record))])
    sync_directory(directory)
