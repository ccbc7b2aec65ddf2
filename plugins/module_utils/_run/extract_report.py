# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What nbd_extract was asked, what it found, and how both become its result and its diff."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest, Record
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.transfer import Forecast
    from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest


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
    encryption: EncryptionRequest | None = None
    direct: bool = False
    clean_samples: int = 64


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


def report(
    targets: Sequence[Target], records: dict[int, Record], forecasts: dict[int, Forecast], request: ExtractRequest
) -> Outcome:
    """Return the outcome: of a run with its ``records``, of check mode with its ``forecasts``; both by index."""
    images = [_result(target, records.get(target.index), forecasts.get(target.index)) for target in targets]
    before = {target.image.dest: target.before.as_dict() if target.before else None for target in targets}
    after = {target.image.dest: _after(target, records, forecasts, request) for target in targets}
    return Outcome(
        changed=any(image["changed"] for image in images),
        result={"images": images},
        before=before,
        after=after,
        warnings=tuple(_warnings(images)),
    )


def _warnings(images: Sequence[dict[str, t.Any]]) -> Iterator[str]:
    for index, image in enumerate(images):
        if not image["durable"]:
            yield (
                f"images[{index}].dest: the server of {image['dest']!r} has no flush, so nothing promises that the "
                "copy is still there after it lost power"
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
        encryption=image.encryption,
        durable=forecast.durable,
    )


def _result(target: Target, record: Record | None, forecast: Forecast | None) -> dict[str, t.Any]:
    found = record or (target.before if not target.copy else None)
    common = {
        "dest": target.image.dest,
        "changed": target.copy or target.attributes_differ,
        "level": target.image.level.value,
        "format": target.image.format,
        "encryption": target.image.encryption,
        "source_id": target.image.source_id,
        "atomic": not target.image.place.in_place,
    }
    if found is not None:
        names = (
            "size",
            "bytes_copied",
            "bytes_zeroed",
            "bytes_stored",
            "extents",
            "seconds",
            "digest",
            "durable",
            "clean_compared",
        )
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
        "durable": forecast.durable,
        "clean_compared": 0,
    }
