# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What libvirt and QEMU can do with a disk, by its kind. Pure rules; each answer is a reason in words, empty for "yes".

Sources: ``qemuDomainDiskBlockJobIsSupported``, ``virDomainBackupAlignDisks`` and ``virDomainCheckpointAlignDisks`` of
libvirt 9.0 and 11.3; QEMU's "Cannot store dirty bitmaps in qcow2 v2 files".
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk, Domain


TOO_OLD = (
    "the image is qcow2 version 2, which cannot hold a dirty bitmap; "
    "with the domain off, qemu-img amend -o compat=1.1 makes it version 3"
)

# QEMU's own words, which no daemon translates (qcow2_co_can_store_new_dirty_bitmap).
_QEMU_ON_TOO_OLD = "Cannot store dirty bitmaps in qcow2 v2 files"


_PRESERVES_SHUTDOWN = 11_010_000


def preserves_shutdown(daemon: int) -> bool:
    """Whether that version of the daemon can keep QEMU, and with it the job, when the guest shuts down.

    It is VIR_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN; an older daemon refuses any flag that it does not know. QEMU
    is then reset and paused, and ends when the job has.
    """
    return daemon >= _PRESERVES_SHUTDOWN


def why_no_backup(disk: Disk) -> str:
    """Return why a backup job cannot take this disk, even when it is listed."""
    if not disk.has_media:
        return f"the {disk.device} drive is empty" if disk.device != "disk" else "the disk has no source"
    if disk.transient:
        return "the disk is transient: libvirt supports no block jobs on it, and its content ends with the domain"
    if disk.bus == "sd":
        return "libvirt supports no block jobs on disks of the bus 'sd'"
    if disk.source_type in ("vhostuser", "vhostvdpa"):
        return f"libvirt supports no block jobs on {disk.source_type} disks"
    return ""


def why_not_by_default(disk: Disk) -> str:
    """Return why a disk stays out unless it is listed by name."""
    impossible = why_no_backup(disk)
    if impossible:
        return impossible
    if disk.readonly:
        return (
            "the disk is read-only: the domain cannot change it; list it under disks to have it backed up all the same"
        )
    return ""


def why_no_checkpoint(disk: Disk, qcow2_version: int | None = None) -> str:
    """Return why a disk cannot carry a dirty bitmap.

    ``qcow2_version`` is 2 or 3, ``None`` where it could not be read; then QEMU has the last word.
    """
    impossible = why_no_backup(disk)
    if impossible:
        return impossible
    if disk.readonly:
        return "the disk is read-only: nothing can change, so there is nothing to track"
    if disk.format != "qcow2":
        return f"the disk's format is {disk.format}: only qcow2 images can hold a dirty bitmap"
    if qcow2_version == 2:
        return TOO_OLD
    return ""


def disk_too_old(complaint: str, domain: Domain) -> str:
    """Return the disk whose image QEMU says is too old for a bitmap, empty for any other complaint.

    Where the header cannot be read (a network disk, a volume) this is how one learns of it, and it fails the whole job.
    """
    if _QEMU_ON_TOO_OLD not in complaint:
        return ""
    return next((disk.name for disk in domain.disks if disk.node and f"'{disk.node}'" in complaint), "")
