# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The place to which a disk is copied while its domain runs: whose it is, and what is kept of what was there.

libvirt makes the file under its own name. So an older file keeps a second name, ``.<name>.before-copy``, until the
domain runs on the new one; and ``.<name>.copying`` says which disk the file under the name is an incomplete copy of.
Without that, the same call after a kill could not tell its own half file from somebody's disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.block_device import capacity, lock_whole, open_device
from ansible_collections.virt.backup.plugins.module_utils._durable import is_there, sync_directory
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.disk_copy import CopyTarget


class CopyPlace:
    """One place. ``owner`` is the UUID of the domain."""

    def __init__(self, target: CopyTarget, parameter: str, owner: str) -> None:
        folder, name = os.path.split(target.dest)
        self.target = target
        self._parameter = parameter
        self._mark = f"{owner} {target.name}\n"
        self._old = os.path.join(folder, f".{name}.before-copy")
        self._copying = os.path.join(folder, f".{name}.copying")

    def check(self, size: int, *, overwrite: bool) -> None:
        """Refuse a place that can't be meant, is in use, or is too small for ``size`` bytes.

        :raises InputError: it is.
        """
        folder = os.path.dirname(self.target.dest)
        if not os.path.isdir(folder):
            raise self.refusal(f"has no directory {folder!r} on this host", "make it first")
        if self.target.kind == "block":
            self._check_device(size)
        elif is_there(self.target.dest):
            if not overwrite and not self._is_ours():
                raise self.refusal("is there already", "remove it, or set overwrite to true")
            self._check_unused()

    def prepare(self) -> None:
        """Make room for the file that libvirt makes; what is there keeps its content under a second name."""
        if self.target.kind == "block":
            return
        # The mark comes last: with it, what is under the name counts as ours to remove.
        if is_there(self.target.dest):
            if self._is_ours():
                os.unlink(self.target.dest)
            else:
                os.replace(self.target.dest, self._old)
        self._sync()
        self._write_mark()

    def settle(self) -> None:
        """Drop what was kept: the domain runs on the new file."""
        if self.target.kind == "file" and self._is_ours():
            self._remove(self._old)
            self._remove(self._copying)

    def give_back(self) -> None:
        """Remove the incomplete file, and give an older one its name again."""
        if self.target.kind == "file" and self._is_ours():
            self._remove(self.target.dest)
            if is_there(self._old):
                os.replace(self._old, self.target.dest)
            self._remove(self._copying)
            self._sync()

    def _is_ours(self) -> bool:
        """Whether the mark says that a copy of this very disk was begun here."""
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError), open(self._copying, encoding="ascii") as file:
            return file.read() == self._mark
        return False

    def _write_mark(self) -> None:
        new = f"{self._copying}.new"
        with open(new, "w", encoding="ascii") as file:
            file.write(self._mark)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._copying)
        self._sync()

    def _check_unused(self) -> None:
        try:
            fd = os.open(self.target.dest, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self.refusal(f"can't be opened ({error.strerror})", "name another file") from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise self.refusal("is no plain file", "name another place")
            lock_whole(fd, write=False)
        except OSError as error:
            raise self._in_use(error) from error
        finally:
            os.close(fd)

    def _check_device(self, size: int) -> None:
        if not is_there(self.target.dest):
            raise self.refusal("is not there", "name a block device of this host")
        try:
            fd = open_device(self.target.dest, os.O_RDONLY)
        except OSError as error:
            raise self._in_use(error) from error
        try:
            room = capacity(fd)
        finally:
            os.close(fd)
        if room < size:
            raise self.refusal(f"has room for {room} bytes, and the disk has {size}", "use a larger device")

    def _in_use(self, error: OSError) -> InputError:
        if error.errno == errno.EBUSY:
            return self.refusal("is in use, as by a running domain", "name another place")
        return self.refusal(f"can't be opened ({error.strerror})", "name another place")

    def refusal(self, problem: str, remedy: str) -> InputError:
        """Return the error that names the place, what is wrong with it, and what to do."""
        return InputError(self._parameter, self.target.dest, problem, remedy)

    def _sync(self) -> None:
        sync_directory(os.path.dirname(self.target.dest))

    @staticmethod
    def _remove(path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
