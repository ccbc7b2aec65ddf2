# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What has to be true of a staging directory before it is published. Each check has its sentence."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._decide.chain import chain_of
from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import Record
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.text import shown
from ansible_collections.virt.backup.plugins.module_utils._run.foreign_data import PROBLEM, is_led_elsewhere
from ansible_collections.virt.backup.plugins.module_utils._store.files import (
    NotJson,
    chunks_of,
    digest_of,
    read_json,
    regular_size,
)
from ansible_collections.virt.backup.plugins.module_utils._store.layout import (
    DAMAGED,
    DISTRUSTED,
    DRILLED,
    MANIFEST,
    STAGING_FILE,
    STATUS_FILE,
    SUMS,
    VERIFIED,
)

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog
    from ansible_collections.virt.backup.plugins.module_utils._model.staging import PlannedDisk, Staging

_OURS = frozenset({MANIFEST, STAGING_FILE, STATUS_FILE, DAMAGED, DISTRUSTED, VERIFIED, DRILLED, SUMS})
# What a write that was killed leaves: our temporary files and those of nbd_extract. Never part of anything.
_REMNANT = re.compile(r"\..+\.part-[0-9a-f]+|\..+\.[0-9]+\.new|.+\.[0-9a-f]{12}\.tmp")


def remnants(directory: str) -> list[str]:
    """Return the names of half-written files that a killed write left."""
    return sorted(name for name in os.listdir(directory) if _REMNANT.fullmatch(name))


def check_strays(directory: str, known: Iterable[str]) -> None:
    """Refuse to publish what the manifest would not name."""
    expected = _OURS.union(known)
    stray = sorted(name for name in os.listdir(directory) if name not in expected and not _REMNANT.fullmatch(name))
    if stray:
        raise StateError(
            f"{directory} holds {', '.join(map(shown, stray))}, which nobody named; list it under files, or remove it."
        )


def read_record(directory: str, disk: PlannedDisk) -> Record:
    """Return what the extraction recorded beside the image."""
    path = os.path.join(directory, disk.record)
    try:
        return Record.from_dict(read_json(path))
    except FileNotFoundError:
        raise StateError(f"images: disk {disk.name} has no record {path}; extract it with nbd_extract first.") from None
    except NotJson:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"images: {path} is no record of an extraction ({error}); extract the disk again.") from error


def check_image(directory: str, staging: Staging, disk: PlannedDisk, record: Record) -> int:
    """Check one image against its record, the run and its base; return its length in bytes.

    ``disk`` is the disk as it came to be: an increment that libvirt refused has become a full one without a base.
    """
    path = os.path.join(directory, disk.image)
    size = regular_size(path)
    if size is None:
        raise StateError(f"images: disk {disk.name} has no image {path}; extract it with nbd_extract first.")
    if record.source_id != staging.checkpoint:
        raise StateError(
            f"images: {path} was read from {record.source_id!r} and not from this run's {staging.checkpoint!r}; "
            "extract it again."
        )
    if record.level is not disk.level:
        raise StateError(
            f"images: {path} is {record.level.value} where disk {disk.name} is listed as {disk.level.value}."
        )
    if size != record.file_bytes:
        raise StateError(
            f"images: {path} has {size} bytes where its record says {record.file_bytes}; extract it again."
        )
    _check_header(path, disk, record)
    return size


def check_digests(directory: str, disk: PlannedDisk, record: Record) -> str:
    """Return the name of the list of digests, or nothing when the image has none. Its content is the digest's."""
    path = os.path.join(directory, disk.digests)
    if not record.digest or regular_size(path) is None:
        return ""
    if digest_of(chunks_of(path))[1] != record.digest:
        raise StateError(f"images: {path} is not the list that {disk.record} has the digest of; extract it again.")
    return disk.digests


def _check_header(path: str, disk: PlannedDisk, record: Record) -> None:
    if is_led_elsewhere(path):
        raise StateError(f"images: {path} {PROBLEM}; extract it again.")
    info = _qemu.info(path, "qcow2")
    if info.virtual_size != record.size:
        raise StateError(f"images: {path} is a disk of {info.virtual_size} bytes, its record says {record.size}.")
    if info.backing_file != disk.backing_file:
        found = repr(info.backing_file) if info.backing_file else "nothing"
        wanted = repr(disk.backing_file) if disk.backing_file else "nothing"
        raise StateError(f"images: {path} builds on {found}, but the plan says on {wanted}; extract it again.")
    if disk.backing_file and info.backing_format != "qcow2":
        raise StateError(f"images: {path} doesn't say that its backing file is qcow2; extract it again.")


def check_base(catalog: Catalog, disk: PlannedDisk) -> str:
    """Return the restore point at the bottom of the base's chain; refuse when that chain broke since the plan."""
    if disk.level is Level.FULL:
        return ""
    chain = chain_of(catalog, disk.base, disk.name)
    if chain.problem or not chain.ids:
        raise StateError(
            f"disks: the chain that {disk.name} builds on is broken: {chain.problem}; run again for a full."
        )
    return chain.ids[0]
