# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Owners and modes of all there is below a directory, and the umask that would have made them otherwise."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import typing as t


@contextlib.contextmanager
def umask(mask: int) -> t.Iterator[None]:
    """Let this process and its children create files under another mask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def open_to_others(
    top: pathlib.Path, *, directories: int = 0o700, files: int = 0o600, owner: tuple[int, int] = (0, 0)
) -> dict[str, str]:
    """Return what is not as it should be, by its path; a symbolic link has no rights of its own."""
    found = {}
    for path in (top, *top.rglob("*")):
        entry = path.lstat()
        if stat.S_ISLNK(entry.st_mode):
            continue
        wanted = directories if stat.S_ISDIR(entry.st_mode) else files
        if (stat.S_IMODE(entry.st_mode), (entry.st_uid, entry.st_gid)) != (wanted, owner):
            found[str(path.relative_to(top))] = f"{entry.st_mode:o} {entry.st_uid}:{entry.st_gid}"
    return found
