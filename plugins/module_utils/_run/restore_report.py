# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What restore_disks was asked, where each disk goes, and how both become its result and its diff."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._copy.chain_copy import Copied
    from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Attributes
    from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.restored import RestoredRecord
    from ansible_collections.virt.backup.plugins.module_utils._model.stored_disk import StoredDisk
    from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
    from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import FoundPoint, PointRequest


@dataclasses.dataclass(frozen=True)
class DiskRequest:
    """One disk of a call; ``dest`` empty is a file in the call's ``dest_dir``, named like the disk.

    ``type`` says what ``dest`` is: ``file``, ``block`` or ``volume``; empty where nobody says.
    """

    name: str
    dest: str = ""
    type: str = ""
    format: str = "qcow2"
    cluster_size: int = CLUSTER
    record: str = ""


@dataclasses.dataclass(frozen=True)
class RestoreRequest:
    """The parameters of a call; ``None`` as ``disks`` is all. ``rate_limit`` in bytes a second; ``timeout`` in seconds.

    ``mode`` is ``None`` where none was given: a file that is replaced hands on its own.
    """

    point: PointRequest
    uri: str = "qemu:///system"
    disks: tuple[DiskRequest, ...] | None = None
    dest_dir: str = ""
    overwrite: bool = False
    verify: bool = False
    checksum: str = "sha256"
    connections: int = 4
    rate_limit: int = 0
    timeout: int = 60
    direct: bool = False
    status_file: str = ""
    owner: str = ""
    group: str = ""
    mode: object = None
    encryption: EncryptionRequest | None = None


@dataclasses.dataclass(frozen=True)
class Target:
    """One disk with what is already at its place. ``copy`` is false when that is just what was asked for.

    ``record`` is what would be recorded, as far as it is known before the copy; ``before`` what is recorded now.
    """

    index: int
    disk: StoredDisk
    image: ImageRequest
    record: RestoredRecord
    before: RestoredRecord | None
    exists: bool
    copy: bool
    attributes: Attributes
    attributes_differ: bool


def report(
    found: FoundPoint,
    targets: Sequence[Target],
    copied: Mapping[int, Copied],
    records: Mapping[int, RestoredRecord],
    expected: Mapping[int, int],
    warnings: Sequence[str],
) -> Outcome:
    """Return the outcome; all by index: what was ``copied`` and recorded, or in check mode is ``expected`` in bytes."""
    disks = [_result(target, copied.get(target.index), expected.get(target.index, 0)) for target in targets]
    before = {target.image.dest: target.before.as_dict() if target.before else None for target in targets}
    after = {target.image.dest: records.get(target.index, _after(target)).as_dict() for target in targets}
    return Outcome(
        changed=any(disk["changed"] for disk in disks),
        result={"restore_point": found.as_result(), "disks": disks},
        before=before,
        after=after,
        warnings=tuple(warnings),
    )


def _after(target: Target) -> RestoredRecord:
    return target.before if target.before and not target.copy else target.record


def _result(target: Target, copied: Copied | None, expected: int) -> dict[str, t.Any]:
    disk = target.disk
    compared = bool(copied.totals.digest) if copied else bool(target.before and target.before.content)
    return {
        "name": disk.name,
        "dest": target.image.dest,
        "format": target.image.format,
        "changed": target.copy or target.attributes_differ,
        "atomic": not target.image.place.in_place,
        "chain": list(disk.ids),
        "size": disk.size,
        "bytes_copied": copied.totals.copied if copied else expected,
        "bytes_zeroed": disk.size - (copied.totals.copied if copied else expected) if target.copy else 0,
        "bytes_stored": copied.stored if copied else 0,
        "extents": copied.extents if copied else 0,
        "seconds": copied.seconds if copied else 0.0,
        "content_verified": compared,
        "content_reason": "" if compared else disk.content_reason,
    }
