# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The use case of ``nbd_extract``: check, see what is there, decide which images to copy, copy them, report."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.crew import run_all
from ansible_collections.virt.backup.plugins.module_utils._copy.publish import (
    Attributes,
    Draft,
    FileDraft,
    digests_path,
    record_path,
)
from ansible_collections.virt.backup.plugins.module_utils._copy.rate import RateLimit
from ansible_collections.virt.backup.plugins.module_utils._copy.status import Progress, StatusFile
from ansible_collections.virt.backup.plugins.module_utils._copy.transfer import Forecast, Settings, Transfer
from ansible_collections.virt.backup.plugins.module_utils._durable import is_there
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest, Record
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place
from ansible_collections.virt.backup.plugins.module_utils._run import extract_checks as checks
from ansible_collections.virt.backup.plugins.module_utils._run import extract_in_place as in_place
from ansible_collections.virt.backup.plugins.module_utils._run.extract_direct import check_direct, check_file_system
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import (
    check_encryption,
    read_encryption,
)
from ansible_collections.virt.backup.plugins.module_utils._run.extract_mismatches import refuse_mismatches
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest, Target, report
from ansible_collections.virt.backup.plugins.module_utils._run.extract_signals import noted_signals
from ansible_collections.virt.backup.plugins.module_utils._run.job_files import note_of
from ansible_collections.virt.backup.plugins.module_utils._store.files import NotJson, read_json

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
    from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome

MOST_IN_ALL = 64
"""Connections of a whole call, two of each image for describing its disk included. QEMU admits 100 clients to a server,
and one server serves all disks of a domain."""


def extract(request: ExtractRequest, check: bool) -> Outcome:
    """Extract every image that is not there yet. They get their names when all are complete."""
    try:
        return _extract(request, check)
    except BackupError as error:
        _tell_why(error, request.images)
        raise


def _extract(request: ExtractRequest, check: bool) -> Outcome:
    images = tuple(dataclasses.replace(image, place=in_place.find_place(image.dest)) for image in request.images)
    request = dataclasses.replace(request, images=images)
    attributes = _check(request)
    encryption = read_encryption(request.encryption)
    check_encryption(encryption, request.compression, request.images)
    targets = [
        _observe(index, image, request.force, attributes, encryption) for index, image in enumerate(request.images)
    ]
    for target in targets:
        if request.direct and target.copy:
            check_file_system(target.image)
    settings = _settings(request, sum(target.copy for target in targets), encryption)
    if check:
        forecasts = {target.index: _forecast(target, settings, attributes) for target in targets if target.copy}
        return report(targets, {}, forecasts, request)
    records = _act(request, targets, settings, attributes)
    return report(targets, records, {}, request)


def _check(request: ExtractRequest) -> Attributes:
    if not request.images:
        raise InputError("images", [], "is empty", "name at least one image")
    checks.check_numbers(request.connections, request.rate_limit, request.timeout, request.clean_samples)
    attributes = checks.check_attributes(request.owner, request.group, request.mode)
    for index, image in enumerate(request.images):
        (in_place.check_in_place if image.place.in_place else in_place.check_no_record)(index, image)
    checks.check_dests(request.images)
    checks.check_status_file(request.status_file, [image.dest for image in request.images])
    checks.check_compression(request.compression, request.images)
    check_direct(request.direct, request.images)
    for index, image in enumerate(request.images):
        checks.check_kind(index, image)
    return attributes


def _observe(
    index: int, image: ImageRequest, force: bool, attributes: Attributes, encryption: Encryption | None
) -> Target:
    """See what is under the name, and decide. Only what will be copied needs its server and its backing file."""
    export = checks.export_name(index, image.uri)
    with checks.looking(checks.parameter(index, "dest"), image.dest):
        if image.place.in_place:
            return _observe_in_place(index, image, force, attributes, export)
        return _observe_file(index, image, force, attributes, encryption, export)


def _observe_file(
    index: int, image: ImageRequest, force: bool, attributes: Attributes, encryption: Encryption | None, export: str
) -> Target:
    exists = is_there(image.dest)
    record = _read_record(record_path(image.dest))
    same = exists and not force and _unchanged(index, image, export, record)
    if not same:
        checks.check_socket(index, image.uri)
        checks.check_backing(index, image, encryption)
        if not exists and not force and record is None:
            _check_beside(index, image)
    differ = same and any(_attributes_differ(path, attributes) for path in _files(image))
    return Target(index, image, export, exists, record if exists else None, not same, differ)


def _check_beside(index: int, image: ImageRequest) -> None:
    for what, path in (("record", record_path(image.dest)), ("digests", digests_path(image.dest))):
        if is_there(path):
            problem = f"would put its {what} at {path!r}, where another file is"
            raise InputError(checks.parameter(index, "dest"), image.dest, problem, "remove that file, or set force")


def _files(image: ImageRequest) -> list[str]:
    """Return what is there of a complete image; one that was copied without a checksum has no digests."""
    return [path for path in checks.names_of(image) if path != digests_path(path) or os.path.isfile(path)]


def _observe_in_place(index: int, image: ImageRequest, force: bool, attributes: Attributes, export: str) -> Target:
    """See whether the record says that the device or export holds this image. It is all there is to know it by."""
    in_place.check_not_source(index, image)
    record = _read_record(image.record) if image.record else None
    same = not force and record is not None and record.is_of(image, export, in_place.identity(image))
    if not same:
        checks.check_socket(index, image.uri)
        if image.place is Place.SERVER:
            checks.check_socket(index, image.dest, "dest")
        if not force:
            told = (
                f"and its record tells of {_describe(record)} in {record.written_to}" if record else "without a record"
            )
            raise in_place.refuse_unknown(index, image, told)
    differ = same and any(_attributes_differ(path, attributes) for path in _files(image))
    return Target(index, image, export, True, record, not same, differ)


def _unchanged(index: int, image: ImageRequest, export: str, record: Record | None) -> bool:
    """Whether an existing image is the one asked for; raises :class:`InputError` for any other: only force replaces."""
    name, remedy = checks.parameter(index, "dest"), "choose another name, or set force to replace it"
    if record is None:
        raise InputError(name, image.dest, "exists without a record of where it came from", remedy)
    if not image.source_id:
        raise InputError(name, image.dest, "exists, and without source_id nothing tells whether it is the same", remedy)
    if not record.is_of(image, export):
        raise InputError(name, image.dest, f"exists and is another image ({_describe(record)})", remedy)
    if os.stat(image.dest).st_size != record.file_bytes:
        raise InputError(name, image.dest, "exists and is not the file its record describes", remedy)
    return True


def _describe(record: Record) -> str:
    base = f", bitmap {record.bitmap!r} on {record.backing_file!r}" if record.bitmap else ""
    encrypted = "" if record.encryption == NONE else f" encrypted by {record.encryption}"
    kind = f"{record.level.value} {record.format}{encrypted}, source_id {record.source_id!r}"
    return f"{kind}, export {record.export!r}{base}"


def _read_record(path: str) -> Record | None:
    """Return the record, or ``None`` if there is none or it can't be understood: then nothing is known of the image."""
    try:
        return Record.from_dict(read_json(path))
    except (OSError, NotJson, ValueError, KeyError, TypeError):
        return None


def _attributes_differ(path: str, wanted: Attributes) -> bool:
    found = os.stat(path)
    return (
        stat.S_IMODE(found.st_mode) != wanted.mode
        or wanted.uid not in (-1, found.st_uid)
        or wanted.gid not in (-1, found.st_gid)
    )


def _settings(request: ExtractRequest, copies: int, encryption: Encryption | None) -> Settings:
    return Settings(
        connections=max(1, min(request.connections, MOST_IN_ALL // max(copies, 1) - 2)),
        timeout=float(request.timeout),
        compression=request.compression,
        checksum=request.checksum == "sha256",
        limit=RateLimit(request.rate_limit),
        encryption=encryption,
        direct=request.direct,
        clean_samples=request.clean_samples,
    )


def _transfer(target: Target, settings: Settings, draft: Draft | None = None) -> Transfer:
    written_to = in_place.identity(target.image) if target.image.place.in_place else ""
    return Transfer(checks.parameter(target.index), target.image, target.export, settings, draft, written_to)


def _forecast(target: Target, settings: Settings, attributes: Attributes) -> Forecast:
    """Foresee a copy; of what would be overwritten also whether it can be opened and has room."""
    if not target.image.place.in_place:
        return _transfer(target, settings).forecast()
    draft = in_place.open_draft(target.index, target.image, attributes, check=True)
    with contextlib.closing(draft):
        return _transfer(target, settings, draft).forecast()


def _act(
    request: ExtractRequest, targets: Sequence[Target], settings: Settings, attributes: Attributes
) -> dict[int, Record]:
    """Copy, and only when every image is complete and synced give them their names."""
    status = StatusFile(request.status_file)
    with noted_signals() as check_signals, contextlib.ExitStack() as drafts:
        transfers = {}
        for target in targets:
            if target.copy:
                draft = _draft(target, attributes)
                drafts.callback(draft.close)
                transfers[target.index] = _transfer(target, settings, draft)

        def progress() -> list[Progress]:
            return [_progress(target, transfers.get(target.index)) for target in targets]

        def tick() -> None:
            check_signals()
            status.write(progress())

        status.write(progress(), now=True)
        try:
            run_all(list(transfers.values()), tick)
            refuse_mismatches((checks.parameter(index), transfer.mismatch) for index, transfer in transfers.items())
            return _publish(targets, transfers, attributes, request.force)
        except BackupError as error:
            _tell_undefined(error, transfers.values())
            raise
        finally:
            status.write(progress(), now=True)


def _tell_why(error: BackupError, images: Iterable[ImageRequest]) -> None:
    """Say first that a backup job was ended to protect its guest, where that is why its server has gone."""
    notes = {note_of(image.uri): None for image in images}
    error.message = " ".join([note for note in notes if note] + [error.message])


def _tell_undefined(error: BackupError, transfers: Iterable[Transfer]) -> None:
    """Say of everything that was overwritten in place that its content is neither the old nor the new."""
    for transfer in transfers:
        if transfer.draft is not None and transfer.draft.begun:
            error.message += f" The content of {transfer.image.dest!r} is undefined now."


def _draft(target: Target, attributes: Attributes) -> Draft:
    if target.image.place.in_place:
        return in_place.open_draft(target.index, target.image, attributes, check=False)
    try:
        return FileDraft(target.image.dest, attributes)
    except OSError as error:
        problem = f"can't be written beside itself ({error.strerror})"
        raise InputError(
            checks.parameter(target.index, "dest"), target.image.dest, problem, "check the directory"
        ) from error


def _progress(target: Target, transfer: Transfer | None) -> Progress:
    if transfer is not None:
        return transfer.progress()
    size = target.before.size if target.before else 0
    return Progress(target.image.dest, "unchanged", size, size, 0)


def _publish(
    targets: Sequence[Target], transfers: dict[int, Transfer], attributes: Attributes, force: bool
) -> dict[int, Record]:
    """Write every record before the first image gets its name; an error takes the names back that were given."""
    records: dict[int, Record] = {}
    named: list[Draft] = []
    for target in targets:
        transfer = transfers.get(target.index)
        if transfer is not None:
            draft, records[target.index] = _complete(transfer)
            with _explained(target):
                draft.write_record(records[target.index])
    try:
        for target in targets:
            transfer = transfers.get(target.index)
            with _explained(target):
                if transfer is None:
                    _apply(_files(target.image), attributes)
                    continue
                _check_free(target, force)
                draft, _record = _complete(transfer)
                named.append(draft)
                draft.publish()
    except BackupError:
        for draft in named:
            draft.withdraw()
        raise
    return records


def _complete(transfer: Transfer) -> tuple[Draft, Record]:
    if transfer.draft is None or transfer.record is None:
        raise AssertionError("Contract violation: a transfer ended without error and without record")
    return transfer.draft, transfer.record


@contextlib.contextmanager
def _explained(target: Target) -> Iterator[None]:
    """Turn an ``OSError`` into the sentence that names the image."""
    try:
        yield
    except OSError as error:
        said = f"{checks.parameter(target.index, 'dest')}: {target.image.dest!r} could not be completed"
        remedy = "check space and health of its storage, then run again"
        raise StateError(f"{said}: {error.strerror}; {remedy}.") from error


def _check_free(target: Target, force: bool) -> None:
    path = target.image.dest
    if not target.image.place.in_place and is_there(path) and not (force or target.exists):
        raise StateError(f"{checks.parameter(target.index, 'dest')}: {path!r} was made by somebody else meanwhile.")


def _apply(files: Sequence[str], attributes: Attributes) -> None:
    for name in files:
        if _attributes_differ(name, attributes):
            os.chown(name, attributes.uid, attributes.gid)
            os.chmod(name, attributes.mode)
