# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Make a checkpoint present or absent: observe, compare, and unless in check mode act."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.capability import TOO_OLD, disk_too_old
from ansible_collections.virt.backup.plugins.module_utils._decide.checkpoint_goal import (
    check_goal,
    checkpoint_disks,
    differences,
    excerpt,
)
from ansible_collections.virt.backup.plugins.module_utils._decide.level import why_unusable
from ansible_collections.virt.backup.plugins.module_utils._libvirt import connect
from ansible_collections.virt.backup.plugins.module_utils._model.errors import (
    BackupError,
    InputError,
    LibvirtFailure,
    StateError,
)
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.observe import observe, require_running
from ansible_collections.virt.backup.plugins.module_utils._run.quiesce import Freeze, foresee_freeze, frozen
from ansible_collections.virt.backup.plugins.module_utils._run.schema import check_schema, complaint_of
from ansible_collections.virt.backup.plugins.module_utils._xml.checkpoint import (
    build_checkpoint,
    domain_uuid,
    for_redefinition,
    parse_checkpoint,
    without_bitmaps,
)

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle
    from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint
    from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint_goal import CheckpointGoal
    from ansible_collections.virt.backup.plugins.module_utils._run.observe import Observation


def ensure_checkpoint(goal: CheckpointGoal, *, check: bool) -> Outcome:
    """Bring the checkpoint into the state that was asked for.

    :raises InputError: an option cannot be met.
    :raises StateError: a checkpoint of that name exists and differs, or the domain is off.
    """
    check_goal(goal)
    with connect(goal.uri) as hypervisor:
        handle = hypervisor.domain(goal.domain)
        seen = observe(handle, local=hypervisor.is_local)
        if goal.state == "absent":
            return _ensure_absent(handle, goal, seen, check=check)
        if goal.redefine_xml:
            return _ensure_redefined(handle, goal, seen, check=check)
        return _ensure_present(handle, goal, seen, check=check)


def checkpoint_result(checkpoint: Checkpoint) -> dict[str, t.Any]:
    """Return a checkpoint as plain data; ``dirty_bytes``, ``usable`` and ``reason`` only when it was measured."""
    disks = []
    for disk in checkpoint.disks:
        entry: dict[str, t.Any] = {"name": disk.name, "checkpoint": "bitmap" if disk.bitmap else "no"}
        if checkpoint.measured:
            reason = why_unusable(disk.name, checkpoint)
            entry.update(dirty_bytes=disk.dirty_bytes, usable=not reason, reason=reason)
        disks.append(entry)
    return {
        "name": checkpoint.name,
        "parent": checkpoint.parent,
        "creation_time": checkpoint.creation_time,
        "description": checkpoint.description,
        "disks": disks,
    }


def _state(checkpoint: Checkpoint | None) -> dict[str, t.Any]:
    if checkpoint is None:
        return {"checkpoint": None}
    disks = {disk.name: "bitmap" if disk.bitmap else "no" for disk in checkpoint.disks}
    return {"checkpoint": {"name": checkpoint.name, "description": checkpoint.description, "disks": disks}}


def _present(checkpoint: Checkpoint, xml: str, before: Checkpoint | None, freeze: Freeze | None = None) -> Outcome:
    # What an existing one was measured to hold stays out: the answer is the same as when it was made.
    made = dataclasses.replace(checkpoint, measured=False)
    result: dict[str, t.Any] = {"checkpoint": checkpoint_result(made), "xml": xml}
    if freeze is not None:
        result.update(quiesced=freeze.quiesced, freeze_seconds=freeze.seconds)
    return Outcome(
        changed=before is None,
        result=result,
        before=_state(before),
        after=_state(checkpoint),
        warnings=tuple(freeze.warnings) if freeze else (),
    )


def _ensure_present(handle: DomainHandle, goal: CheckpointGoal, seen: Observation, *, check: bool) -> Outcome:
    found = seen.checkpoints_by_name.get(goal.name)
    if found is not None:
        wanted = None if goal.disks is None else checkpoint_disks(goal, seen.domain, seen.untrackable)
        _refuse_different(goal, differences(goal, wanted, found))
        return _present(found, handle.checkpoint_xml(goal.name) or "", before=found)
    disks = checkpoint_disks(goal, seen.domain, seen.untrackable)
    require_running(seen, "a checkpoint")
    xml = build_checkpoint(goal.name, disks, goal.description)
    check_schema(xml, "domaincheckpoint")
    foreseen = Freeze(warnings=foresee_freeze(seen.domain, goal.quiesce))
    if check:
        return _present(parse_checkpoint(xml), xml, before=None, freeze=foreseen)
    made = False
    try:
        with frozen(handle, goal.quiesce, seen.domain) as freeze:
            xml = _create(handle, goal, seen, xml)
            made = True
    except StateError:
        # The guest thawed too early, and it was required that it does not.
        if made:
            handle.delete_checkpoint(goal.name)
        raise
    created = handle.checkpoint_xml(goal.name) or xml
    return _present(parse_checkpoint(created), created, before=None, freeze=freeze)


def _create(handle: DomainHandle, goal: CheckpointGoal, seen: Observation, xml: str) -> str:
    """Create the checkpoint, without the disks whose images turn out to be too old; return the XML that was taken.

    :raises InputError: such a disk was listed by name, or no other is left.
    """
    while True:
        try:
            handle.create_checkpoint(xml)
            return xml
        except LibvirtFailure as error:
            disk = disk_too_old(error.text, seen.domain)
            if not disk or seen.untrackable[disk]:
                raise
        seen = seen.without_tracking(disk, TOO_OLD)
        xml = build_checkpoint(goal.name, checkpoint_disks(goal, seen.domain, seen.untrackable), goal.description)


def _refuse_different(goal: CheckpointGoal, words: list[str]) -> None:
    if words:
        raise StateError(
            f"name: checkpoint '{goal.name}' exists and differs: {'; '.join(words)}. A checkpoint cannot be changed; "
            "choose another name, or remove it with state: absent if nothing starts from it."
        )


_REDEFINE = "take the XML from virsh checkpoint-dumpxml or from a restore point's checkpoint.xml"


def _bad_xml(goal: CheckpointGoal, problem: str, remedy: str = _REDEFINE) -> InputError:
    return InputError("redefine_xml", excerpt(goal.redefine_xml), problem, remedy)


def _definition(goal: CheckpointGoal) -> Checkpoint:
    """Read the definition that is to be given back, and refuse what is none of this checkpoint."""
    try:
        wanted = parse_checkpoint(goal.redefine_xml)
    except BackupError as error:
        raise _bad_xml(goal, f"is no checkpoint: {error.message.rstrip('.')}") from error
    if wanted.name != goal.name:
        remedy = f"give name: {wanted.name}, or the XML of that checkpoint"
        raise InputError("name", goal.name, f"is not the name in redefine_xml, which is {wanted.name!r}", remedy)
    if not wanted.creation_time:
        raise _bad_xml(goal, "has no creationTime")
    return wanted


def _check_fitting(goal: CheckpointGoal, fitting: str, left_out: list[str], seen: Observation) -> None:
    """Refuse what libvirt would refuse, in check mode too."""
    uuid = domain_uuid(fitting)
    if uuid not in ("", seen.domain.uuid):
        problem = f"is of the domain with UUID {uuid}, and '{seen.domain.name}' has {seen.domain.uuid}"
        raise _bad_xml(goal, problem, "give the XML of a checkpoint of this domain")
    if not any(disk.bitmap for disk in parse_checkpoint(fitting).disks):
        gone = f" (it has no {', '.join(left_out)})" if left_out else ""
        raise _bad_xml(goal, f"covers no disk of domain '{seen.domain.name}'{gone}", "there is nothing to redefine")
    complaint = complaint_of(fitting, "domaincheckpoint")
    if complaint:
        raise _bad_xml(goal, f"is not what this host's libvirt takes: {complaint}")


def _ensure_redefined(handle: DomainHandle, goal: CheckpointGoal, seen: Observation, *, check: bool) -> Outcome:
    _definition(goal)
    disks = [disk.name for disk in seen.domain.disks]
    fitting, left_out = for_redefinition(goal.redefine_xml, disks, seen.checkpoints_by_name)
    found = seen.checkpoints_by_name.get(goal.name)
    if found is not None:
        bitmaps = {
            **dict.fromkeys(disks, False),
            **{disk.name: disk.bitmap for disk in parse_checkpoint(fitting).disks},
        }
        _refuse_different(goal, differences(goal, bitmaps, found))
        return _present(found, handle.checkpoint_xml(goal.name) or "", before=found)
    _check_fitting(goal, fitting, left_out, seen)
    if goal.validate:
        require_running(seen, "validate")
    if not check:
        handle.create_checkpoint(fitting, redefine=True, validate=goal.validate)
    xml = (None if check else handle.checkpoint_xml(goal.name)) or fitting
    warnings = (f"Left out of checkpoint '{goal.name}', since the domain has it no more: {', '.join(left_out)}.",)
    return dataclasses.replace(_present(parse_checkpoint(xml), xml, before=None), warnings=warnings if left_out else ())


def _ensure_absent(handle: DomainHandle, goal: CheckpointGoal, seen: Observation, *, check: bool) -> Outcome:
    found = seen.checkpoints_by_name.get(goal.name)
    if found is None:
        return Outcome(False, {"checkpoint": None, "xml": ""}, before=_state(None), after=_state(None))
    if not goal.metadata_only:
        require_running(seen, "removing a checkpoint with its bitmaps (metadata_only: true forgets it without them)")
    lost: list[str] = []
    if not check:
        lost = _delete(handle, goal, seen)
    sentence = f"The bitmap of checkpoint '{goal.name}' was gone already on: {', '.join(lost)}."
    warnings = (sentence,) if lost else ()
    return Outcome(True, {"checkpoint": None, "xml": ""}, before=_state(found), after=_state(None), warnings=warnings)


def _delete(handle: DomainHandle, goal: CheckpointGoal, seen: Observation) -> list[str]:
    """Delete the checkpoint (and its descendants first, when asked); return the disks whose bitmap was gone already."""
    if goal.metadata_only:
        handle.delete_checkpoint(goal.name, children=goal.children, metadata_only=True)
        return []
    names = [goal.name]
    if goal.children:
        names = [*reversed(handle.checkpoint_descendants(goal.name)), goal.name]
    lost: list[str] = []
    for name in names:
        lost.extend(delete_one(handle, name, seen))
    return lost


def delete_one(handle: DomainHandle, name: str, seen: Observation) -> list[str]:
    """Delete one checkpoint, also when some of its bitmaps are gone; return the disks on which there was none.

    libvirt deletes all bitmaps of a checkpoint or none ("bitmap not found in backing chain"), so one replaced disk
    would keep the bitmaps of all others alive for ever. The way out is to redefine the checkpoint without the lost
    disks and to delete that. A bitmap that is broken looks lost, too; it is deleted after that, with the checkpoint
    redefined for its disk alone, since it would hinder every resize of that disk.
    """
    try:
        handle.delete_checkpoint(name)
        return []
    except LibvirtFailure:
        lost = _lost_disks(name, seen)
        xml = handle.checkpoint_xml(name)
        if not lost or xml is None:
            raise
    # A disk that was unplugged has lost its bitmap for this domain too, and libvirt takes no name it does not know.
    disks = [disk.name for disk in seen.domain.disks]
    fitting, _gone = for_redefinition(xml, disks, seen.checkpoints_by_name)
    tracked = {disk.name for disk in parse_checkpoint(fitting).disks if disk.bitmap}
    if tracked.difference(lost):
        handle.create_checkpoint(without_bitmaps(fitting, lost), redefine=True)
        handle.delete_checkpoint(name)
    else:
        handle.delete_checkpoint(name, metadata_only=True)
    return [disk for disk in lost if disk not in tracked or not _delete_broken(handle, name, fitting, tracked, disk)]


def _delete_broken(handle: DomainHandle, name: str, xml: str, tracked: set[str], disk: str) -> bool:
    """Delete the bitmap of a checkpoint that libvirt does not know (any more) on one disk, if it is there."""
    handle.create_checkpoint(without_bitmaps(xml, tracked - {disk}), redefine=True)
    return delete_lone(handle, name)


def delete_lone(handle: DomainHandle, name: str) -> bool:
    """Delete a checkpoint of one disk, and only its name where its bitmap is gone; return whether there was one."""
    try:
        handle.delete_checkpoint(name)
    except BackupError:
        handle.delete_checkpoint(name, metadata_only=True)
        return False
    return True


def _lost_disks(name: str, seen: Observation) -> list[str]:
    checkpoint = seen.checkpoints_by_name.get(name)
    return [disk.name for disk in checkpoint.disks if disk.bitmap and disk.dirty_bytes is None] if checkpoint else []
