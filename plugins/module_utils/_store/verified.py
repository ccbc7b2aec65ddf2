# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""``verified.json``: when a restore point was last verified, how deep, and what came of it.

It lies beside the manifest, which never changes, and is replaced as a whole. Whether the images below are good is not
in it: they have a file of their own.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._durable import sync_directory
from ansible_collections.virt.backup.plugins.module_utils._model.verification import (
    Depth,
    DiskContent,
    FileDamage,
    Verification,
)
from ansible_collections.virt.backup.plugins.module_utils._store.fields import (
    BadFile,
    Fields,
    NewerFormat,
    show_moment,
)
from ansible_collections.virt.backup.plugins.module_utils._store.files import NotJson, read_sealed, sealed, write_file
from ansible_collections.virt.backup.plugins.module_utils._store.layout import VERIFIED

FORMAT = 1


def to_json(record: Verification) -> dict[str, t.Any]:
    """Return a verification as plain data."""
    return {
        "format": FORMAT,
        "when": show_moment(record.when),
        "depth": record.depth.value,
        "good": record.good,
        "damage": [
            {"file": entry.file, "disk": entry.disk, "problem": entry.problem, "depth": entry.depth.value}
            for entry in record.damage
        ],
        "content": [
            {"disk": entry.disk, "verified": entry.verified, "reason": entry.reason} for entry in record.content
        ],
        "errors": list(record.errors),
        "notes": list(record.notes),
    }


def from_json(data: t.Any, where: str) -> Verification:
    """Read a verification. Raises ``NewerFormat`` or ``BadFile``."""
    fields = Fields(data, where)
    fields.check_format(FORMAT)
    return Verification(
        when=fields.moment("when"),
        depth=fields.choice("depth", Depth, Depth.FILES.value),
        damage=tuple(
            FileDamage(
                entry.text("file"),
                entry.text("problem"),
                entry.text("disk", ""),
                entry.choice("depth", Depth, Depth.FILES.value),
            )
            for entry in fields.each("damage")
        ),
        content=tuple(
            DiskContent(entry.text("disk"), entry.flag("verified"), entry.text("reason", ""))
            for entry in fields.each("content")
        ),
        errors=fields.texts("errors"),
        notes=fields.texts("notes"),
    )


def read_verified(directory: str) -> Verification | None:
    """Return the last verification of a restore point; one that can't be read proves nothing, and so is none."""
    path = os.path.join(directory, VERIFIED)
    try:
        return from_json(read_sealed(path), path)
    except (FileNotFoundError, NotJson, BadFile, NewerFormat):
        return None


def write_verified(directory: str, record: Verification) -> None:
    """Replace the record of the last verification."""
    write_file(os.path.join(directory, VERIFIED), [sealed(to_json(record))])
    sync_directory(directory)
