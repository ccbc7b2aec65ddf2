# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""``manifest.json``: the model as JSON and back. ``docs/manifest.schema.json`` is the same for other programs.

A new field needs a meaning for the manifests that lack it (the default here) and leaves ``FORMAT`` alone; only a change
that an older release would misread raises it.
"""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import (
    Consistency,
    DiskIdentity,
    Manifest,
    ManifestDisk,
    SkippedDisk,
    StoredFile,
)
from ansible_collections.virt.backup.plugins.module_utils._store.fields import Fields, show_moment

FORMAT = 1

Json = dict[str, t.Any]


def identity_to_json(identity: DiskIdentity) -> Json:
    """Return the fields that identify a disk; they stand beside the disk's other fields."""
    return {
        "source": identity.source,
        "serial": identity.serial,
        "virtual_size": identity.virtual_size,
        "format": identity.format,
        "inode": identity.inode,
    }


def identity_from_json(fields: Fields) -> DiskIdentity:
    """Read the fields that identify a disk."""
    return DiskIdentity(
        fields.text("source"),
        fields.text("serial", ""),
        fields.integer("virtual_size"),
        fields.text("format"),
        fields.integer("inode", 0),
    )


def skipped_to_json(skipped: SkippedDisk) -> Json:
    """Return a disk that took no part."""
    identity = identity_to_json(skipped.identity) if skipped.identity else {}
    return {"name": skipped.name, "reason": skipped.reason, **identity}


def skipped_from_json(fields: Fields) -> SkippedDisk:
    """Read a disk that took no part; its identity is there or not as a whole."""
    identity = identity_from_json(fields) if fields.has("source") else None
    return SkippedDisk(fields.text("name"), fields.text("reason", ""), identity)


def disk_to_json(disk: ManifestDisk) -> Json:
    """Return one disk's entry."""
    return {
        "name": disk.name,
        "level": disk.level.value,
        "reason": disk.reason,
        "chain": disk.chain,
        "parent": disk.parent,
        "incremental": disk.incremental,
        **identity_to_json(disk.identity),
        "bitmap": disk.bitmap,
        "image": disk.image,
        "record": disk.record,
        "stored_size": disk.stored_size,
        "bytes_copied": disk.bytes_copied,
        "digest": disk.digest,
        "digests": disk.digests,
        "encryption": disk.encryption,
        "content": disk.content,
        "content_reason": disk.content_reason,
    }


def disk_from_json(fields: Fields) -> ManifestDisk:
    """Read one disk's entry."""
    return ManifestDisk(
        name=fields.text("name"),
        level=fields.choice("level", Level),
        reason=fields.text("reason", ""),
        identity=identity_from_json(fields),
        chain=fields.text("chain"),
        image=fields.text("image"),
        record=fields.text("record", ""),
        parent=fields.text("parent", ""),
        incremental=fields.text("incremental", ""),
        bitmap=fields.flag("bitmap", True),
        stored_size=fields.integer("stored_size", 0),
        bytes_copied=fields.integer("bytes_copied", 0),
        digest=fields.text("digest", ""),
        digests=fields.text("digests", ""),
        encryption=fields.text("encryption", NONE),
        content=fields.text("content", ""),
        content_reason=fields.text("content_reason", ""),
    )


def stored_to_json(file: StoredFile) -> Json:
    """Return a file's entry."""
    return {"name": file.name, "size": file.size, "digest": file.digest}


def stored_from_json(fields: Fields) -> StoredFile:
    """Read a file's entry."""
    return StoredFile(fields.text("name"), fields.integer("size"), fields.text("digest"))


def to_json(manifest: Manifest) -> Json:
    """Return the manifest as plain data, in the order in which a human reads it."""
    consistency = manifest.consistency
    return {
        "format": FORMAT,
        "id": manifest.id,
        "repository": manifest.repository,
        "domain": {"uuid": manifest.domain_uuid, "name": manifest.domain_name},
        "checkpoint": manifest.checkpoint,
        "created": show_moment(manifest.created),
        "published": show_moment(manifest.published),
        "run": manifest.run,
        "consistency": {
            "frozen": consistency.frozen,
            "freeze_seconds": consistency.freeze_seconds,
            "paused": consistency.paused,
            "crash_consistent": consistency.crash_consistent,
        },
        "versions": dict(manifest.versions),
        "disks": [disk_to_json(disk) for disk in manifest.disks],
        "skipped": [skipped_to_json(disk) for disk in manifest.skipped],
        "files": [stored_to_json(file) for file in manifest.files],
        "stored": [stored_to_json(file) for file in manifest.stored],
    }


def from_json(data: t.Any, where: str) -> Manifest:
    """Read a manifest; ``where`` names it in errors. Raises ``NewerFormat`` or ``BadFile``, each one sentence."""
    fields = Fields(data, where)
    fields.check_format(FORMAT)
    domain, consistency = fields.nested("domain"), fields.nested("consistency")
    return Manifest(
        repository=fields.text("repository"),
        domain_uuid=domain.text("uuid"),
        domain_name=domain.text("name"),
        id=fields.text("id"),
        checkpoint=fields.text("checkpoint"),
        created=fields.moment("created"),
        published=fields.moment("published"),
        run=fields.text("run", ""),
        disks=tuple(disk_from_json(disk) for disk in fields.each("disks")),
        skipped=tuple(skipped_from_json(disk) for disk in fields.each("skipped")),
        files=tuple(stored_from_json(file) for file in fields.each("files")),
        stored=tuple(stored_from_json(file) for file in fields.each("stored")),
        versions=fields.pairs("versions"),
        consistency=Consistency(
            frozen=consistency.flag("frozen", False),
            freeze_seconds=consistency.number("freeze_seconds", 0.0),
            paused=consistency.flag("paused", False),
        ),
    )
