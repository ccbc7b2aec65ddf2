# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""One image's way: connect, plan, copy with several workers, complete the file, sync it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.clean_check import CleanCheck, Terms
from ansible_collections.virt.backup.plugins.module_utils._copy.crew import FirstError
from ansible_collections.virt.backup.plugins.module_utils._copy.crowd import Crowd
from ansible_collections.virt.backup.plugins.module_utils._copy.ends import EndError, EndUnfit, Means
from ansible_collections.virt.backup.plugins.module_utils._copy.engine import Job, Worker
from ansible_collections.virt.backup.plugins.module_utils._copy.pace import LONE_DEPTH, Budget, Pace
from ansible_collections.virt.backup.plugins.module_utils._copy.registry import open_end
from ansible_collections.virt.backup.plugins.module_utils._copy.source import FullSource, IncrementalSource
from ansible_collections.virt.backup.plugins.module_utils._copy.status import Progress
from ansible_collections.virt.backup.plugins.module_utils._model.errors import (
    BackupError,
    InputError,
    StateError,
    ToolError,
)
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest, Mismatch, Record
from ansible_collections.virt.backup.plugins.module_utils._nbd import (
    ALLOCATION,
    BITMAP_PREFIX,
    Cancelled,
    Connection,
    NbdError,
)

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._copy.ends import End
    from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Draft
    from ansible_collections.virt.backup.plugins.module_utils._copy.rate import RateLimit
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption

PATIENCE = 10.0
"""Seconds to wait for any further connection before the first one does all the work."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all images of a call share. ``timeout`` in seconds; ``connections`` is the most that one image opens.

    ``clean_samples`` is how many clean clusters of each increment are compared with the chain below it.
    """

    connections: int
    timeout: float
    compression: str
    checksum: bool
    limit: RateLimit
    encryption: Encryption | None = None
    direct: bool = False
    clean_samples: int = 0
    budget: Budget = dataclasses.field(default_factory=Budget)


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a copy would do by the extents alone, in bytes: what it would read, and mark or leave as zero."""

    size: int
    bytes_to_read: int
    bytes_zero: int
    extents: int
    durable: bool = True


class Transfer:
    """One image. :meth:`run` belongs to one thread; :meth:`progress` and :meth:`stop` are for the others.

    ``parameter`` is how errors call the image, such as ``images[0]``. After :meth:`run` there is a ``record``, or a
    ``mismatch`` because of which there must be no image.
    """

    def __init__(
        self,
        parameter: str,
        image: ImageRequest,
        export: str,
        settings: Settings,
        draft: Draft | None = None,
        written_to: str = "",
    ) -> None:
        self.image = image
        self.draft = draft
        self.record: Record | None = None
        self.mismatch: Mismatch | None = None
        self._parameter = parameter
        self._export = export
        self._written_to = written_to
        self._settings = settings
        self._cancel = threading.Event()
        self._enough = threading.Event()
        self._errors = FirstError(self.stop)
        self._job: Job | None = None
        self._size = 0
        self._zeroes_known = False

    def stop(self) -> None:
        """End every wait of this image soon."""
        self._cancel.set()
        self._enough.set()

    def progress(self) -> Progress:
        """Return how far it is."""
        done, copied = (self._job.position, self._job.copied) if self._job else (0, 0)
        if self.record:
            return Progress(self.image.dest, "done", self._size, self._size, copied)
        state = "failed" if self._cancel.is_set() else "copying"
        return Progress(self.image.dest, state, done, self._size, copied)

    def forecast(self) -> Forecast:
        """Connect, ask for the extents and read nothing."""
        first = self._connect_first()
        try:
            durable = True
            if self.draft is not None:
                with contextlib.closing(self._open_end(self.draft.fd, first.size)) as end:
                    durable = end.durable
            reads = zeroes = 0
            source = self._source(first, first)
            for start, stop, zero in source.segments():
                if zero:
                    zeroes += stop - start
                else:
                    reads += stop - start
        except NbdError as error:
            raise self._failed(error) from error
        finally:
            first.close()
        zeroed = zeroes if self.image.bitmap else first.size - reads
        return Forecast(first.size, reads, zeroed, source.extents, durable)

    def run(self) -> None:
        """Fill the draft's image and sync it. Raises the first error after all threads ended."""
        if self.draft is None:
            raise AssertionError("Contract violation: a transfer without a draft can only forecast")
        began = time.monotonic()
        first = self._connect_first()
        self._size = first.size
        self._zeroes_known = ALLOCATION in first.contexts
        scanner = first
        try:
            scanner = self._connect_scanner(first)
            check = CleanCheck(self.image, self._settings.clean_samples)
            source = self._source(first, scanner, check)
            explicit, checksum = bool(self.image.bitmap), self._settings.checksum
            with contextlib.closing(self._open_end(self.draft.fd, first.size)) as end:
                self._job = Job(
                    source.tasks(),
                    end,
                    first.size,
                    explicit_zeroes=explicit,
                    cluster=self.image.cluster_size,
                    checksum=checksum,
                    digests=self._open_digests(self.draft),
                )
                self.draft.begin()
                self._work(self._job, first)
                end.finish()
                durable = end.durable
            terms = Terms(self._settings.encryption, self._settings.limit, self._settings.timeout, self._cancel)
            compared, self.mismatch = check.run(first, self._export, terms)
            if self.mismatch:
                return
            stored = self.draft.sync()
        except NbdError as error:
            raise self._failed(error) from error
        except (EndError, ToolError) as error:
            raise self._not_written(error.message.rstrip(".")) from error
        except OSError as error:
            raise self._not_written(str(error.strerror)) from error
        finally:
            first.close()
            if scanner is not first:
                scanner.close()
        record = self._make_record(self._job, source.extents, time.monotonic() - began, stored)
        self.record = dataclasses.replace(record, durable=durable, clean_compared=compared)

    def _open_end(self, fd: int, size: int) -> End:
        """Return the end; raises :class:`InputError` for one that can't take the disk."""
        settings = self._settings
        means = Means(
            settings.compression,
            settings.encryption,
            settings.timeout,
            self._cancel,
            settings.connections,
            settings.direct,
        )
        try:
            return open_end(fd, size, self.image, means)
        except EndUnfit as error:
            raise InputError(f"{self._parameter}.dest", self.image.dest, error.message, error.remedy) from error
        except EndError as error:
            remedy = "check that the server runs, serves this export and lets this user in"
            problem = f"can't be opened: {error.message}"
            raise InputError(f"{self._parameter}.dest", self.image.dest, problem, remedy) from error

    def _open_digests(self, draft: Draft) -> t.BinaryIO | None:
        """Return the file for the list of digests, or ``None`` for an encrypted image.

        Whoever reads the repository without the secret could tell by the digests of plain clusters that the guest has
        a file he knows, or guess a password in one of which he knows the rest.
        """
        return draft.open_digests() if self._settings.checksum and not self._settings.encryption else None

    def _work(self, job: Job, first: Connection) -> None:
        """Run the workers, each on a connection of its own while ``first`` goes on describing the disk.

        A server that lets only one client in gets one worker, which then shares ``first`` with the planning: both are
        in the same thread, because only whoever takes a task plans.
        """
        settings = self._settings
        crowd = Crowd(job, settings.connections, settings.limit, settings.budget, self._cancel)
        patience = min(settings.timeout, PATIENCE)
        connect = functools.partial(self._connect_more, settings.timeout)
        if not (self._several(first) and crowd.work(connect, patience, self._errors, self._enough)):
            pace = Pace(LONE_DEPTH, 1, settings.budget)
            self._errors.guard(Worker(job, first, settings.limit, self._cancel, pace).run)
        self._errors.raise_first()
        if self._cancel.is_set():
            raise Cancelled("stopped because another part of the call failed")

    def _connect_more(self, patience: float, *contexts: str) -> Connection | None:
        """Return one more connection, or ``None`` if the server does not give us one before it is needed no longer.

        Raises :class:`NbdError` if it leads to a disk of another size, which can't be the same one at the same moment.
        """
        try:
            # What is known to be zero is not read, so replies that tell zeroes apart would only be in many pieces.
            structured = bool(contexts) or not self._zeroes_known
            connection = Connection(self.image.uri, contexts, patience, self._enough, structured=structured)
        except (NbdError, Cancelled):
            return None
        if connection.size != self._size:
            connection.close()
            raise NbdError(f"the size of the export changed from {self._size} to {connection.size} bytes")
        connection.serve_until(self._cancel, self._settings.timeout)
        return connection

    def _connect_scanner(self, first: Connection) -> Connection:
        """Return what scans the disk for dirty ranges: a connection without ``base:allocation``, if there may be one.

        A server answers for all contexts of a connection, and for allocation it walks through the image's metadata,
        which over the whole disk costs the guest's storage far more than the bitmap does.
        """
        bitmap = BITMAP_PREFIX + self.image.bitmap
        if not self.image.bitmap or not self._several(first):
            return first
        scanner = self._connect_more(min(self._settings.timeout, PATIENCE), bitmap)
        if scanner is None or bitmap not in scanner.contexts:
            return first
        return scanner

    def _several(self, first: Connection) -> bool:
        return self._settings.connections > 1 and first.multi_conn

    def _source(
        self, first: Connection, scanner: Connection, check: CleanCheck | None = None
    ) -> FullSource | IncrementalSource:
        if not self.image.bitmap:
            return FullSource(first, first.size, self.image.cluster_size)
        clean = check.offer if check else None
        return IncrementalSource(scanner, first, self.image.bitmap, first.size, self.image.cluster_size, clean=clean)

    def _connect_first(self) -> Connection:
        """Connect and make sure that the bitmap was negotiated: without it everything would look clean."""
        bitmap = BITMAP_PREFIX + self.image.bitmap
        contexts = (ALLOCATION, bitmap) if self.image.bitmap else (ALLOCATION,)
        try:
            connection = Connection(self.image.uri, contexts, self._settings.timeout, self._cancel)
        except NbdError as error:
            remedy = "check that the server runs, serves this export and lets this user in"
            raise InputError(
                f"{self._parameter}.uri", self.image.uri, f"can't be opened: {error.message}", remedy
            ) from error
        if self.image.bitmap and bitmap not in connection.contexts:
            connection.close()
            remedy = "use the exportbitmap that virt_backup returned, or leave bitmap out to copy the whole disk"
            problem = f"is not offered by the server at {self.image.uri!r} as context {bitmap!r}"
            raise InputError(f"{self._parameter}.bitmap", self.image.bitmap, problem, remedy)
        return connection

    def _failed(self, error: BackupError) -> StateError:
        outcome = f"{self.image.dest!r} {'is incomplete' if self.image.place.in_place else 'was not written'}"
        remedy = "check the server and the storage behind it, then run again"
        said = f"{self._parameter}.uri: reading from {self.image.uri!r} failed: {error.message}"
        return StateError(f"{said}; {outcome}; {remedy}.")

    def _not_written(self, said: str) -> StateError:
        outcome = "" if self.image.place.in_place else "; what had that name before is untouched"
        remedy = "check space and health of its storage, then run again"
        return StateError(f"{self._parameter}.dest: writing {self.image.dest!r} failed: {said}{outcome}; {remedy}.")

    def _make_record(self, job: Job, extents: int, seconds: float, stored: tuple[int, int]) -> Record:
        totals = job.totals()
        return Record(
            source_id=self.image.source_id,
            export=self._export,
            level=self.image.level,
            format=self.image.format,
            bitmap=self.image.bitmap,
            backing_file=self.image.backing_file,
            backing_format=self.image.backing_format if self.image.backing_file else "",
            compression=self._settings.compression,
            size=job.size,
            bytes_copied=totals.copied,
            bytes_zeroed=totals.zeroed,
            bytes_stored=stored[0],
            file_bytes=stored[1],
            extents=extents,
            seconds=round(seconds, 3),
            digest=totals.digest,
            encryption=self.image.encryption,
            written_to=self._written_to,
        )
