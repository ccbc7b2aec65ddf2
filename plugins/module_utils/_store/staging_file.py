# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""``staging.json``: what a run set out to do, so that the next can clean up after it and ``present`` knows the plan.

It stays in the published restore point, where it lets a repeated ``present`` be recognised as the same.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.staging import PlannedDisk, Staging
from ansible_collections.virt.backup.plugins.module_utils._store.fields import Fields, show_moment
from ansible_collections.virt.backup.plugins.module_utils._store.files import dump_json, read_json
from ansible_collections.virt.backup.plugins.module_utils._store.layout import STAGING_FILE
from ansible_collections.virt.backup.plugins.module_utils._store.manifest import (
    identity_from_json,
    identity_to_json,
    skipped_from_json,
    skipped_to_json,
)

FORMAT = 1


def _disk_to_json(disk: PlannedDisk) -> dict[str, t.Any]:
    return {
        "name": disk.name,
        "level": disk.level.value,
        "reason": disk.reason,
        "base": disk.base,
        "incremental": disk.incremental,
        **identity_to_json(disk.identity),
        "bitmap": disk.bitmap,
    }


def _disk_from_json(fields: Fields) -> PlannedDisk:
    return PlannedDisk(
        name=fields.text("name"),
        level=fields.choice("level", Level),
        reason=fields.text("reason", ""),
        identity=identity_from_json(fields),
        base=fields.text("base", ""),
        incremental=fields.text("incremental", ""),
        bitmap=fields.flag("bitmap", True),
    )


def staging_bytes(staging: Staging) -> bytes:
    """Return the content of ``staging.json``."""
    return dump_json(
        {
            "format": FORMAT,
            "id": staging.id,
            "token": staging.token,
            "run": staging.run,
            "domain": {"uuid": staging.domain_uuid, "name": staging.domain_name},
            "checkpoint": staging.checkpoint,
            "socket": staging.socket,
            "created": show_moment(staging.created),
            "disks": [_disk_to_json(disk) for disk in staging.disks],
            "skipped": [skipped_to_json(disk) for disk in staging.skipped],
            "known_checkpoints": list(staging.known_checkpoints),
        }
    )


def read_staging(directory: str) -> Staging:
    """Read ``staging.json`` in a staging directory or a published restore point.

    Raises ``FileNotFoundError``, ``NotJson``, ``NewerFormat`` or ``BadFile``.
    """
    path = os.path.join(directory, STAGING_FILE)
    fields = Fields(read_json(path), path)
    fields.check_format(FORMAT)
    domain = fields.nested("domain")
    return Staging(
        id=fields.text("id"),
        token=fields.text("token"),
        checkpoint=fields.text("checkpoint"),
        domain_uuid=domain.text("uuid"),
        domain_name=domain.text("name"),
        created=fields.moment("created"),
        run=fields.text("run", ""),
        socket=fields.text("socket", ""),
        disks=tuple(_disk_from_json(disk) for disk in fields.each("disks")),
        skipped=tuple(skipped_from_json(disk) for disk in fields.each("skipped")),
        known_checkpoints=fields.texts("known_checkpoints"),
    )
