# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Look at the room that scratch files have, before a job begins."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import place_option
from ansible_collections.virt.backup.plugins.module_utils._decide.scratch import check_room, mark_of, worst_case
from ansible_collections.virt.backup.plugins.module_utils._model.scratch import Room
from ansible_collections.virt.backup.plugins.module_utils._model.size import in_units
from ansible_collections.virt.backup.plugins.module_utils._run.preflight import device_size

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import BackupPlan
    from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
    from ansible_collections.virt.backup.plugins.module_utils._model.job import JobDisk
    from ansible_collections.virt.backup.plugins.module_utils._model.scratch import Mark


def check_scratch(
    request: BackupRequest, plan: BackupPlan, domain: Domain, leftovers: t.Collection[str]
) -> tuple[Room, ...]:
    """Return the rooms of a pull job's scratch; refuse one without room for what the guest may overwrite.

    ``leftovers`` are scratch files that are removed before the job begins, so what they take counts as free.
    """
    if request.mode != "pull":
        return ()
    together: dict[tuple[bool, int], list[JobDisk]] = {}
    for disk in plan.job.participating:
        is_device = disk.storage == "block"
        found = os.stat(disk.path if is_device else os.path.dirname(disk.path))
        together.setdefault((is_device, found.st_rdev if is_device else found.st_dev), []).append(disk)
    rooms = tuple(_room(request, disks, domain, leftovers) for disks in together.values())
    for room in rooms:
        check_room(room, request.scratch_min_free, request.scratch_low_water)
    return rooms


def _room(request: BackupRequest, disks: list[JobDisk], domain: Domain, leftovers: t.Collection[str]) -> Room:
    paths = [disk.path for disk in disks]
    is_device = disks[0].storage == "block"
    parameter = place_option(request, disks[0].name)
    place = paths[0] if is_device else os.path.dirname(paths[0])
    sources = [domain.disk(disk.name) for disk in disks]
    return Room(
        parameter=parameter,
        place=place,
        disks=tuple(disk.name for disk in disks),
        free=device_size(parameter, place) if is_device else _free(place, paths, leftovers),
        worst_case=sum(worst_case(source.virtual_size) for source in sources if source is not None),
        is_device=is_device,
    )


def _free(directory: str, paths: list[str], leftovers: t.Collection[str]) -> int:
    usage = os.statvfs(directory)
    to_be_removed = sum(os.lstat(path).st_blocks * 512 for path in paths if path in leftovers)
    return usage.f_bavail * usage.f_frsize + to_be_removed


def marks_of(request: BackupRequest, rooms: t.Iterable[Room]) -> list[Mark]:
    """Return what the guard of the job has to watch."""
    marks = [mark_of(room, request.scratch_low_water) for room in rooms]
    return [mark for mark in marks if mark is not None]


def rooms_result(request: BackupRequest, rooms: t.Iterable[Room]) -> list[dict[str, t.Any]]:
    """Return the rooms as the module's result tells them."""
    found = []
    for room in rooms:
        mark = mark_of(room, request.scratch_low_water) if request.lease else None
        found.append(
            {
                "place": room.place,
                "disks": list(room.disks),
                "free": room.free,
                "worst_case": room.worst_case,
                "low_water": mark.low_water if mark else 0,
            }
        )
    return found


def unwatched(rooms: t.Iterable[Room]) -> list[str]:
    """Return a warning for each block device that the job can fill: nobody sees from outside how full it is."""
    return [
        f"{room.parameter}: {room.place!r} is smaller than what disk '{room.disks[0]}' can need at worst "
        f"({in_units(room.worst_case)}), and how full a device is cannot be watched; the guest stops when it is full."
        for room in rooms
        if room.is_device and room.may_run_full
    ]
