# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The end that is a qcow2 file written by QEMU: ``qemu-img create`` makes it, ``qemu-nbd`` serves it, libnbd fills it.

It costs more than writing the file ourselves, as all data passes through a second process. It is here for what only
QEMU can do, encryption, and as the cross-check of our own writer: both pass the same tests.

No backing image is opened, its name is only stored. So nothing of it can shine through where a piece of a cluster is
written, and the images below are neither locked nor, when they are encrypted, unlocked.
"""

from __future__ import annotations

import contextlib
import queue
import typing as t

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._model.errors import ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import round_up
from ansible_collections.virt.backup.plugins.module_utils._nbd import NbdError, Target

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.virt.backup.plugins.module_utils._copy.ends import Means

CLIENTS = 4
"""Requests at the same time. QEMU encrypts in at most four threads for one image."""

SECTOR = 512
"""What encrypted images are read and written in, and what every virtual size is rounded up to."""


class QemuFile:
    """A new qcow2 file behind a ``qemu-nbd`` of its own. Fulfils :class:`~.ends.End`.

    To be opened and closed by the same thread: the server ends with the thread that started it.
    """

    durable = True

    def __init__(self, fd: int, size: int, backing_file: str, backing_format: str, means: Means) -> None:
        self._size = round_up(size, SECTOR)
        self._targets: list[Target] = []
        self._idle: queue.SimpleQueue[Target] = queue.SimpleQueue()
        _qemu.create(fd, self._size, backing_file, backing_format, means.encryption)
        self._server = _qemu.ImageServer(fd, CLIENTS, means.timeout, means.encryption)
        try:
            with self._explained():
                # All of them at once: the server ends when it has no client left, and lets in no others.
                for _unused in range(CLIENTS):
                    self._targets.append(Target(self._server.uri, means.timeout, means.cancel))
        except BaseException:
            self.close()
            raise
        for target in self._targets:
            self._idle.put(target)
        self._server.hide()

    def write(self, offset: int, data: memoryview) -> None:
        """Store clusters, up to the end of the disk."""
        with self._target() as target:
            target.write(offset, data[: self._size - offset])

    def zero(self, start: int, end: int) -> None:
        """Mark whole clusters as zero."""
        with self._target() as target:
            target.zero(start, min(round_up(end, SECTOR), self._size) - start)

    def settled(self, offset: int) -> None:
        """Nothing is remembered here."""

    def finish(self) -> None:
        """Flush, leave, and wait until the server has written its last table and ended."""
        with self._explained():
            for target in self._targets:
                target.flush()
        self._leave()
        self._server.wait()

    def close(self) -> None:
        """End the server, whatever state it is in."""
        self._leave()
        self._server.stop()

    def _leave(self) -> None:
        while self._targets:
            self._targets.pop().close()

    @contextlib.contextmanager
    def _target(self) -> Iterator[Target]:
        target = self._idle.get()
        try:
            with self._explained():
                yield target
        finally:
            self._idle.put(target)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Tell errors of writing from errors of reading, and prefer the server's own words to those of libnbd."""
        try:
            yield
        except NbdError as error:
            told = self._server.complaint()
            raise ToolError(f"qemu-nbd could not write the image: {told or error.message}.") from error
