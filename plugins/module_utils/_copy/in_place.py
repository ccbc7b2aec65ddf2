# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The draft of an image that is written in place. Its crash table is in ``docs/internals/extract.md``.

There is no commit point: from the first write on the old content is gone. So the record, wherever the user keeps it,
is removed before that and written anew at the end; in between there is none, and only ``force`` writes again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.publish import (
    LIST_BUFFER,
    Attributes,
    create,
    digests_path,
    take_away,
)
from ansible_collections.virt.backup.plugins.module_utils._durable import sync_directory

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Recorded

LIST = "-digests"


class InPlaceDraft:
    """A device (``fd`` is open) or an export (``fd`` is -1), and the record at ``record``, which may be empty."""

    def __init__(self, fd: int, record: str, attributes: Attributes) -> None:
        self.fd = fd
        self.begun = False
        self._record = record
        self._folder, name = os.path.split(record)
        self._new = os.path.join(self._folder, f".{name}.part-{secrets.token_hex(4)}") if record else ""
        self._list: t.BinaryIO | None = None
        self._attributes = attributes

    def begin(self) -> None:
        """Forget the old content, durably, before the first write."""
        self.begun = True
        for path in (self._record, digests_path(self._record)) if self._record else ():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                sync_directory(self._folder)

    def sync(self) -> tuple[int, int]:
        """Sync; return the bytes stored and the length of the file, of which there is none."""
        if self.fd >= 0:
            os.fsync(self.fd)
        return 0, 0

    def close(self) -> None:
        """Close, and remove a record that did not get its name."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # a storage that fails here has failed the copy already
                os.close(fd)
        if self._list:
            with contextlib.suppress(OSError):
                self._list.close()
        if self._new:
            take_away(self._new, self._new + LIST)

    def open_digests(self) -> t.BinaryIO | None:
        """Return the file for the digests, which lies beside the record."""
        if self._new:
            self._list = os.fdopen(create(self._new + LIST, self._attributes), "wb", buffering=LIST_BUFFER)
        return self._list

    def write_record(self, record: Recorded) -> None:
        """Write the record, if one is to be kept, and sync it and the digests."""
        if not self._new:
            return
        if self._list:
            self._list.flush()
            os.fsync(self._list.fileno())
        with open(create(self._new, self._attributes), "w", encoding="utf-8") as file:
            json.dump(record.as_dict(), file, indent=2, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())

    def publish(self) -> None:
        """Give the record its name, durably; the content is where it belongs."""
        if self._list:
            self._rename(self._new + LIST, digests_path(self._record))
        if self._new:
            self._rename(self._new, self._record)

    def withdraw(self) -> None:
        """Leave no record: the content stays what it is, and nothing vouches for it."""
        if self._record:
            take_away(self._record, digests_path(self._record))

    def _rename(self, path: str, name: str) -> None:
        os.rename(path, name)
        sync_directory(self._folder)
