# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Whether a backup is due at all: protection as a declared state. Pure."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.chain import chain_of

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.base_plan import DomainDisk
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog


@dataclasses.dataclass(frozen=True)
class Freshness:
    """Whether a backup is due, and the sentence why (not)."""

    due: bool
    reason: str


def freshness(disks: Sequence[DomainDisk], catalog: Catalog, max_age: int, now: datetime.datetime) -> Freshness:
    """Compare the newest restore point with what is wanted: every disk as it is now, ``max_age`` seconds old at most.

    0 means that a backup is always due. A restore point from the future proves nothing about its age.
    """
    if not max_age:
        return Freshness(True, "no maximum age is set, so every run makes a restore point")
    if not catalog.points:
        return Freshness(True, "the domain has no restore point in this repository yet")
    newest = catalog.points[-1]
    age = now - newest.manifest.created
    if age < datetime.timedelta(0):
        return Freshness(True, f"the newest restore point {newest.id} is from the future, so its age isn't known")
    if age.total_seconds() > max_age:
        return Freshness(
            True, f"the newest restore point {newest.id} is {_words(age)} old, more than {max_age} seconds"
        )
    for disk in disks:
        problem = _not_covered(disk, catalog, newest.id)
        if problem:
            return Freshness(True, f"the newest restore point {newest.id} does not protect {disk.name}: {problem}")
    return Freshness(
        False,
        f"the restore point {newest.id} is {_words(age)} old, which is within {max_age} seconds, and holds every disk",
    )


def _not_covered(disk: DomainDisk, catalog: Catalog, identifier: str) -> str:
    point = catalog.point(identifier)
    entry = point.manifest.disk(disk.name) if point else None
    if entry is None:
        return "it has no image of it"
    if entry.identity != disk.identity or entry.identity.another_file(disk.identity):
        return "it is another disk, or another size, now"
    return chain_of(catalog, identifier, disk.name).problem


def _words(age: datetime.timedelta) -> str:
    return f"{int(age.total_seconds())} seconds"
