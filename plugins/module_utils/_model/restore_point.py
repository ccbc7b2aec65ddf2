# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A restore point as its manifest tells it: all that brings a domain back to one moment."""

from __future__ import annotations

import dataclasses
import datetime

from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level


@dataclasses.dataclass(frozen=True)
class DiskIdentity:
    """What has to stay the same for a bitmap to describe the disk that an image holds; ``virtual_size`` in bytes.

    ``inode`` is 0 where it is not known (no local file, a manifest from before it was recorded), and then proves
    nothing; so it is compared by :meth:`another_file` only.
    """

    source: str
    serial: str
    virtual_size: int
    format: str
    inode: int = dataclasses.field(default=0, compare=False)

    def another_file(self, other: DiskIdentity) -> bool:
        """Whether these are known to be two files, although they may have had the same path."""
        return bool(self.inode and other.inode and self.inode != other.inode)


@dataclasses.dataclass(frozen=True)
class ManifestDisk:
    """One disk in a restore point.

    ``parent`` is the restore point whose image of this disk is the backing image, empty for a full one; ``chain`` is
    the restore point that holds the full image at the bottom; ``incremental`` the checkpoint the increment starts from.
    ``image``, ``record`` and ``digests`` are file names beside the manifest; ``digests`` is empty without a list.
    ``content`` is the digest of all that shows through the chain, or empty for the reason in ``content_reason``.
    ``stored_size`` is the length of the image file in bytes, ``bytes_copied`` what was read as data. ``bitmap`` says
    whether the disk could carry a checkpoint. ``encryption`` is ``luks`` or ``none``.
    """

    name: str
    level: Level
    reason: str
    identity: DiskIdentity
    chain: str
    image: str
    record: str
    parent: str = ""
    incremental: str = ""
    bitmap: bool = True
    stored_size: int = 0
    bytes_copied: int = 0
    digest: str = ""
    digests: str = ""
    encryption: str = NONE
    content: str = ""
    content_reason: str = ""

    @property
    def file_names(self) -> tuple[str, ...]:
        """The names of the files that belong to the disk, beside the manifest."""
        return tuple(name for name in (self.image, self.record, self.digests) if name)


@dataclasses.dataclass(frozen=True)
class SkippedDisk:
    """A disk of the domain that took no part, and why; ``identity`` where it is known."""

    name: str
    reason: str
    identity: DiskIdentity | None = None


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """A file beside the manifest; ``size`` in bytes, ``digest`` as ``sha256:<hex>``, empty where none was taken."""

    name: str
    size: int
    digest: str


@dataclasses.dataclass(frozen=True)
class Consistency:
    """How consistent the content is: whether the guest's file systems were frozen and how long, or it was paused."""

    frozen: bool = False
    freeze_seconds: float = 0.0
    paused: bool = False

    @property
    def crash_consistent(self) -> bool:
        """Whether the content is what a power cut would have left: nothing had flushed the guest's caches."""
        return not self.frozen


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``. ``created`` is when the run began, ``published`` its commit; in UTC.

    ``files`` are the small ones that the run handed over, ``stored`` all others but the manifest.
    """

    repository: str
    domain_uuid: str
    domain_name: str
    id: str
    checkpoint: str
    created: datetime.datetime
    published: datetime.datetime
    run: str = ""
    disks: tuple[ManifestDisk, ...] = ()
    skipped: tuple[SkippedDisk, ...] = ()
    files: tuple[StoredFile, ...] = ()
    stored: tuple[StoredFile, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    consistency: Consistency = dataclasses.field(default_factory=Consistency)

    def disk(self, name: str) -> ManifestDisk | None:
        """Return the entry of the disk with that target name, or ``None`` when the restore point has no image of it."""
        return next((disk for disk in self.disks if disk.name == name), None)

    def has_file(self, name: str) -> bool:
        """Whether a small file of that name belongs to the restore point."""
        return any(file.name == name for file in self.files)
