# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage that is full, broken or read-only, to this process alone: system calls that meet a folder fail in turn."""

from __future__ import annotations

import builtins
import contextlib
import errno
import functools
import os
import typing as t
from unittest import mock

from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store import tries

if t.TYPE_CHECKING:
    import pathlib

MAKING = ("os.open", "os.mkdir", "os.link", "os.symlink", "os.pwrite", "os.fsync")
CHANGING = (*MAKING, "os.rename", "os.unlink", "os.rmdir", "os.fchmod", "os.fchown", "os.ftruncate")
READING = ("os.open", "os.listdir", "os.scandir", "os.stat", "os.lstat", "builtins.open")


class Fault(t.NamedTuple):
    """What fails, how, and whether everything of that kind goes on failing."""

    name: str
    calls: tuple[str, ...]
    number: int
    stays: bool = False


READ_ONLY = Fault("read-only from now on", CHANGING, errno.EROFS, stays=True)
FAULTS = (
    Fault("one call is out of space", MAKING, errno.ENOSPC),
    Fault("full from now on", MAKING, errno.ENOSPC, stays=True),
    Fault("one call meets a bad sector", CHANGING, errno.EIO),
    READ_ONLY,
    Fault("one read meets a bad sector", READING, errno.EIO),
)


class Storage:
    """The calls of this process to a repository, of which the one of ``number`` fails, and perhaps all after it."""

    def __init__(self, fault: Fault, number: int, folder: pathlib.Path) -> None:
        tries.count()
        self.met = 0
        self._fault, self._number, self._folder = fault, number, str(folder)

    @contextlib.contextmanager
    def at_work(self) -> t.Iterator[None]:
        """Wrap the calls."""
        with contextlib.ExitStack() as patches:
            for name in self._fault.calls:
                module, _dot, call = name.rpartition(".")
                original = getattr({"os": os, "builtins": builtins}[module], call)
                patches.enter_context(mock.patch(name, self._wrapped(call, original)))
            yield

    def _wrapped(self, name: str, call: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        @functools.wraps(call)
        def counted(*args: t.Any, **kwargs: t.Any) -> t.Any:
            if self._is_ours(name, args):
                self.met += 1
                if self.met == self._number or (self._fault.stays and self.met > self._number):
                    raise OSError(self._fault.number, os.strerror(self._fault.number))
            return call(*args, **kwargs)

        return counted

    def _is_ours(self, name: str, args: tuple[t.Any, ...]) -> bool:
        """Whether a call meets the repository; opening what is there needs no room and changes nothing."""
        place = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else str(args[name == "symlink"])
        if name == "open" and self._fault.calls is not READING and (not args[1] & os.O_CREAT or os.path.exists(place)):
            return False
        return place.startswith(self._folder)
