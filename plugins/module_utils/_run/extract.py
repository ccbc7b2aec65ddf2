# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The use case of ``nbd_extract``: check, see what is there, decide which images to copy, copy them, report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import stat
import threading
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Attributes, Draft, record_path
from ansible_collections.virt.backup.plugins.module_utils._copy.rate import RateLimit
from ansible_collections.virt.backup.plugins.module_utils._copy.status import Progress, StatusFile
from ansible_collections.virt.backup.plugins.module_utils._copy.transfer import Forecast, Settings, Transfer, run_all
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest, Record
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run import extract_checks as checks

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MOST_IN_ALL = 64
"""Connections of a whole call. QEMU admits 100 clients to one server, and one server serves all disks of a domain."""


@dataclasses.dataclass(frozen=True)
class ExtractRequest:
    """The parameters of a call. ``rate_limit`` in bytes per second, 0 for none; ``timeout`` in seconds."""

    images: tuple[ImageRequest, ...]
    connections: int = 4
    compression: str = "none"
    checksum: str = "sha256"
    rate_limit: int = 0
    timeout: int = 60
    status_file: str = ""
    force: bool = False
    owner: str = ""
    group: str = ""
    mode: object = "0600"


@dataclasses.dataclass(frozen=True)
class Target:
    """One image with what is already under its name. ``copy`` is false when that is just what was asked for."""

    index: int
    image: ImageRequest
    export: str
    exists: bool
    before: Record | None
    copy: bool
    attributes_differ: bool


def extract(request: ExtractRequest, check: bool) -> Outcome:
    """Extract every image that is not there yet; all of them or none get their names, short of a crash between renames."""
    attributes = _check(request)
    targets = [_observe(index, image, request.force, attributes) for index, image in enumerate(request.images)]
    settings = _settings(request, sum(target.copy for target in targets))
    if check:
        forecasts = {target.index: _transfer(target, settings).forecast() for target in targets if target.copy}
        return _report(targets, {}, forecasts, request)
    records = _act(request, targets, settings, attributes)
    return _report(targets, records, {}, request)


def _check(request: ExtractRequest) -> Attributes:
    if not request.images:
        raise InputError("images", [], "is empty", "name at least one image")
    checks.check_numbers(request.connections, request.rate_limit, request.timeout)
    attributes = checks.check_attributes(request.owner, request.group, request.mode)
    checks.check_dests(request.images)
    checks.check_status_file(request.status_file, [image.dest for image in request.images])
    checks.check_compression(request.compression, request.images)
    for index, image in enumerate(request.images):
        checks.check_kind(index, image)
    return attributes


def _observe(index: int, image: ImageRequest, force: bool, attributes: Attributes) -> Target:
    """See what is under the name, and decide. Only an image that will be copied needs its server and its backing file."""
    export = checks.export_name(index, image.uri)
    exists = os.path.lexists(image.dest)
    record = _read_record(record_path(image.dest))
    same = exists and not force and _unchanged(index, image, export, record)
    if not same:
        checks.check_socket(index, image.uri)
        checks.check_backing(index, image)
        if not exists and not force and record is None and os.path.lexists(record_path(image.dest)):
            problem = f"would put its record at {record_path(image.dest)!r}, where another file is"
            raise InputError(checks.parameter(index, "dest"), image.dest, problem, "remove that file, or set force")
    differ = same and any(_attributes_differ(path, attributes) for path in (image.dest, record_path(image.dest)))
    return Target(index, image, export, exists, record if exists else None, not same, differ)


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
    base = f" by bitmap {record.bitmap!r} on {record.backing_file!r}" if record.bitmap else ""
    return f"{record.level.value} {record.format} of {record.source_id or 'no source_id'!r}, export {record.export!r}{base}"


def _read_record(path: str) -> Record | None:
    """Return the record, or ``None`` if there is none or it can't be understood: then nothing is known of the image."""
    try:
        with open(path, encoding="utf-8") as file:
            return Record.from_dict(json.load(file))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _attributes_differ(path: str, wanted: Attributes) -> bool:
    found = os.stat(path)
    return (
        stat.S_IMODE(found.st_mode) != wanted.mode
        or wanted.uid not in (-1, found.st_uid)
        or wanted.gid not in (-1, found.st_gid)
    )


def _settings(request: ExtractRequest, copies: int) -> Settings:
    return Settings(
        connections=max(1, min(request.connections, MOST_IN_ALL // max(copies, 1) - 1)),
        timeout=float(request.timeout),
        compression=request.compression,
        checksum=request.checksum == "sha256",
        limit=RateLimit(request.rate_limit),
    )


def _transfer(target: Target, settings: Settings, draft: Draft | None = None) -> Transfer:
    return Transfer(checks.parameter(target.index), target.image, target.export, settings, draft)


def _act(request: ExtractRequest, targets: Sequence[Target], settings: Settings, attributes: Attributes) -> dict[int, Record]:
    """Copy, and only when every image is complete and synced give them their names."""
    status = StatusFile(request.status_file)
    with _terminable() as check_signals, contextlib.ExitStack() as drafts:
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
            return _publish(targets, transfers, attributes, request.force)
        finally:
            status.write(progress(), now=True)


def _draft(target: Target, attributes: Attributes) -> Draft:
    try:
        return Draft(target.image.dest, attributes)
    except OSError as error:
        problem = f"can't be written beside itself ({error.strerror})"
        raise InputError(checks.parameter(target.index, "dest"), target.image.dest, problem, "check the directory") from error


def _progress(target: Target, transfer: Transfer | None) -> Progress:
    if transfer is not None:
        return transfer.progress()
    size = target.before.size if target.before else 0
    return Progress(target.image.dest, "unchanged", size, size, 0)


def _publish(
    targets: Sequence[Target], transfers: dict[int, Transfer], attributes: Attributes, force: bool
) -> dict[int, Record]:
    records: dict[int, Record] = {}
    for target in targets:
        transfer, path = transfers.get(target.index), target.image.dest
        try:
            if transfer is None:
                _apply(path, attributes)
                continue
            if transfer.draft is None or transfer.record is None:
                raise AssertionError("Contract violation: a transfer ended without error and without record")
            if os.path.lexists(path) and not (force or target.exists):
                raise StateError(f"{checks.parameter(target.index, 'dest')}: {path!r} was made by somebody else meanwhile.")
            transfer.draft.write_record(transfer.record)
            transfer.draft.publish()
            records[target.index] = transfer.record
        except OSError as error:
            name = checks.parameter(target.index, "dest")
            raise StateError(f"{name}: {path!r} could not be completed: {error.strerror}.") from error
    return records


def _apply(path: str, attributes: Attributes) -> None:
    for name in (path, record_path(path)):
        if _attributes_differ(name, attributes):
            os.chown(name, attributes.uid, attributes.gid)
            os.chmod(name, attributes.mode)


@contextlib.contextmanager
def _terminable() -> Iterator[Callable[[], None]]:
    """Yield a function that raises once SIGTERM, SIGINT or SIGHUP came, so that what was begun is removed in good order."""
    came: list[int] = []

    def check() -> None:
        if came:
            raise BackupError(f"The extraction was ended by {signal.Signals(came[0]).name}; no image got its name.")

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    ending = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda came_now, frame: came.append(came_now)) for number in ending}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(
    targets: Sequence[Target], records: dict[int, Record], forecasts: dict[int, Forecast], request: ExtractRequest
) -> Outcome:
    images = [_result(target, records.get(target.index), forecasts.get(target.index)) for target in targets]
    before = {target.image.dest: target.before.as_dict() if target.before else None for target in targets}
    after = {target.image.dest: _after(target, records, forecasts, request) for target in targets}
    return Outcome(
        changed=any(image["changed"] for image in images),
        result={"images": images},
        before=before,
        after=after,
    )


def _after(
    target: Target, records: dict[int, Record], forecasts: dict[int, Forecast], request: ExtractRequest
) -> dict[str, t.Any] | None:
    if not target.copy:
        return target.before.as_dict() if target.before else None
    if target.index in records:
        return records[target.index].as_dict()
    return _expected(target, forecasts[target.index], request).as_dict()


def _expected(target: Target, forecast: Forecast, request: ExtractRequest) -> Record:
    """Return the record as far as it can be foreseen."""
    image = target.image
    return Record(
        source_id=image.source_id,
        export=target.export,
        level=image.level,
        format=image.format,
        bitmap=image.bitmap,
        backing_file=image.backing_file,
        backing_format=image.backing_format if image.backing_file else "",
        compression=request.compression,
        size=forecast.size,
        bytes_copied=forecast.bytes_to_read,
        bytes_zeroed=forecast.bytes_zero,
        bytes_stored=0,
        file_bytes=0,
        extents=forecast.extents,
        seconds=0.0,
        digest="",
    )


def _result(target: Target, record: Record | None, forecast: Forecast | None) -> dict[str, t.Any]:
    found = record or (target.before if not target.copy else None)
    common = {
        "dest": target.image.dest,
        "changed": target.copy or target.attributes_differ,
        "level": target.image.level.value,
        "format": target.image.format,
        "source_id": target.image.source_id,
    }
    if found is not None:
        names = ("size", "bytes_copied", "bytes_zeroed", "bytes_stored", "extents", "seconds", "digest")
        return {**common, **{name: getattr(found, name) for name in names}}
    if forecast is None:
        raise AssertionError("Contract violation: neither a record nor a forecast")
    return {
        **common,
        "size": forecast.size,
        "bytes_copied": forecast.bytes_to_read,
        "bytes_zeroed": forecast.bytes_zero,
        "bytes_stored": 0,
        "extents": forecast.extents,
        "seconds": 0.0,
        "digest": "",
    }
