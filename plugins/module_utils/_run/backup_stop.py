# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""End a backup job: a pull job when its bytes have been read, a push job by waiting for it, or by cancelling it."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._deadman import RESUMED
from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import default_socket
from ansible_collections.virt.backup.plugins.module_utils._decide.backup_request import check_request
from ansible_collections.virt.backup.plugins.module_utils._decide.names import check_known
from ansible_collections.virt.backup.plugins.module_utils._libvirt import connect
from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import DiskRequest
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob, Server
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.backup_report import job_state, server_result
from ansible_collections.virt.backup.plugins.module_utils._run.dead_man import disarm
from ansible_collections.virt.backup.plugins.module_utils._run.job_files import (
    forget_pause,
    note_file,
    read_note,
    remove_dead_socket,
    take_note,
)
from ansible_collections.virt.backup.plugins.module_utils._run.lost_server import serves
from ansible_collections.virt.backup.plugins.module_utils._run.observe import observe
from ansible_collections.virt.backup.plugins.module_utils._run.resume import resume_after

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle
    from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
    from ansible_collections.virt.backup.plugins.module_utils._run.observe import Observation

# How QEMU names a backing image that has no path, such as the live network disk below an increment.
_NO_PATH = ("json:", "nbd:", "nbd+unix:")


def stop_backup(request: BackupRequest, *, check: bool) -> Outcome:
    """End our job, or find that there is none; a push job is waited for unless ``cancel`` is set.

    :raises StateError: the active job is not ours, did not end in time, or (push) failed.
    """
    check_request(request)
    with connect(request.uri) as hypervisor:
        handle = hypervisor.domain(request.domain)
        seen = observe(handle, measure=False, local=hypervisor.is_local)
        for index, wish in enumerate(request.disks or ()):
            known = [disk.name for disk in seen.domain.disks]
            check_known(f"disks[{index}].name", wish.name, known, f"a disk of domain '{seen.domain.name}'")
        if seen.job is not None and not _is_ours(request, seen, seen.job):
            raise StateError(
                f"domain: the active backup job of '{seen.domain.name}' is {seen.job.describe()}, which is not the one "
                "named here; it is left alone. End it with the tool that started it, or name its server or targets."
            )
        if request.mode == "pull":
            return _stop_pull(handle, request, seen, local=hypervisor.is_local, check=check)
        return _stop_push(handle, request, seen, check=check)


def _is_ours(request: BackupRequest, seen: Observation, job: BackupJob) -> bool:
    if request.mode != job.mode:
        return False
    if job.server is not None:
        return job.server == _wanted_server(request, seen.domain.uuid)
    targets = {wish.target for wish in request.disks or () if wish.target}
    paths = {disk.path for disk in job.participating}
    if targets:
        return targets == paths
    return bool(request.target_dir) and {os.path.dirname(path) for path in paths} == {request.target_dir}


def _wanted_server(request: BackupRequest, uuid: str) -> Server:
    server = request.server or Server()
    if server.transport == "unix" and not server.socket:
        return Server("unix", default_socket(uuid), tls=server.tls)
    return server


def _stop_lost(handle: DomainHandle, request: BackupRequest, *, active: bool, check: bool) -> Outcome:
    """End what is left of our job when libvirt has lost it while QEMU still serves at our socket."""
    server = _wanted_server(request, handle.uuid)
    if server.transport != "unix" or not serves(handle.uuid, server.socket) or handle.has_other_job():
        return _unchanged("no backup job was active" if active else "no backup job was active: the domain is off")
    if not check:
        handle.stop_lost_server()
    lost = {"job": {"mode": "pull", "server": server_result(server), "known_to_libvirt": False}}
    return Outcome(True, {"ended": "libvirt had lost the job; its server was stopped"}, lost, job_state(None))


def _stop_pull(handle: DomainHandle, request: BackupRequest, seen: Observation, *, local: bool, check: bool) -> Outcome:
    if seen.job is None:
        outcome = _stop_lost(handle, request, active=seen.active, check=check)
    else:
        outcome = _end_pull(handle, request, seen.job, check=check)
    server = _wanted_server(request, handle.uuid)
    # Of a guest that went off nobody is warned: it is for whoever lost the connection to know why.
    off = "" if seen.active else f"Domain '{handle.name}' is off, and no job outlives its QEMU."
    if check:
        note = read_note(note_file(server, handle.uuid))
        return _with(outcome, {"ended_early": note or off, "resumed": False}, (note,))
    # The job that the guard ended was ours as well.
    note = take_note(server, handle.uuid)
    resumed, remark = resume_after(handle, server) if local and (outcome.changed or note) else (False, "")
    forget_pause(server, handle.uuid)
    if local and not outcome.changed:
        remove_dead_socket(server)
    # Not before the job has ended: were we killed in between, nobody would be left to end it.
    disarm(server, handle.uuid)
    told = {"ended_early": note or off, "resumed": resumed or RESUMED in note}
    return _with(dataclasses.replace(outcome, changed=outcome.changed or resumed), told, (note, remark))


def _with(outcome: Outcome, result: dict[str, t.Any], remarks: t.Iterable[str]) -> Outcome:
    warnings = (*outcome.warnings, *(remark for remark in remarks if remark))
    return dataclasses.replace(outcome, result={**outcome.result, **result}, warnings=warnings)


def _end_pull(handle: DomainHandle, request: BackupRequest, job: BackupJob, *, check: bool) -> Outcome:
    if not check:
        _abort(handle, request)
        # A daemon that was just restarted may drop a job that it still knew without ending its server.
        _stop_lost(handle, request, active=True, check=False)
    return Outcome(True, {"ended": "the job was ended"}, before=job_state(job), after=job_state(None))


def _abort(handle: DomainHandle, request: BackupRequest) -> None:
    handle.abort_job()
    if not handle.wait_until_job_ended(request.timeout):
        raise StateError(
            f"timeout: the backup job of domain '{handle.name}' was told to end and had not after {request.timeout} "
            "seconds; look at the domain's disks, and raise timeout if they are slow."
        )


def _unchanged(ended: str, changed: bool = False) -> Outcome:
    return Outcome(changed, {"ended": ended}, before=job_state(None), after=job_state(None))


def _stop_push(handle: DomainHandle, request: BackupRequest, seen: Observation, *, check: bool) -> Outcome:
    job = seen.job
    if request.cancel:
        if job is not None and not check:
            _abort(handle, request)
        ended = "the job was cancelled; its targets hold no backup" if job else "no backup job was active"
        return Outcome(job is not None, {"ended": ended}, before=job_state(job), after=job_state(None))
    if check and job is not None:
        return Outcome(True, {"ended": "not waited for in check mode"}, before=job_state(job), after=job_state(None))
    if not handle.wait_until_job_ended(request.timeout):
        raise StateError(
            f"timeout: the push job of domain '{handle.name}' still runs after {request.timeout} seconds; "
            "call again to go on waiting, or set cancel: true to end it."
        )
    wishes = _wishes(request, seen)
    record = handle.completed_backup()
    ended = _require_success(handle, record, bool(wishes), was_active=job is not None)
    if job is None and wishes:
        _require_own_record(handle, record, request, wishes)
    sources = {disk.source for disk in seen.domain.disks}
    rebased = [wish.name for wish in wishes if _finish_target(wish, _target(wish, request), sources, check=check)]
    return Outcome(
        changed=job is not None or bool(rebased),
        result={"ended": ended, "rebased": rebased},
        before=job_state(job),
        after=job_state(None),
    )


def _wishes(request: BackupRequest, seen: Observation) -> list[DiskRequest]:
    """Return the disks whose targets are named: one by one, by the job that runs, or by what their directory holds."""
    if request.disks is not None:
        return [wish for wish in request.disks if wish.backup and _target(wish, request)]
    if seen.job is not None:
        return [DiskRequest(disk.name, target=disk.path, driver=disk.driver) for disk in seen.job.participating]
    derived = [DiskRequest(disk.name) for disk in seen.domain.disks]
    return [wish for wish in derived if request.target_dir and os.path.exists(_target(wish, request))]


def _require_success(
    handle: DomainHandle, record: dict[str, t.Any] | None, targets_named: bool, *, was_active: bool
) -> str:
    """Return how the push ended; success is libvirt's record of the job itself, which lives in the daemon only."""
    if record is None:
        if targets_named:
            raise StateError(
                f"The push job of domain '{handle.name}' is over and libvirt has no record of how it ended (its daemon "
                "or the domain was restarted); do not trust the targets, and make the backup again."
            )
        return "no backup job was active, and none is on record"
    if not record["success"]:
        why = f": {record['errmsg']}" if record["errmsg"] else ""
        raise StateError(f"The push job of domain '{handle.name}' did not complete{why}; its targets hold no backup.")
    if not (targets_named or was_active):
        return "no backup job was active, and no target is there"
    return "the job completed"


def _require_own_record(
    handle: DomainHandle, record: dict[str, t.Any] | None, request: BackupRequest, wishes: list[DiskRequest]
) -> None:
    """Refuse a record that may be another job's, for targets that stay when their own job fails.

    libvirt removes the files of a push that failed, so a file that it created proves its job; a block device and a
    file of the user's (``reuse_external``) are there in any case.
    """
    kept = request.reuse_external or any(wish.storage == "block" for wish in wishes)
    if kept and record is not None and not record["pushed"]:
        raise StateError(
            f"The last backup job on record for domain '{handle.name}' pushed no bytes, so it may be another's, and "
            "the targets prove nothing; make the backup again, and call state: stopped while its job is known."
        )


def _target(wish: DiskRequest, request: BackupRequest) -> str:
    if wish.target:
        return wish.target
    return os.path.join(request.target_dir, f"{wish.name}.{wish.driver}") if request.target_dir else ""


def _finish_target(wish: DiskRequest, target: str, live_sources: t.Collection[str], *, check: bool) -> bool:
    """Check a target and give an incremental one its true backing file; return whether it has to be rebased.

    :raises StateError: the target is missing or damaged.
    :raises InputError: it needs a backing file and none was named, or that one does not exist.
    """
    if not os.path.exists(target):
        raise StateError(f"The push job completed, and the target {target!r} of disk '{wish.name}' does not exist.")
    if wish.driver != "qcow2":
        return False
    backing = _qemu.info(target).backing_file
    is_live = backing in live_sources or backing.startswith(_NO_PATH)
    rebase = is_live or bool(backing and wish.backing_file and backing != wish.backing_file)
    if rebase:
        _check_backing(wish, target)
        if check:
            return True
        _qemu.rebase_unsafe(target, wish.backing_file, wish.backing_format)
    _qemu.check(target)
    return rebase


def _check_backing(wish: DiskRequest, target: str) -> None:
    if not wish.backing_file:
        problem = f"is not given, and {target!r} still has the live disk '{wish.name}' as its backing file"
        raise InputError("disks[].backing_file", "", problem, "name the previous backup of that disk")
    if not os.path.exists(os.path.join(os.path.dirname(target), wish.backing_file)):
        raise InputError("disks[].backing_file", wish.backing_file, f"does not exist beside {target!r}", "correct it")
