# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Which restore point somebody means: one by its id, the newest, or the newest before a time. Pure."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point

LATEST = "latest"

_TIME = "%Y%m%dT%H%M%SZ"


def choose_point(catalog: Catalog, identifier: str, before: datetime.datetime | None) -> Point:
    """Return the restore point; ``identifier`` empty is the latest.

    A newest one that can't be read is refused and not passed over: who asks for the latest must not get an older moment
    without a word. Its time is known from its id.

    :raises InputError: there is none.
    :raises StateError: there is one, but its manifest can't be read.
    """
    times = {point.id: point.manifest.created for point in catalog.points}
    times.update({entry.id: _time_of(entry.id) for entry in catalog.unreadable})
    if before is not None:
        found = sorted(known for known, time in times.items() if time < before)
        parameter, problem = "before", "is earlier than every restore point of this domain"
        value = before.strftime(_TIME)
    else:
        found = sorted(times) if identifier in ("", LATEST) else [known for known in times if known == identifier]
        parameter, value, problem = "id", identifier or LATEST, "is no restore point of this domain"
    if not found:
        raise InputError(parameter, value, problem, "restore_point_info lists them")
    point = catalog.point(found[-1])
    if point is None:
        broken = next(entry for entry in catalog.unreadable if entry.id == found[-1])
        remedy = "bring its files back from a copy, or name an older restore point by id"
        raise StateError(f"id: {broken.id} can't be used: {broken.problem.rstrip('.')}; {remedy}.")
    return point


def _time_of(identifier: str) -> datetime.datetime:
    return datetime.datetime.strptime(identifier.partition("-")[0], _TIME).replace(tzinfo=datetime.timezone.utc)
