# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""How an image and its record get their names. The crash table is in ``docs/internals/extract.md``.

Both, and the list of digests where there is one, are complete and synced under names of their own before the first
of these steps:

* no image under the name yet: rename the record, the list, then the image. A kill between leaves a record and perhaps a
  list without an image, which say nothing;
* an image to be replaced: remove its record, rename the list, the image, the record. A kill between leaves an image
  without a record, which is never taken for unchanged.

Where there is no new list, one that an older image left is removed, so that it can't be taken for the new one's.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._durable import is_there, sync_directory

LIST_BUFFER = 256 * 1024


class Attributes(t.NamedTuple):
    """Owner, group (``-1`` leaves them as they are) and mode of the files."""

    uid: int
    gid: int
    mode: int


def record_path(dest: str) -> str:
    """Return where the record of an image is: ``vda.qcow2`` has ``vda.json``."""
    return os.path.splitext(dest)[0] + ".json"


def digests_path(dest: str) -> str:
    """Return where the list of the digests of an image is: ``vda.qcow2`` has ``vda.digests``."""
    return os.path.splitext(dest)[0] + ".digests"


def beside(dest: str) -> tuple[str, str, str]:
    """Return all names that belong to an image: its own, that of its record, that of its digests."""
    return dest, record_path(dest), digests_path(dest)


class Recorded(t.Protocol):
    """What can be written down beside an image, or beside what was made of one."""

    def as_dict(self) -> dict[str, t.Any]:
        """Return plain data for JSON."""


class Draft(t.Protocol):
    """What an image is until it is complete. ``fd`` is where to write, or -1 if that is no file of this machine."""

    fd: int
    begun: bool
    """Whether old content was destroyed: then a failure leaves something undefined."""

    def begin(self) -> None:
        """Get ready for the first write; called when all is known to fit."""

    def sync(self) -> tuple[int, int]:
        """Sync the content; return how many bytes it takes on its file system, and the length of the file."""

    def close(self) -> None:
        """Close, and remove what was not published."""

    def open_digests(self) -> t.BinaryIO | None:
        """Return the file for the digests of the image, or ``None`` where none is kept."""

    def write_record(self, record: Recorded) -> None:
        """Write the record, and sync it and the digests."""

    def publish(self) -> None:
        """Give everything its name, durably."""

    def withdraw(self) -> None:
        """Take back what :meth:`publish` did, as far as that leaves what was there before."""


class FileDraft:
    """The new image and its record, on their way to their names. Leaving the context removes what was not published."""

    def __init__(self, dest: str, attributes: Attributes) -> None:
        token = secrets.token_hex(4)
        folder, name = os.path.split(dest)
        self._folder = folder
        self._dest = dest
        self._image = os.path.join(folder, f".{name}.part-{token}")
        self._record = os.path.join(folder, f".{os.path.basename(record_path(dest))}.part-{token}")
        self._list = os.path.join(folder, f".{os.path.basename(digests_path(dest))}.part-{token}")
        self._digests: t.BinaryIO | None = None
        self._attributes = attributes
        self._replaces = False
        self._named: list[str] = []
        # Open to ourselves until it is complete: QEMU and direct writes open it a second time.
        self.fd = create(self._image, attributes._replace(mode=attributes.mode | 0o600))
        self.begun = False

    def begin(self) -> None:
        """Nothing to do: the file is new."""

    def sync(self) -> tuple[int, int]:
        """Give the image its mode and sync it; return how many bytes it takes on its file system, and its length."""
        os.fchmod(self.fd, self._attributes.mode)
        os.fsync(self.fd)
        stat = os.fstat(self.fd)
        return stat.st_blocks * 512, stat.st_size

    def close(self) -> None:
        """Close the image, and remove the files that still have their first names.

        A storage that fails here has failed the copy already, and that error is the one to tell.
        """
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)
        if self._digests:
            with contextlib.suppress(OSError):
                self._digests.close()
        take_away(self._image, self._record, self._list)

    def open_digests(self) -> t.BinaryIO:
        """Return the file for the digests of the image, buffered: what goes there are many small pieces."""
        fd = create(self._list, self._attributes)
        self._digests = os.fdopen(fd, "wb", buffering=LIST_BUFFER)
        return self._digests

    def write_record(self, record: Recorded) -> None:
        """Write the record, and sync it and the digests."""
        if self._digests:
            self._digests.flush()
            os.fsync(self._digests.fileno())
        fd = create(self._record, self._attributes)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(record.as_dict(), file, indent=2, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())

    def publish(self) -> None:
        """Give both their names, durably."""
        record = record_path(self._dest)
        self._replaces = is_there(self._dest)
        if not self._replaces:
            self._rename(self._record, record)
            self._publish_digests()
            self._rename(self._image, self._dest)
            return
        self._remove(record)
        self._publish_digests()
        self._rename(self._image, self._dest)
        self._rename(self._record, record)

    def withdraw(self) -> None:
        """Take back the names that were given; of an image that replaced another, only the record that vouches for it.

        A name that could not be made durable may be gone after the next power cut, and who asks again is told that all
        is well. So an error must not leave an image that a second call takes for complete.
        """
        record = record_path(self._dest)
        take_away(*(name for name in reversed(self._named) if name == record or not self._replaces))

    def _publish_digests(self) -> None:
        if self._digests:
            self._rename(self._list, digests_path(self._dest))
        else:
            self._remove(digests_path(self._dest))

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            sync_directory(self._folder)

    def _rename(self, path: str, name: str) -> None:
        os.rename(path, name)
        self._named.append(name)
        sync_directory(self._folder)


def take_away(*paths: str) -> None:
    """Remove what is there, as far as the storage lets us."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


def create(path: str, attributes: Attributes) -> int:
    """Create a file that nobody else can open before it has its owner and mode."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchown(fd, attributes.uid, attributes.gid)
        os.fchmod(fd, attributes.mode)
    except OSError:
        os.close(fd)
        os.unlink(path)
        raise
    return fd
