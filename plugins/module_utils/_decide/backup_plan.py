# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""From a request and what is known of the domain to the job that libvirt will be asked for. Pure.

The same plan serves check mode and the run, and is made again when libvirt refuses a bitmap.
"""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.capability import why_not_by_default
from ansible_collections.virt.backup.plugins.module_utils._decide.level import (
    LevelDecision,
    LevelFacts,
    decide_level,
    why_unusable,
)
from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import DiskRequest
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob, JobDisk, Server
from ansible_collections.virt.backup.plugins.module_utils._model.level import BackupMode, Level

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk, Domain

SOCKET_DIRECTORY = "/run/virt-backup"
CHECKPOINT_INCONSISTENT = 109


@dataclasses.dataclass(frozen=True)
class BackupFacts:
    """What was observed before a backup.

    ``untrackable`` gives per disk why it cannot carry a bitmap (empty when it can), ``refused`` per disk libvirt's own
    words when it refused the bitmap at begin.
    """

    domain: Domain
    checkpoints: t.Mapping[str, Checkpoint]
    untrackable: t.Mapping[str, str]
    refused: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BackupPlan:
    """The job, with each participating disk's decision, each other disk's reason, and the new checkpoint's disks.

    ``checkpoint_disks`` is ``None`` when no checkpoint is to be made.
    """

    job: BackupJob
    decisions: t.Mapping[str, LevelDecision]
    skipped: t.Mapping[str, str]
    checkpoint_disks: t.Mapping[str, bool] | None


def plan_backup(request: BackupRequest, facts: BackupFacts) -> BackupPlan:
    """Decide who takes part, at which level and why, where the bytes go and what the checkpoint covers.

    :raises InputError: a level was demanded that a disk cannot have, or no disk is left.
    :raises StateError: ``fail_if_incremental_possible``, and it is possible.
    """
    skipped = _skipped(request, facts.domain)
    taking_part = [disk for disk in facts.domain.disks if disk.name not in skipped]
    if not taking_part:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items()) or "it has no disks"
        raise InputError("domain", request.domain, f"has no disk to back up ({reasons})", "list one under disks")
    decisions = {disk.name: _decide(disk, request, facts) for disk in taking_part}
    disks = [
        _job_disk(disk, request, decisions[disk.name], facts.domain.uuid)
        if disk.name in decisions
        else JobDisk(disk.name, participates=False)
        for disk in facts.domain.disks
    ]
    job = BackupJob(request.mode, _server(request, facts.domain), tuple(disks))
    _refuse_shared_places(request, job, facts.domain)
    return BackupPlan(job, decisions, skipped, _checkpoint_disks(request, facts, decisions))


def _skipped(request: BackupRequest, domain: Domain) -> dict[str, str]:
    if request.disks is None:
        reasons = {disk.name: why_not_by_default(disk) for disk in domain.disks}
        return {name: reason for name, reason in reasons.items() if reason}
    skipped = {}
    for disk in domain.disks:
        wish = request.disk(disk.name)
        if wish is None:
            skipped[disk.name] = "it is not listed under disks"
        elif not wish.backup:
            skipped[disk.name] = "backup is false for it"
    return skipped


def wanted_base(request: BackupRequest, disk: str) -> str:
    """Return the checkpoint that a disk is to start from: its own, or else the job's."""
    wish = request.disk(disk)
    return (wish.incremental if wish else "") or request.incremental


def wanted_mode(request: BackupRequest, disk: str) -> BackupMode:
    """Return the mode that is asked of a disk: its own, or else the job's.

    As in libvirt's own table, a checkpoint named for one disk outweighs a full for the whole job.
    """
    wish = request.disk(disk)
    if wish is None:
        return request.backupmode
    if wish.backupmode is not None:
        return wish.backupmode
    if wish.incremental and request.backupmode is BackupMode.FULL and not request.fail_if_incremental_possible:
        return BackupMode.AUTO
    return request.backupmode


def _decide(disk: Disk, request: BackupRequest, facts: BackupFacts) -> LevelDecision:
    base = wanted_base(request, disk.name)
    mode = wanted_mode(request, disk.name)
    level_facts = LevelFacts(
        disk=disk.name,
        mode=mode,
        checkpoint_name=base,
        checkpoint=facts.checkpoints.get(base),
        untrackable=facts.untrackable.get(disk.name, ""),
        refused=facts.refused.get(disk.name, ""),
    )
    decision = decide_level(level_facts)
    if mode is BackupMode.INCREMENTAL and decision.level is Level.FULL:
        raise _demand_failed(disk.name, request, facts, decision.reason)
    if mode is BackupMode.FULL and request.fail_if_incremental_possible:
        _refuse_needless_full(disk.name, base, request, facts)
    return decision


def _option(request: BackupRequest, disk: str, option: str) -> str:
    """Return the name of the option that decides for a disk: its own where it was given, else the job's."""
    wish = request.disk(disk)
    if request.disks is not None and wish is not None and getattr(wish, option):
        return f"disks[{request.disks.index(wish)}].{option}"
    return option


def _demand_failed(disk: str, request: BackupRequest, facts: BackupFacts, reason: str) -> InputError:
    base = wanted_base(request, disk)
    if base not in facts.checkpoints and not facts.untrackable.get(disk):
        there = ", ".join(facts.checkpoints) or "none"
        problem = f"is no checkpoint of domain '{facts.domain.name}', and disk '{disk}' has to start from it"
        remedy = f"name one that it has ({there}), or set backupmode to auto or full"
        return InputError(_option(request, disk, "incremental"), base, problem, remedy)
    error = InputError(
        _option(request, disk, "backupmode"),
        BackupMode.INCREMENTAL.value,
        f"cannot be had for disk '{disk}' from checkpoint '{base}' (libvirt error {CHECKPOINT_INCONSISTENT}): {reason}",
        f"set backupmode of disk '{disk}' to auto or full",
    )
    error.details["libvirt_code"] = CHECKPOINT_INCONSISTENT
    return error


def _refuse_needless_full(disk: str, base: str, request: BackupRequest, facts: BackupFacts) -> None:
    # The checkpoint that this very job makes is there already when the job is found active.
    own = request.checkpoint.name if request.checkpoint else ""
    names = [base] if base else [name for name in facts.checkpoints if name != own]
    if facts.untrackable.get(disk):
        return
    for name in names:
        checkpoint = facts.checkpoints.get(name)
        if checkpoint is not None and not why_unusable(disk, checkpoint):
            raise StateError(
                f"fail_if_incremental_possible: disk '{disk}' could be incremental from checkpoint '{name}', "
                "and backupmode: full was asked for; use backupmode: auto, or drop fail_if_incremental_possible."
            )


def _job_disk(disk: Disk, request: BackupRequest, decision: LevelDecision, uuid: str) -> JobDisk:
    wish = request.disk(disk.name) or DiskRequest(disk.name)
    pull = request.mode == "pull"
    incremental = decision.level is Level.INCREMENTAL
    return JobDisk(
        name=disk.name,
        level=decision.level,
        incremental=decision.incremental,
        exportname=(wish.exportname or disk.name) if pull else "",
        exportbitmap=(wish.exportbitmap or f"backup-{disk.name}") if pull and incremental else "",
        storage=wish.storage,
        path=_scratch_path(wish, request, uuid) if pull else _target_path(wish, request),
        driver=wish.driver,
    )


def derived_scratch(request: BackupRequest, uuid: str, disk: str) -> str:
    """Return the scratch file that is ours by its name; derived, so that a second run finds the same job."""
    return scratch_name(request.scratch_dir, uuid, disk)


def scratch_name(directory: str, uuid: str, disk: str) -> str:
    """Return the path of a disk's scratch file in a directory that is for them."""
    return posixpath.join(directory, f"virt-backup-{uuid}-{disk}.qcow2")


def _scratch_path(wish: DiskRequest, request: BackupRequest, uuid: str) -> str:
    return wish.scratch or derived_scratch(request, uuid, wish.name)


def _target_path(wish: DiskRequest, request: BackupRequest) -> str:
    return wish.target or posixpath.join(request.target_dir, f"{wish.name}.{wish.driver}")


def place_option(request: BackupRequest, disk: str) -> str:
    """Return the name of the option that says where a disk's scratch or target goes."""
    kind = "scratch" if request.mode == "pull" else "target"
    own = _option(request, disk, kind)
    return own if own != kind else f"{kind}_dir"


def _refuse_shared_places(request: BackupRequest, job: BackupJob, domain: Domain) -> None:
    """Refuse to write where the domain itself, its socket or another disk of the job writes, named or derived."""
    taken = {disk.source: f"the source of disk '{disk.name}' of the domain itself" for disk in domain.disks}
    if job.server is not None and job.server.socket:
        taken[job.server.socket] = "the socket of the job"
    for disk in job.participating:
        if disk.path in taken:
            remedy = "choose another path"
            raise InputError(place_option(request, disk.name), disk.path, f"is {taken[disk.path]}", remedy)
        taken[disk.path] = f"where disk '{disk.name}' writes already"


def _server(request: BackupRequest, domain: Domain) -> Server | None:
    if request.mode == "push":
        return None
    if request.server is None:
        return Server(socket=default_socket(domain.uuid))
    if request.server.transport == "unix" and not request.server.socket:
        return dataclasses.replace(request.server, socket=default_socket(domain.uuid))
    return request.server


def default_socket(uuid: str) -> str:
    """Return where a domain's job is served when no socket was named.

    It begins with the name of the domain's AppArmor profile: the rule of the role ``hypervisor`` allows no other there.
    """
    return posixpath.join(SOCKET_DIRECTORY, f"libvirt-{uuid}.sock")


def _checkpoint_disks(
    request: BackupRequest, facts: BackupFacts, decisions: t.Mapping[str, LevelDecision]
) -> dict[str, bool] | None:
    if request.checkpoint is None:
        return None
    if request.checkpoint.disks is not None:
        listed = dict(request.checkpoint.disks)
        return {disk.name: listed.get(disk.name, False) for disk in facts.domain.disks}
    chosen = {disk.name: disk.name in decisions and not facts.untrackable.get(disk.name) for disk in facts.domain.disks}
    # A checkpoint without a single bitmap would mark a moment and remember nothing.
    return chosen if any(chosen.values()) else None


def same_job(plan: BackupPlan, request: BackupRequest, active: BackupJob) -> bool:
    """Whether the active job is the one that this request would start: disks, levels, server and paths."""
    if (active.mode, active.server) != (plan.job.mode, plan.job.server):
        return False
    wanted = {disk.name: disk for disk in plan.job.participating}
    running = {disk.name: disk for disk in active.participating}
    if wanted.keys() != running.keys():
        return False
    return all(_same_disk(request, disk, running[name]) for name, disk in wanted.items())


def _same_disk(request: BackupRequest, wanted: JobDisk, running: JobDisk) -> bool:
    mode, base = wanted_mode(request, wanted.name), wanted_base(request, wanted.name)
    levels = {
        BackupMode.FULL: running.level is Level.FULL,
        BackupMode.INCREMENTAL: running.incremental == base,
        BackupMode.AUTO: running.level is Level.FULL or running.incremental == base,
    }
    place = (wanted.path, wanted.storage, wanted.exportname, wanted.driver)
    same_place = place == (running.path, running.storage, running.exportname, running.driver)
    wish = request.disk(wanted.name)
    bitmap = wish.exportbitmap if wish and running.level is Level.INCREMENTAL else ""
    return same_place and levels[mode] and bitmap in ("", running.exportbitmap)
