# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the demo tells while it goes, and how it compares a guest with what it was."""

from __future__ import annotations

import time

from lab.guest import Guest

Sums = dict[str, str]
"""The checksums of a guest's files by path, computed by the guest."""

MOUNTS = {"/data": "vda", "/more": "vdb"}
"""Where the guest has its disks, each with one ext4 file system."""

_BEGUN = time.monotonic()


def say(words: str) -> None:
    """Print a line of the story with the seconds since its begin."""
    print(f"{time.monotonic() - _BEGUN:6.1f} s  {words}", flush=True)


def mounts(expected: Sums) -> dict[str, str]:
    """Return the mount points, and the disks, of these files."""
    tops = {f"/{path.split('/')[1]}" for path in expected}
    return {folder: disk for folder, disk in MOUNTS.items() if folder in tops}


def same(guest: Guest, expected: Sums) -> bool:
    """Mount the disks of a guest that was brought back; return whether its files and checksums are those expected."""
    for folder, disk in mounts(expected).items():
        guest.mount(disk, folder)
    found = guest.checksums(*mounts(expected))
    for path in sorted(found.keys() | expected.keys()):
        if found.get(path) != expected.get(path):
            say(f"WRONG {path}: {found.get(path)} instead of {expected.get(path)}")
    return found == expected
