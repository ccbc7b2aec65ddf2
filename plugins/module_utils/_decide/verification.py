# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Which restore points a verification has to look at, which it may leave out, and which ones a damage breaks. Pure."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog
    from ansible_collections.virt.backup.plugins.module_utils._model.verification import Depth, Verification


def lineage(catalog: Catalog, identifier: str, disk: str) -> list[str]:
    """Return the ids that a disk's image needs, its own first, down to the full one or to the first that is missing."""
    found = []
    current = identifier
    while current:
        found.append(current)
        point = catalog.point(current)
        entry = point.manifest.disk(disk) if point else None
        parent = entry.parent if entry else ""
        current = parent if parent < current else ""
    return found


def needed(catalog: Catalog, wanted: Iterable[str]) -> list[str]:
    """Return these restore points and all that they build on, parents first; what is missing is left out."""
    found: set[str] = set()
    for identifier in wanted:
        point = catalog.point(identifier)
        if point is not None:
            for disk in point.manifest.disks:
                found.update(lineage(catalog, identifier, disk.name))
            found.add(identifier)
    return sorted(identifier for identifier in found if catalog.point(identifier))


def broken_by(catalog: Catalog, identifier: str, disks: Sequence[str] = ()) -> list[str]:
    """Return all restore points that need that one's images of these disks, itself included; no disks means all."""
    return [
        point.id
        for point in catalog.points
        if any(
            identifier in lineage(catalog, point.id, disk.name)
            for disk in point.manifest.disks
            if not disks or disk.name in disks
        )
    ]


def is_fresh(
    record: Verification | None, depth: Depth, max_age: int, now: datetime.datetime, *, secret: bool = False
) -> bool:
    """Whether a restore point was found good, by a verification as deep as this one, within so many seconds.

    With a ``secret`` at hand, one that lacked it was not as deep.
    """
    if record is None or not record.good or not record.depth.covers(depth) or (secret and record.notes):
        return False
    return 0 <= (now - record.when).total_seconds() < max_age
