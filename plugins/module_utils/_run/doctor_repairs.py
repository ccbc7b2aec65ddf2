# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""How each kind of repair is made. One that is interrupted leaves something that the next diagnosis finds again."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.repair import RepairKind
from ansible_collections.virt.backup.plugins.module_utils._model.text import quoted
from ansible_collections.virt.backup.plugins.module_utils._run.checkpoint import delete_lone, delete_one
from ansible_collections.virt.backup.plugins.module_utils._store import trash
from ansible_collections.virt.backup.plugins.module_utils._xml.checkpoint import (
    for_redefinition,
    parse_checkpoint,
    without_bitmaps,
)

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle
    from ansible_collections.virt.backup.plugins.module_utils._model.repair import Repair
    from ansible_collections.virt.backup.plugins.module_utils._run.doctor_facts import DoctorRequest
    from ansible_collections.virt.backup.plugins.module_utils._run.observe import Observation
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths


def make(repair: Repair, request: DoctorRequest, paths: DomainPaths, handle: DomainHandle, seen: Observation) -> str:
    """Make one repair; return why it could not be made, empty when it was. Raises :class:`BackupError` as well."""
    if repair.kind is RepairKind.END_JOB:
        _end_job(handle, request.timeout)
    elif repair.kind is RepairKind.STOP_SERVER:
        handle.stop_lost_server()
    elif repair.kind in (RepairKind.REMOVE_SOCKET, RepairKind.REMOVE_SCRATCH):
        os.unlink(repair.subject)
    elif repair.kind is RepairKind.REMOVE_CHECKPOINT:
        delete_one(handle, repair.subject, seen)
    elif repair.kind is RepairKind.REMOVE_STAGING:
        trash.discard(paths, repair.subject, paths.staging(repair.subject))
        trash.empty(paths, repair.subject)
    elif repair.kind is RepairKind.FINISH_REMOVAL:
        trash.finish(paths)
    elif repair.kind is RepairKind.REDEFINE_CHECKPOINT:
        return _redefine(handle, repair, seen)
    else:
        _remove_bitmaps(handle, repair, seen)
    return ""


def _end_job(handle: DomainHandle, timeout: int) -> None:
    handle.abort_job()
    if not handle.wait_until_job_ended(timeout):
        raise StateError(f"the backup job had not ended {timeout} seconds after it was told to; repair again.")


def _redefine(handle: DomainHandle, repair: Repair, seen: Observation) -> str:
    """Give libvirt back what it has forgotten, with those disks only whose bitmaps are still there.

    libvirt validates all disks of a definition or none, so each is tried by itself first.
    """
    disks = [disk.name for disk in seen.domain.disks]
    name = parse_checkpoint(repair.xml).name
    if name != repair.subject:
        return f"its stored definition is that of {quoted(name)}"
    fitting, _left_out = for_redefinition(repair.xml, disks, seen.checkpoints_by_name)
    tracked = [disk.name for disk in parse_checkpoint(fitting).disks if disk.bitmap]
    alive = tracked if not seen.active else [name for name in tracked if _is_alive(handle, repair, fitting, name)]
    if not alive:
        return "its bitmaps are gone, so the next backup of its disks is full"
    handle.create_checkpoint(without_bitmaps(fitting, set(tracked) - set(alive)), redefine=True)
    return ""


def _is_alive(handle: DomainHandle, repair: Repair, xml: str, disk: str) -> bool:
    others = {entry.name for entry in parse_checkpoint(xml).disks} - {disk}
    try:
        handle.create_checkpoint(without_bitmaps(xml, others), redefine=True, validate=True)
    except BackupError:
        return False
    handle.delete_checkpoint(repair.subject, metadata_only=True)
    return True


def _remove_bitmaps(handle: DomainHandle, repair: Repair, seen: Observation) -> None:
    """Remove the bitmaps that record nothing any more from a checkpoint, and leave it to the other disks.

    libvirt deletes all bitmaps of a checkpoint or none. So for a moment it knows the checkpoint with each spoilt disk
    alone, which it then deletes, a bitmap that is there but broken with it; and at last with the disks that are good.
    Who is interrupted in between leaves a checkpoint that libvirt has forgotten, which is the repair after this one.
    """
    name = repair.subject
    entry, xml = seen.checkpoints_by_name[name], handle.checkpoint_xml(name)
    good = [disk.name for disk in entry.disks if disk.bitmap and disk.name not in repair.disks]
    if not good or xml is None:
        delete_one(handle, name, seen)
        return
    disks = [disk.name for disk in seen.domain.disks]
    fitting, _left_out = for_redefinition(xml, disks, seen.checkpoints_by_name)
    everybody = {disk.name for disk in parse_checkpoint(fitting).disks}
    for disk in repair.disks:
        if disk in everybody:
            handle.delete_checkpoint(name, metadata_only=True)
            handle.create_checkpoint(without_bitmaps(fitting, everybody - {disk}), redefine=True)
            delete_lone(handle, name)
    handle.delete_checkpoint(name, metadata_only=True)
    handle.create_checkpoint(without_bitmaps(fitting, set(repair.disks)), redefine=True)
