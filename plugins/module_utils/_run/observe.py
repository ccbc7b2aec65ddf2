# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Look at a domain and return what was seen as model objects: the first step of every use case about domains."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.capability import why_no_checkpoint
from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._xml.backup import parse_backup
from ansible_collections.virt.backup.plugins.module_utils._xml.checkpoint import parse_checkpoint
from ansible_collections.virt.backup.plugins.module_utils._xml.domain import parse_domain

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle
    from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk, Domain
    from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob

QCOW2_MAGIC = b"QFI\xfb"


@dataclasses.dataclass(frozen=True)
class Observation:
    """A domain at one moment. ``untrackable`` says per disk why it cannot carry a bitmap, empty when it can."""

    domain: Domain
    active: bool
    checkpoints: tuple[Checkpoint, ...]
    job: BackupJob | None
    untrackable: t.Mapping[str, str]

    @property
    def checkpoints_by_name(self) -> dict[str, Checkpoint]:
        """The checkpoints by name; libvirt keeps names unique within a domain."""
        return {checkpoint.name: checkpoint for checkpoint in self.checkpoints}

    def without_tracking(self, disk: str, reason: str) -> Observation:
        """Return the same with one disk known not to be able to carry a bitmap: what was learnt by trying."""
        return dataclasses.replace(self, untrackable={**self.untrackable, disk: reason})


def observe(handle: DomainHandle, *, measure: bool = True, local: bool = True) -> Observation:
    """Read a domain's disks, checkpoints and job.

    ``measure`` asks for the dirty bytes, which libvirt can tell of a running domain only. ``local`` says whether this
    machine is the hypervisor, so that image headers can be read.
    """
    active = handle.is_active()
    xml = handle.xml()
    names = [disk.name for disk in parse_domain(xml).disks if disk.has_media]
    sizes = {name: handle.capacity(name) for name in names}
    domain = parse_domain(xml, sizes)
    disks = tuple(dataclasses.replace(disk, inode=_inode(disk, local)) for disk in domain.disks)
    domain = dataclasses.replace(domain, disks=disks, paused=handle.state() == "paused")
    measured = measure and active
    checkpoints = tuple(
        parse_checkpoint(checkpoint, measured=measured) for checkpoint in handle.checkpoint_xmls(measure=measured)
    )
    job_xml = handle.job_xml() if active else None
    return Observation(
        domain=domain,
        active=active,
        checkpoints=checkpoints,
        job=None if job_xml is None else parse_backup(job_xml),
        untrackable={disk.name: why_no_checkpoint(disk, _qcow2_version(disk, local)) for disk in domain.disks},
    )


def require_running(observation: Observation, what: str) -> None:
    """Refuse a domain that is off: libvirt's backups and checkpoints live in its QEMU."""
    if not observation.active:
        raise StateError(
            f"domain: '{observation.domain.name}' is not running, and {what} needs a running QEMU; "
            "start the domain first (paused is enough)."
        )


def _inode(disk: Disk, local: bool) -> int:
    if not local or disk.source_type != "file":
        return 0
    try:
        return os.stat(disk.source).st_ino
    except OSError:
        return 0


def _qcow2_version(disk: Disk, local: bool) -> int | None:
    """Read the version from the image's header (qcow2 specification: magic, then a big-endian 32-bit number)."""
    if not local or disk.format != "qcow2" or disk.source_type not in ("file", "block"):
        return None
    try:
        with open(disk.source, "rb") as image:
            head = image.read(8)
    except OSError:
        return None
    if len(head) < 8 or head[:4] != QCOW2_MAGIC:
        return None
    return int.from_bytes(head[4:], "big")
