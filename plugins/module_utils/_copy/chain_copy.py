# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""One disk's way out of a repository: its chain, read in one pass by several workers, into a file or in place."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.chain_map import (
    MappedReader,
    MappedSource,
    open_image,
)
from ansible_collections.virt.backup.plugins.module_utils._copy.chain_shortcut import Shortcut
from ansible_collections.virt.backup.plugins.module_utils._copy.crew import FirstError
from ansible_collections.virt.backup.plugins.module_utils._copy.ends import EndError, EndUnfit, FileEnd, Means
from ansible_collections.virt.backup.plugins.module_utils._copy.engine import Job, Totals, Worker
from ansible_collections.virt.backup.plugins.module_utils._copy.pace import DEPTH, Pace
from ansible_collections.virt.backup.plugins.module_utils._copy.reflink import ReadError
from ansible_collections.virt.backup.plugins.module_utils._copy.registry import open_end
from ansible_collections.virt.backup.plugins.module_utils._copy.source import FullSource
from ansible_collections.virt.backup.plugins.module_utils._copy.status import Progress
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError, ToolError
from ansible_collections.virt.backup.plugins.module_utils._nbd import ALLOCATION, Cancelled, Connection, NbdError
from ansible_collections.virt.backup.plugins.module_utils._qemu import ChainMap, ChainServer

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.ends import End
    from ansible_collections.virt.backup.plugins.module_utils._copy.engine import Reader
    from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Draft
    from ansible_collections.virt.backup.plugins.module_utils._copy.reflink import ImageFile
    from ansible_collections.virt.backup.plugins.module_utils._copy.transfer import Settings
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
    from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.stored_disk import StoredDisk


class Source(t.Protocol):
    """What is to be read."""

    extents: int

    def tasks(self) -> Iterator[t.Any]:
        """Yield the units of work."""


class Opened(t.NamedTuple):
    """A chain that is open: its tasks, one more reader of it with each call, and its images if they are all plain."""

    source: Source
    reader: Callable[[], Reader]
    files: Sequence[ImageFile] = ()


class Copied(t.NamedTuple):
    """What a copy did. ``stored`` in bytes of its file system, 0 in place; ``seconds`` to the end of the last sync."""

    totals: Totals
    extents: int
    stored: int
    seconds: float


class ChainCopy:
    """One disk. :meth:`run` belongs to one thread; :meth:`progress` and :meth:`stop` are for the others.

    ``parameter`` is how errors call the disk, such as ``disks[0]``; ``secret`` opens the chain. Of ``settings`` the
    encryption is not used: what is read back is plain.
    """

    def __init__(
        self,
        parameter: str,
        disk: StoredDisk,
        image: ImageRequest,
        settings: Settings,
        draft: Draft,
        secret: Encryption | None,
    ) -> None:
        self.disk = disk
        self.image = image
        self.draft = draft
        self.copied: Copied | None = None
        self._parameter = parameter
        self._settings = settings
        self._secret = secret if disk.encrypted else None
        self._cancel = threading.Event()
        self._errors = FirstError(self.stop)
        self._job: Job | None = None

    def stop(self) -> None:
        """End every wait of this disk soon."""
        self._cancel.set()

    def progress(self) -> Progress:
        """Return how far it is."""
        done, copied = (self._job.position, self._job.copied) if self._job else (0, 0)
        if self.copied:
            return Progress(self.image.dest, "done", self.disk.size, self.disk.size, copied)
        state = "failed" if self._cancel.is_set() else "copying"
        return Progress(self.image.dest, state, done, self.disk.size, copied)

    def check_room(self) -> None:
        """Raise :class:`InputError` where the disk does not fit; nothing is written."""
        self._open_end().close()

    def run(self) -> None:
        """Fill the draft and sync it; sets :attr:`copied`. Raises the first error after all threads ended."""
        began = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                opened = stack.enter_context(self._opened())
                end = stack.enter_context(contextlib.closing(self._open_end()))
                checksum = self._settings.checksum and bool(self.disk.content)
                cluster = self.image.cluster_size
                tasks = opened.source.tasks()
                job = Job(tasks, end, self.disk.size, explicit_zeroes=False, checksum=checksum, cluster=cluster)
                self._job = job
                self.draft.begin()
                self._work(job, opened)
                end.finish()
            stored = self.draft.sync()[0]
        except EndError as error:
            raise self._not_written(error.message.rstrip(".")) from error
        except (NbdError, ReadError, ToolError) as error:
            raise self._not_read(error.message.rstrip(".")) from error
        except OSError as error:
            raise self._not_written(str(error.strerror)) from error
        totals = job.totals()
        self._compare(totals)
        self.copied = Copied(totals, opened.source.extents, stored, round(time.monotonic() - began, 3))

    def _work(self, job: Job, opened: Opened) -> None:
        """Run the workers; one of them is this thread."""
        count = self._settings.connections
        pace = Pace(DEPTH, count, self._settings.budget)
        pace.answered(0.0)  # the images are on this machine, or QEMU is; no way to them is worth more blocks in flight

        shortcut = self._shortcut(job, opened)

        def work() -> None:
            Worker(job, opened.reader(), self._settings.limit, self._cancel, pace, shortcut).run()

        threads = [
            threading.Thread(target=self._errors.guard, args=(work,), daemon=True) for unused in range(count - 1)
        ]
        for thread in threads:
            thread.start()
        self._errors.guard(work)
        for thread in threads:
            thread.join()
        self._errors.raise_first()
        if self._cancel.is_set():
            raise Cancelled("stopped because another part of the call failed")

    def _shortcut(self, job: Job, opened: Opened) -> Shortcut | None:
        """Return what shares clusters with the images, unless they go past the page cache or into no new file."""
        source = opened.source
        if self._settings.direct or not isinstance(source, MappedSource) or not isinstance(job.end, FileEnd):
            return None
        return Shortcut(source, opened.files, job.end, job.cluster)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Opened]:
        """Open the chain: its images themselves where they are plain files, else through QEMU."""
        with contextlib.ExitStack() as stack:
            connect = None if self.disk.plain else self._serve(stack)
            if self.disk.encrypted and connect:
                first = connect((ALLOCATION,))
                yield Opened(FullSource(first, first.size, self.image.cluster_size), connect)
                return
            files = []
            for path in reversed(self.disk.paths):
                files.append(open_image(path))
                stack.callback(os.close, files[-1].fd)
            extents = stack.enter_context(contextlib.closing(ChainMap(self.disk.paths)))
            source = MappedSource(extents, self.disk.size, self.image.cluster_size)
            yield Opened(source, lambda: MappedReader(source, files, connect() if connect else None), files)

    def _serve(self, stack: contextlib.ExitStack) -> Callable[..., Connection]:
        """Start a server of the chain, and return what connects to it. It ends with this thread at the latest."""
        timeout = self._settings.timeout
        server = ChainServer(self.disk.paths, timeout, self._secret, clients=self._settings.connections + 1)
        stack.callback(server.stop)

        def connect(contexts: tuple[str, ...] = ()) -> Connection:
            # Simple replies: what reads as zero is not asked for, so telling it apart would only be in many pieces.
            connection = Connection(server.uri, contexts, timeout, self._cancel, structured=bool(contexts))
            stack.callback(connection.close)
            return connection

        return connect

    def _open_end(self) -> End:
        settings = self._settings
        means = Means("none", None, settings.timeout, self._cancel, settings.connections, settings.direct)
        try:
            return open_end(self.draft.fd, self.disk.size, self.image, means)
        except EndUnfit as error:
            raise InputError(f"{self._parameter}.dest", self.image.dest, error.message, error.remedy) from error

    def _compare(self, totals: Totals) -> None:
        """Refuse a content that is not the one that the restore point was published with."""
        if totals.digest and totals.digest != self.disk.content:
            where = self.disk.paths[-1]
            raise StateError(
                f"{self._parameter}: what {where!r} and the images below it hold is not the content of "
                f"{self.disk.name} that the restore point was published with; {self._outcome()}. "
                "restore_point_verify with content: true names the image."
            )

    def _outcome(self) -> str:
        if self.image.place.in_place:
            return f"{self.image.dest!r} is no copy of it"
        return "no file was replaced"

    def _not_read(self, said: str) -> StateError:
        where = f"the chain of {self.disk.name} up to {self.disk.paths[-1]!r}"
        return StateError(f"{self._parameter}.name: reading {where} failed: {said}; {self._outcome()}.")

    def _not_written(self, said: str) -> StateError:
        return StateError(f"{self._parameter}.dest: writing {self.image.dest!r} failed: {said}; {self._outcome()}.")
