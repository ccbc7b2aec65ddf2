# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A disk's new file, on its way to a name that an old one may have; ``docs/internals/restore.md`` has the crash table.

All files of a call are complete, synced and recorded before the first gets its name; from then on the old ones are kept
under names of their own until all have theirs, so that an error gives them back.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Attributes, create, take_away
from ansible_collections.virt.backup.plugins.module_utils._durable import sync_directory

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Recorded

_RANDOM = r"([0-9a-f]{8})"


def restored_path(dest: str) -> str:
    """Return where the record of a restored file is: ``web.qcow2`` has ``.web.qcow2.restored.json``."""
    folder, name = os.path.split(dest)
    return os.path.join(folder, f".{name}.restored.json")


def stamp_of(path: str) -> str:
    """Return what changes when somebody writes to a file or puts another in its place.

    Not the time of its inode: libvirt changes the owner when a domain starts and ends, which is no other content.
    """
    found = os.stat(path)
    return f"inode {found.st_ino}, {found.st_size} bytes, mtime {found.st_mtime_ns}"


class RestoredFile:
    """The new file and its record. Leaving it by :meth:`close` removes what did not get its name."""

    def __init__(self, dest: str, attributes: Attributes) -> None:
        token = secrets.token_hex(4)
        self._folder, name = os.path.split(dest)
        self._dest = dest
        self.image = os.path.join(self._folder, f".{name}.part-{token}")
        self._record = os.path.join(self._folder, f".{name}.restored.part-{token}")
        self._old = os.path.join(self._folder, f".{name}.old-{token}")
        self._existed = self._kept = self._published = False
        self._attributes = attributes
        # Open to ourselves until it is complete: direct writes open it a second time.
        self.fd = create(self.image, attributes._replace(mode=attributes.mode | 0o600))
        self.begun = False
        with contextlib.suppress(OSError):  # a file system without such locks: then nothing is swept there
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def begin(self) -> None:
        """Nothing to do: the file is new."""

    def sync(self) -> tuple[int, int]:
        """Give the image its mode and sync it; return how many bytes it takes on its file system, and its length."""
        os.fchmod(self.fd, self._attributes.mode)
        os.fsync(self.fd)
        found = os.fstat(self.fd)
        return found.st_blocks * 512, found.st_size

    def open_digests(self) -> None:
        """Return nothing: a disk in use has no list of digests beside it."""

    def write_record(self, record: Recorded) -> None:
        """Write the record and sync it."""
        with open(create(self._record, self._attributes), "w", encoding="utf-8") as file:
            json.dump(record.as_dict(), file, indent=2, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())

    def publish(self) -> None:
        """Give both their names, durably; what had the image's name stays under another until :meth:`forget_old`.

        The record first: it names the inode, so beside any other file it says nothing.
        """
        self._existed = os.path.lexists(self._dest)
        if self._existed:
            with contextlib.suppress(OSError):  # a file system without hard links: then an error can't give it back
                os.link(self._dest, self._old)
                self._kept = True
        os.rename(self._record, restored_path(self._dest))
        self._published = True
        os.rename(self.image, self._dest)
        sync_directory(self._folder)

    def withdraw(self) -> None:
        """Give the old file its name back, or remove the new one where there was none."""
        if not self._published:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(restored_path(self._dest))
        if self._kept:
            os.rename(self._old, self._dest)
            take_away(self._old)  # rename(2) does nothing between two names of one file
            self._kept = False
        elif not self._existed and not os.path.lexists(self.image):
            os.unlink(self._dest)
        sync_directory(self._folder)

    def forget_old(self) -> None:
        """Remove the old file: everything of the call has its name."""
        if self._kept:
            os.unlink(self._old)
            self._kept = False

    def close(self) -> None:
        """Close the image, and remove the files that still have their first names.

        An old file that could not be given its name back keeps the other one: it is all that is left of that disk.
        """
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # a storage that fails here has failed the copy already
                os.close(fd)
        take_away(self.image, self._record)
        if not self._published:
            take_away(self._old)


def publish_all(files: Sequence[RestoredFile]) -> None:
    """Give all files their names, or none; raises ``OSError`` after everything was given back."""
    try:
        for file in files:
            file.publish()
    except BaseException:
        for file in reversed(files):
            with contextlib.suppress(OSError):
                file.withdraw()
        raise
    for file in files:
        with contextlib.suppress(OSError):
            file.forget_old()


def sweep(dest: str) -> None:
    """Remove what a killed call left beside ``dest``: parts that nobody writes any more, old files that were replaced.

    Such a part may be as large as the disk, and its room is needed now.
    """
    folder, name = os.path.split(dest)
    pattern = re.compile(rf"\.{re.escape(name)}\.(part|old)-{_RANDOM}")
    for found in filter(None, map(pattern.fullmatch, os.listdir(folder))):
        path = os.path.join(folder, found[0])
        if os.path.lexists(dest) if found[1] == "old" else _is_abandoned(path):
            for left in (path, os.path.join(folder, f".{name}.restored.part-{found[2]}")):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(left)


def _is_abandoned(path: str) -> bool:
    """Whether nobody holds the lock of a part; its writer takes it when it makes the file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
