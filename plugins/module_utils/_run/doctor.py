# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Bring what dead runs have left of a domain's backups back into order: observe, diagnose, repair, report."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.diagnose import diagnose
from ansible_collections.virt.backup.plugins.module_utils._libvirt import connect
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError
from ansible_collections.virt.backup.plugins.module_utils._model.job import Server
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._model.repair import Repair, RepairKind
from ansible_collections.virt.backup.plugins.module_utils._run import doctor_repairs
from ansible_collections.virt.backup.plugins.module_utils._run.doctor_facts import DoctorRequest, gather
from ansible_collections.virt.backup.plugins.module_utils._run.observe import observe
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import utc_now, world
from ansible_collections.virt.backup.plugins.module_utils._run.resume import resume_after
from ansible_collections.virt.backup.plugins.module_utils._store import lock
from ansible_collections.virt.backup.plugins.module_utils._store.layout import checked_path
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle, Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._model.repair import Diagnosis
    from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository

LEASE = 600
"""Seconds for which the lock of a repair counts: longer than it takes libvirt to end a job."""


@dataclasses.dataclass(frozen=True)
class Treated:
    """A repair and what came of it; ``problem`` is empty when it was made, ``remark`` tells what else was done."""

    repair: Repair
    problem: str = ""
    remark: str = ""


def heal(request: DoctorRequest, *, check: bool) -> Outcome:
    """Find what is wrong and repair it; in check mode, or while a run is alive, only find it.

    :raises InputError: the repository or the domain is none.
    :raises StateError: another run took the lock in this moment.
    """
    _check(request)
    repository = open_repository(checked_path("repository", request.repository))
    with connect(request.uri) as hypervisor:
        hypervisor.require_backups()
        handle = hypervisor.domain(request.domain)
        with world(f"the backups of domain '{handle.name}'"):
            found = _diagnosis(request, repository, hypervisor, handle)
            if check or not found.repairs:
                return _report([_foreseen(repair) for repair in found.repairs], found)
            return _under_lock(request, repository, hypervisor, handle)


def _foreseen(repair: Repair) -> Treated:
    """libvirt validates a definition only while it takes it, so nothing short of the repair tells what comes of it."""
    unknown = repair.kind is RepairKind.REDEFINE_CHECKPOINT
    return Treated(repair, "whether its bitmaps are alive is found by the repair itself" if unknown else "")


def _check(request: DoctorRequest) -> None:
    if request.scratch_dir:
        checked_path("scratch_dir", request.scratch_dir)
    if not 1 <= request.timeout <= LEASE // 2:
        raise InputError("timeout", request.timeout, f"is not between 1 and {LEASE // 2}", "60 suits most")


def _diagnosis(
    request: DoctorRequest, repository: Repository, hypervisor: Hypervisor, handle: DomainHandle, token: str = ""
) -> Diagnosis:
    return diagnose(gather(request, repository, handle, observe(handle, local=hypervisor.is_local), token))


def _under_lock(
    request: DoctorRequest, repository: Repository, hypervisor: Hypervisor, handle: DomainHandle
) -> Outcome:
    """Diagnose again now that no run can begin, and repair.

    libvirt tells which bitmaps of a checkpoint are spoilt only once it knows the checkpoint, so what it was reminded of
    is looked at once more.
    """
    paths = repository.domain(handle.uuid)
    with lock.held(paths, request.run or "a repair", f"repair of {handle.name}", LEASE, utc_now) as token:
        found = _diagnosis(request, repository, hypervisor, handle, token)
        treated = _treat(request, repository, hypervisor, handle, found.repairs, token)
        if any(entry.repair.kind is RepairKind.REDEFINE_CHECKPOINT and not entry.problem for entry in treated):
            again = _diagnosis(request, repository, hypervisor, handle, token)
            done = {(entry.repair.kind, entry.repair.subject) for entry in treated}
            rest = [repair for repair in again.repairs if (repair.kind, repair.subject) not in done]
            treated += _treat(request, repository, hypervisor, handle, rest, token)
    return _report(treated, found)


def _treat(
    request: DoctorRequest,
    repository: Repository,
    hypervisor: Hypervisor,
    handle: DomainHandle,
    repairs: t.Iterable[Repair],
    token: str,
) -> list[Treated]:
    """Make the repairs; one that fails is told and stops only what builds on it: the staging that names the rest."""
    paths = repository.domain(handle.uuid)
    treated: list[Treated] = []
    for repair in repairs:
        if repair.kind is RepairKind.REMOVE_STAGING and any(entry.problem for entry in treated):
            treated.append(Treated(repair, "kept, since it names what could not be removed"))
            continue
        with lock.guard(paths):
            lock.renew(paths, token, utc_now())
        try:
            problem = doctor_repairs.make(repair, request, paths, handle, observe(handle, local=hypervisor.is_local))
        except BackupError as error:
            problem = error.message
        treated.append(Treated(repair, problem, "" if problem else _resumed(repair, handle)))
    return treated


def _resumed(repair: Repair, handle: DomainHandle) -> str:
    """Let a guest go on that an I/O error paused while the job ran that was just ended; return what there is to say."""
    if repair.kind not in (RepairKind.END_JOB, RepairKind.STOP_SERVER):
        return ""
    return resume_after(handle, Server("unix", repair.subject))[1]


def _report(treated: t.Sequence[Treated], found: Diagnosis) -> Outcome:
    repairs = [
        {
            "kind": entry.repair.kind.value,
            "subject": entry.repair.subject,
            "reason": entry.repair.reason,
            "disks": list(entry.repair.disks),
            "repaired": not entry.problem,
            "problem": entry.problem,
        }
        for entry in treated
    ]
    problems = [*found.problems, *(f"{entry.repair.subject}: {entry.problem}" for entry in treated if entry.problem)]
    changed = any(not entry.problem for entry in treated)
    result = {"repairs": repairs, "problems": problems, "in_progress": found.in_progress}
    wrong = [f"{entry.repair.kind.value} {entry.repair.subject}" for entry in treated]
    left = [f"{entry.repair.kind.value} {entry.repair.subject}" for entry in treated if entry.problem]
    remarks = tuple(entry.remark for entry in treated if entry.remark)
    return Outcome(changed, result, {"to_repair": wrong}, {"to_repair": left}, remarks)
