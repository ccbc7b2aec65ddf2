# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""How much scratch space a job can need, must find before it begins, and must leave. Pure; sizes in bytes.

While a pull job runs, QEMU copies what the guest is about to overwrite into scratch, before the guest's write goes on.
When it cannot, the guest's write fails.
"""

from __future__ import annotations

import math

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.scratch import Mark, Room
from ansible_collections.virt.backup.plugins.module_utils._model.size import in_units, parse_size

MIB = 1024 * 1024

FLOOR = MIB
"""An empty qcow2 file takes 192 KiB; a disk whose scratch has less than this cannot even begin."""

LOW_WATER = 1024 * MIB
"""What a guest writes at 1 GiB/s from a look at the file system to the end of the job: a second, and mostly less."""

LOW_WATER_SHARE = 8
"""Which part of a smaller space is left alone instead: so that a job can begin where there is little of it."""

_SIZES = "give a size such as 2G"


def worst_case(virtual_size: int) -> int:
    """Return what scratch of a disk takes when the guest overwrites all of it.

    qcow2 with clusters of 64 KiB adds 8 bytes of L2 table and 2 of refcounts to each; the rest is a few clusters.
    """
    return virtual_size + virtual_size // 4096 + FLOOR


def check_sizes(min_free: str, low_water: str) -> None:
    """Refuse options that are no sizes."""
    _min_free(min_free, 0)
    _low_water(low_water, 0)


def _min_free(text: str, worst: int) -> int:
    number = text.strip()
    if number.endswith("%"):
        try:
            percent = float(number[:-1])
        except ValueError:
            percent = -1.0
        if 0 <= percent <= 100:
            return math.ceil(worst * percent / 100)
        raise InputError("scratch_min_free", text, "is no percentage", "give 0% to 100%, or a size such as 20G")
    size = parse_size(text)
    if size is None:
        raise InputError("scratch_min_free", text, "is no size", "give one such as 20G, or 10% of the disks' size")
    return size


def _low_water(text: str, free: int) -> int:
    if not text:
        return min(LOW_WATER, free // LOW_WATER_SHARE)
    size = parse_size(text)
    if size is None:
        raise InputError("scratch_low_water", text, "is no size", _SIZES)
    return size


def check_room(room: Room, min_free: str, low_water: str) -> None:
    """Refuse a place with less than is asked for, and say what the job can need there at worst."""
    wanted = max(_min_free(min_free, room.worst_case), FLOOR * len(room.disks))
    if room.free < wanted:
        problem = (
            f"has {in_units(room.free)} {'in all' if room.is_device else 'free'}, and {in_units(wanted)} are asked for "
            f"(scratch_min_free: {min_free}); {_at_worst(room)}"
        )
        remedy = "give a larger device" if room.is_device else "choose a larger one"
        raise InputError(room.parameter, room.place, problem, f"{remedy}, or lower scratch_min_free")
    mark = _low_water(low_water, room.free)
    if low_water and not room.is_device and room.free < mark + FLOOR * len(room.disks):
        problem = f"is more than what {room.place!r} leaves, which has {in_units(room.free)} free"
        raise InputError("scratch_low_water", low_water, problem, "lower it, or choose another scratch_dir")


def _at_worst(room: Room) -> str:
    disks = f"disk {room.disks[0]} is" if len(room.disks) == 1 else f"disks {', '.join(room.disks)} are"
    return f"at worst, when all of {disks} overwritten during the job, {in_units(room.worst_case)} are needed"


def mark_of(room: Room, low_water: str) -> Mark | None:
    """Return at which mark the job is to be ended, ``None`` where nothing is watched."""
    mark = 0 if room.is_device else _low_water(low_water, room.free)
    return Mark(room.place, mark) if mark else None
