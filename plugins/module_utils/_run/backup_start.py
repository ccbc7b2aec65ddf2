# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Start a backup job: observe, decide, and unless in check mode begin it and read back what libvirt made of it."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import BackupFacts, plan_backup, same_job
from ansible_collections.virt.backup.plugins.module_utils._decide.backup_request import (
    check_against_domain,
    check_request,
)
from ansible_collections.virt.backup.plugins.module_utils._decide.capability import (
    TOO_OLD,
    disk_too_old,
    preserves_shutdown,
)
from ansible_collections.virt.backup.plugins.module_utils._libvirt import connect
from ansible_collections.virt.backup.plugins.module_utils._model.errors import (
    BackupError,
    InputError,
    LibvirtFailure,
    StateError,
)
from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob
from ansible_collections.virt.backup.plugins.module_utils._model.libvirt_error import (
    CHECKPOINT_INCONSISTENT,
    OPERATION_FAILED,
)
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.backup_report import (
    check_backing,
    job_result,
    job_state,
    server_result,
)
from ansible_collections.virt.backup.plugins.module_utils._run.dead_man import arm, disarm, renew
from ansible_collections.virt.backup.plugins.module_utils._run.job_files import remember_pause
from ansible_collections.virt.backup.plugins.module_utils._run.observe import Observation, observe, require_running
from ansible_collections.virt.backup.plugins.module_utils._run.preflight import check_places, remove_leftovers
from ansible_collections.virt.backup.plugins.module_utils._run.preflight_scratch import (
    check_scratch,
    marks_of,
    rooms_result,
    unwatched,
)
from ansible_collections.virt.backup.plugins.module_utils._run.quiesce import Freeze, foresee_freeze, frozen
from ansible_collections.virt.backup.plugins.module_utils._run.resume import resume_after
from ansible_collections.virt.backup.plugins.module_utils._run.schema import check_schema
from ansible_collections.virt.backup.plugins.module_utils._xml.backup import build_backup, parse_backup
from ansible_collections.virt.backup.plugins.module_utils._xml.checkpoint import build_checkpoint

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import BackupPlan
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle, Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.scratch import Room

# Whole names: "vda" in the checkpoint "nightly-vda.1" is no disk.
_NAMES = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


@dataclasses.dataclass(frozen=True)
class _Documents:
    """A plan with the two documents that carry it; ``checkpoint`` is empty when no checkpoint is made."""

    plan: BackupPlan
    backup: str
    checkpoint: str


@dataclasses.dataclass(frozen=True)
class _Ground:
    """What was found where the job will run: ``leftovers`` to remove, the ``rooms`` of its scratch.

    ``preserve`` is whether the daemon keeps the job when the guest shuts down, ``local`` whether it is on this machine.
    """

    leftovers: list[str]
    rooms: tuple[Room, ...]
    preserve: bool
    local: bool


def start_backup(request: BackupRequest, *, check: bool) -> Outcome:
    """Start the job that ``request`` describes, or find it running.

    :raises InputError: an option cannot be met; nothing was started.
    :raises StateError: the domain is off, another job is active, or a needless full was to be refused.
    :raises LibvirtFailure: libvirt refused; the checkpoint of the attempt is gone again.
    """
    check_request(request)
    with connect(request.uri) as hypervisor:
        hypervisor.require_backups()
        handle = hypervisor.domain(request.domain)
        seen = observe(handle, local=hypervisor.is_local)
        require_running(seen, "a backup")
        check_against_domain(request, seen.domain, seen.untrackable)
        documents = _prepare(request, seen, {})
        if seen.job is not None:
            outcome = _already_active(request, seen, documents)
            if not check:
                renew(documents.plan.job.server, handle.uuid)
            return outcome
        _refuse_known_checkpoint(request, seen)
        foresee_freeze(seen.domain, request.quiesce)
        ground = _ground(hypervisor, request, documents.plan, seen)
        _refuse_other_job(handle)
        if check:
            return _planned(documents, request, seen, ground)
        remove_leftovers(ground.leftovers)
        return _begin(handle, request, seen, documents, ground)


def _ground(hypervisor: Hypervisor, request: BackupRequest, plan: BackupPlan, seen: Observation) -> _Ground:
    preserve = preserves_shutdown(hypervisor.version())
    if not hypervisor.is_local:
        return _Ground([], (), preserve, local=False)
    leftovers = check_places(request, plan, seen.domain)
    return _Ground(leftovers, check_scratch(request, plan, seen.domain, leftovers), preserve, local=True)


def _prepare(request: BackupRequest, seen: Observation, refused: t.Mapping[str, str]) -> _Documents:
    facts = BackupFacts(seen.domain, seen.checkpoints_by_name, seen.untrackable, refused)
    plan = plan_backup(request, facts)
    check_backing(request, plan)
    backup = build_backup(plan.job)
    check_schema(backup, "domainbackup")
    checkpoint = ""
    if request.checkpoint is not None and plan.checkpoint_disks is not None:
        checkpoint = build_checkpoint(request.checkpoint.name, plan.checkpoint_disks, request.checkpoint.description)
        check_schema(checkpoint, "domaincheckpoint")
    return _Documents(plan, backup, checkpoint)


def _already_active(request: BackupRequest, seen: Observation, documents: _Documents) -> Outcome:
    job = t.cast(BackupJob, seen.job)
    has_checkpoint = not documents.checkpoint or _checkpoint_name(request) in seen.checkpoints_by_name
    if not (has_checkpoint and same_job(documents.plan, request, job)):
        raise StateError(
            f"domain: '{seen.domain.name}' has another backup job active, {job.describe()}, and a domain has one at a "
            "time; wait until it has ended, or end it with the tool that started it."
        )
    result = job_result(documents.plan, job, seen.domain)
    return Outcome(
        changed=False,
        result={**result, **_freeze_result(Freeze()), "leftovers": [], "scratch": [], **_xml_result(documents)},
        before=job_state(job),
        after=job_state(job),
    )


def _checkpoint_name(request: BackupRequest) -> str:
    return request.checkpoint.name if request.checkpoint else ""


def _refuse_known_checkpoint(request: BackupRequest, seen: Observation) -> None:
    name = _checkpoint_name(request)
    if name in seen.checkpoints_by_name:
        remedy = "choose a name that was never used, or remove that one with virt_checkpoint"
        raise InputError("checkpoint.name", name, f"is a checkpoint of domain '{seen.domain.name}' already", remedy)


def _refuse_other_job(handle: DomainHandle) -> None:
    """Look again right before something happens: a guest must not be frozen, nor scratch removed, under another job."""
    if handle.job_xml() is not None or handle.has_other_job():
        raise StateError(
            f"domain: '{handle.name}' is held by another job (a backup, a migration, a save or a snapshot); "
            "wait until it has ended, virsh domjobinfo shows it."
        )


def _planned(documents: _Documents, request: BackupRequest, seen: Observation, ground: _Ground) -> Outcome:
    plan = documents.plan
    return Outcome(
        changed=True,
        result={
            **job_result(plan, plan.job, seen.domain),
            **_freeze_result(Freeze()),
            **_xml_result(documents),
            **_ground_result(request, ground),
        },
        before=job_state(None),
        after=job_state(plan.job),
        warnings=(
            *_plan_warnings(request, documents),
            *unwatched(ground.rooms),
            *foresee_freeze(seen.domain, request.quiesce),
        ),
    )


def _plan_warnings(request: BackupRequest, documents: _Documents) -> tuple[str, ...]:
    if request.checkpoint is None or documents.checkpoint:
        return ()
    name = request.checkpoint.name
    sentence = (
        f"No checkpoint '{name}' is made: no participating disk can carry a bitmap; the next backup is full again."
    )
    return (sentence,)


def _begin(
    handle: DomainHandle, request: BackupRequest, seen: Observation, documents: _Documents, ground: _Ground
) -> Outcome:
    server = documents.plan.job.server
    try:
        if server is not None and ground.local:
            remember_pause(server, handle.uuid, paused=handle.is_paused_by_io_error())
        arm(request, server, handle.uuid, marks_of(request, ground.rooms))
        with frozen(handle, request.quiesce, seen.domain) as freeze:
            documents = _begin_with_fallback(handle, request, seen, documents, preserve=ground.preserve)
        job = _begun_job(handle, documents.plan.job)
    except BaseException as error:
        _undo(handle, request, documents, error, local=ground.local)
        raise
    return Outcome(
        changed=True,
        result={
            **job_result(documents.plan, job, seen.domain),
            **_freeze_result(freeze),
            **_xml_result(documents),
            **_ground_result(request, ground),
        },
        before=job_state(None),
        after=job_state(job),
        warnings=(*_plan_warnings(request, documents), *unwatched(ground.rooms), *freeze.warnings),
    )


def _begun_job(handle: DomainHandle, planned: BackupJob) -> BackupJob:
    """Return the job as libvirt made it; a push of little data may be over by now, and then it was as planned."""
    job_xml = handle.job_xml()
    if job_xml is not None:
        return parse_backup(job_xml)
    record = handle.completed_backup() if planned.mode == "push" else None
    if record is not None and record["success"]:
        return planned
    why = f": {record['errmsg']}" if record is not None and record["errmsg"] else ""
    raise StateError(
        f"The backup job of domain '{handle.name}' ended as soon as it had begun{why}; look at the domain, and start "
        "the backup again."
    )


def _begin_with_fallback(
    handle: DomainHandle, request: BackupRequest, seen: Observation, documents: _Documents, *, preserve: bool
) -> _Documents:
    """Begin; where libvirt refuses one disk's bitmap, that disk alone becomes full and the job is tried again.

    Error 109 comes before libvirt has created a file, and takes the checkpoint's metadata back by itself. So does
    QEMU's refusal of a new bitmap on an image that is too old, which then stays out of the checkpoint.
    """
    refused: dict[str, str] = {}
    while True:
        try:
            handle.begin_backup(
                documents.backup,
                documents.checkpoint or None,
                reuse_external=request.reuse_external,
                preserve=preserve,
            )
            return documents
        except LibvirtFailure as error:
            disk, too_old = _refused_disk(error, documents.plan), disk_too_old(error.text, seen.domain)
            if disk and disk not in refused:
                refused[disk] = error.text
            elif too_old and not seen.untrackable[too_old]:
                seen = seen.without_tracking(too_old, TOO_OLD)
                check_against_domain(request, seen.domain, seen.untrackable)
            else:
                raise
        documents = _prepare(request, seen, refused)


def _refused_disk(error: LibvirtFailure, plan: BackupPlan) -> str:
    """Return the disk whose bitmap libvirt names as broken, empty for another error or none of our disks.

    The daemon may speak any language, quotes and all: of our incremental disks it is the one whose name comes last.
    """
    if error.code != CHECKPOINT_INCONSISTENT:
        return ""
    incremental = [disk.name for disk in plan.job.participating if disk.incremental]
    return next((name for name in reversed(_NAMES.findall(error.text)) if name in incremental), "")


def _undo(
    handle: DomainHandle, request: BackupRequest, documents: _Documents, error: BaseException, *, local: bool
) -> None:
    """Leave nothing of a failed begin: libvirt keeps the new checkpoint when only the export step failed."""
    name = _checkpoint_name(request)
    try:
        job_xml = handle.job_xml()
        if job_xml is not None and _is_ours(parse_backup(job_xml), documents.plan.job):
            handle.abort_job()
            if not handle.wait_until_job_ended(request.timeout):
                raise StateError(f"The job did not end within {request.timeout} seconds after it was told to.")
        remark = resume_after(handle, documents.plan.job.server)[1] if local else ""
        if remark and isinstance(error, BackupError):
            error.note(remark)
        # Not before there is no job of ours: were we killed in between, nobody would be left to end it.
        disarm(documents.plan.job.server, handle.uuid)
        if name and not _exists_already(error, name):
            handle.delete_checkpoint(name)
    except BackupError as second:
        if isinstance(error, BackupError):
            error.note(second.message)


def _exists_already(error: BaseException, name: str) -> bool:
    """Whether libvirt refused the checkpoint since there is one of that name: somebody else's, made a moment ago."""
    return isinstance(error, LibvirtFailure) and error.code == OPERATION_FAILED and name in error.text


def _is_ours(active: BackupJob, wanted: BackupJob) -> bool:
    paths = {disk.path for disk in wanted.participating}
    return active.server == wanted.server and {disk.path for disk in active.participating} == paths


def _freeze_result(freeze: Freeze) -> dict[str, t.Any]:
    return {"quiesced": freeze.quiesced, "freeze_seconds": freeze.seconds}


def _ground_result(request: BackupRequest, ground: _Ground) -> dict[str, t.Any]:
    return {"leftovers": ground.leftovers, "scratch": rooms_result(request, ground.rooms)}


def _xml_result(documents: _Documents) -> dict[str, t.Any]:
    return {
        "xml": documents.backup,
        "checkpoint_xml": documents.checkpoint,
        "server": server_result(documents.plan.job.server),
    }
