# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Disks out of a repository: check all, see what is there, copy all, and only then give them their names."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.chain_copy import ChainCopy
from ansible_collections.virt.backup.plugins.module_utils._copy.crew import run_all
from ansible_collections.virt.backup.plugins.module_utils._copy.rate import RateLimit
from ansible_collections.virt.backup.plugins.module_utils._copy.restored_file import (
    RestoredFile,
    publish_all,
    stamp_of,
    sweep,
)
from ansible_collections.virt.backup.plugins.module_utils._copy.status import Progress, StatusFile
from ansible_collections.virt.backup.plugins.module_utils._copy.transfer import Settings
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place
from ansible_collections.virt.backup.plugins.module_utils._qemu import ChainMap
from ansible_collections.virt.backup.plugins.module_utils._run import extract_checks as checks
from ansible_collections.virt.backup.plugins.module_utils._run import extract_in_place as in_place
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import read_encryption
from ansible_collections.virt.backup.plugins.module_utils._run.extract_signals import noted_signals
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import world
from ansible_collections.virt.backup.plugins.module_utils._run.restore_report import (
    DiskRequest,
    RestoreRequest,
    Target,
    report,
)
from ansible_collections.virt.backup.plugins.module_utils._run.restore_targets import (
    at_paths,
    called_disks,
    check_outside,
    current_stamp,
    hold,
    image_requests,
    observe,
    volumes_of,
)
from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import (
    check_digests,
    check_names,
    check_secret,
    find_point,
    stored_disks,
)
from ansible_collections.virt.backup.plugins.module_utils._run.volumes import find_volumes, show_volumes

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Draft
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
    from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
    from ansible_collections.virt.backup.plugins.module_utils._model.restored import RestoredRecord

MOST_IN_ALL = 64
"""Readers of a whole call."""

ENDED = "The restore was ended by {signal}; no file was replaced."


def restore(request: RestoreRequest, *, check: bool) -> Outcome:
    """Bring the disks to their places, unless they are there already.

    :raises InputError: something about the parameters, or about what they name, speaks against it.
    :raises StateError: a chain is not whole, or the copy failed; no file was replaced.
    """
    checks.check_numbers(request.connections, request.rate_limit, request.timeout)
    encryption = read_encryption(request.encryption)
    with world(f"repository {request.point.repository}"):
        found = find_point(request.point)
        wanted = request.disks
        if wanted is None:
            wanted = tuple(DiskRequest(disk.name) for disk in found.point.manifest.disks)
        check_names(found, [disk.name for disk in wanted])
        disks = stored_disks(found, [disk.name for disk in wanted])
    volumes = find_volumes(request.uri, volumes_of(wanted))
    images = image_requests(request, at_paths(wanted, volumes))
    check_outside(found.repository.path, request, images)
    targets = [observe(found, index, disk, image, request) for index, (disk, image) in enumerate(zip(disks, images))]
    due = [target for target in targets if target.copy]
    with world(f"repository {found.repository.path}"):
        warnings = check_digests(found, [target.disk for target in due], images=request.verify)
    check_secret([target.disk for target in due], encryption)
    settings = _settings(request, len(due))
    with called_disks():
        if check:
            expected = {target.index: _look(target, settings) for target in due}
            return report(found, targets, {}, {}, expected, warnings)
        copies, records = _act(request, targets, settings, encryption)
    copied = {copy.index: copy.part.copied for copy in copies if copy.part.copied}
    warnings += show_volumes(request.uri, volumes.values(), [target.image.dest for target in due])
    return report(found, targets, copied, records, {}, warnings)


@dataclasses.dataclass(frozen=True)
class _Copy:
    """A disk on its way: what was seen of its place, and who copies."""

    target: Target
    part: ChainCopy
    draft: Draft
    held: int

    @property
    def index(self) -> int:
        """Its place in the call."""
        return self.target.index


def _settings(request: RestoreRequest, copies: int) -> Settings:
    return Settings(
        connections=max(1, min(request.connections, MOST_IN_ALL // max(copies, 1))),
        timeout=float(request.timeout),
        compression="none",
        checksum=request.checksum == "sha256",
        limit=RateLimit(request.rate_limit),
        direct=request.direct,
    )


def _look(target: Target, settings: Settings) -> int:
    """Return how much would be read, as far as it can be known; see whether the place could be had and has room."""
    with contextlib.ExitStack() as stack:
        if target.image.place.in_place:
            draft = in_place.open_draft(target.index, target.image, target.attributes, check=True)
            stack.callback(draft.close)
            _part(target, settings, draft, None).check_room()
        elif target.exists:
            stack.callback(os.close, hold(target, check=True))
        if target.disk.encrypted:
            return 0
        extents = stack.enter_context(contextlib.closing(ChainMap(target.disk.paths)))
        return sum(extent.length for extent in extents if not extent.zero)


def _act(
    request: RestoreRequest, targets: Sequence[Target], settings: Settings, secret: Encryption | None
) -> tuple[list[_Copy], dict[int, RestoredRecord]]:
    """Copy, and only when every disk is complete and synced give the files their names."""
    status = StatusFile(request.status_file)
    with noted_signals(ENDED) as check_signals, contextlib.ExitStack() as stack:
        copies = [_open(stack, target, settings, secret) for target in targets if target.copy]
        parts = {copy.index: copy.part for copy in copies}

        def progress() -> list[Progress]:
            return [_progress(target, parts.get(target.index)) for target in targets]

        def tick() -> None:
            check_signals()
            status.write(progress())

        status.write(progress(), now=True)
        try:
            run_all(list(parts.values()), tick)
            records = _publish(copies)
            _apply(targets)
            return copies, records
        except BackupError as error:
            _tell_undefined(error, copies)
            raise
        finally:
            status.write(progress(), now=True)


def _open(stack: contextlib.ExitStack, target: Target, settings: Settings, secret: Encryption | None) -> _Copy:
    """Take the place for ourselves and make the draft; nothing of the old content is touched yet."""
    held = -1
    draft: Draft
    if target.image.place.in_place:
        draft = in_place.open_draft(target.index, target.image, target.attributes, check=False)
    else:
        if target.exists:
            held = hold(target, check=False)
            stack.callback(os.close, held)
        draft = _new_file(target)
    stack.callback(draft.close)
    part = _part(target, settings, draft, secret)
    if target.image.place.in_place:
        part.check_room()
    return _Copy(target, part, draft, held)


def _new_file(target: Target) -> RestoredFile:
    dest = target.image.dest
    try:
        sweep(dest)
        return RestoredFile(dest, target.attributes)
    except OSError as error:
        problem = f"can't be written beside itself ({error.strerror})"
        raise InputError(checks.parameter(target.index, "dest"), dest, problem, "check the directory") from error


def _part(target: Target, settings: Settings, draft: Draft, secret: Encryption | None) -> ChainCopy:
    return ChainCopy(f"disks[{target.index}]", target.disk, target.image, settings, draft, secret)


def _progress(target: Target, part: ChainCopy | None) -> Progress:
    if part is not None:
        return part.progress()
    return Progress(target.image.dest, "unchanged", target.disk.size, target.disk.size, 0)


def _publish(copies: Sequence[_Copy]) -> dict[int, RestoredRecord]:
    """Record everything, then give all files their names, then the records of what was written in place theirs."""
    records: dict[int, RestoredRecord] = {}
    for copy in copies:
        _check_place(copy)
        with _explained(copy.target.image.dest):
            place = copy.draft.image if isinstance(copy.draft, RestoredFile) else ""
            stamp = stamp_of(place) if place else current_stamp(copy.target.image)
            records[copy.index] = dataclasses.replace(copy.target.record, stamp=stamp)
            copy.draft.write_record(records[copy.index])
    files = [copy.draft for copy in copies if isinstance(copy.draft, RestoredFile)]
    with _explained(", ".join(copy.target.image.dest for copy in copies)):
        publish_all(files)
    for copy in copies:
        if copy.target.image.place.in_place:
            with _explained(copy.target.image.record):
                copy.draft.publish()
    return records


def _check_place(copy: _Copy) -> None:
    """Refuse to replace what another put there while we copied: it was looked at by nobody."""
    target, dest = copy.target, copy.target.image.dest
    if target.image.place is not Place.FILE:
        return
    now = os.stat(dest).st_ino if os.path.lexists(dest) else 0
    if now != (os.fstat(copy.held).st_ino if target.exists else 0):
        raise StateError(f"disks[{target.index}].dest: {dest!r} was made by somebody else meanwhile; nothing replaced.")


@contextlib.contextmanager
def _explained(what: str) -> t.Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(f"disks: {what} could not be completed: {error.strerror}; no file was replaced.") from error


def _tell_undefined(error: BackupError, copies: Iterable[_Copy]) -> None:
    """Say of everything that was overwritten in place that its content is neither the old nor the new."""
    for copy in copies:
        if copy.draft.begun:
            error.message += f" The content of {copy.target.image.dest!r} is undefined now."


def _apply(targets: Iterable[Target]) -> None:
    """Give what was in place already its owner, group and mode."""
    for target in targets:
        if target.attributes_differ:
            os.chown(target.image.dest, target.attributes.uid, target.attributes.gid)
            os.chmod(target.image.dest, target.attributes.mode)
