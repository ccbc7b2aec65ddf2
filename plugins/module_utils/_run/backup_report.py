# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Turn a plan and a job into the plain data of a module's result and diff."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._xml.backup import export_uri

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import BackupPlan
    from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
    from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob, JobDisk, Server


def check_backing(request: BackupRequest, plan: BackupPlan) -> None:
    """Refuse an incremental push that nobody could read: its image must know the backup that it continues.

    libvirt gives such an image the live disk as its backing file, so that alone it shows the disk of the future.
    """
    if request.mode != "push":
        return
    for disk in plan.job.participating:
        wish = request.disk(disk.name)
        if disk.level is not Level.INCREMENTAL:
            continue
        if disk.driver == "raw" and not request.reuse_external:
            problem = f"cannot hold an increment of disk '{disk.name}' by itself: nothing records what it leaves out"
            remedy = "use qcow2, backupmode: full, or reuse_external with a copy of the previous backup as the target"
            raise InputError("disks[].driver", disk.driver, problem, remedy)
        if disk.driver == "qcow2" and not (wish and wish.backing_file):
            problem = f"is not given, and the push of disk '{disk.name}' is incremental"
            remedy = "give the previous backup of that disk, which the new image is rebased onto when the job ends"
            raise InputError("disks[].backing_file", "", problem, remedy)


def server_result(server: Server | None) -> dict[str, t.Any] | None:
    """Return the server as the module's option of the same name, ``None`` in push mode."""
    if server is None:
        return None
    if server.transport == "unix":
        return {"transport": "unix", "socket": server.socket, "tls": server.tls}
    return {"transport": server.transport, "name": server.name, "port": server.port, "tls": server.tls}


def job_result(plan: BackupPlan, job: BackupJob, domain: Domain) -> dict[str, t.Any]:
    """Return ``disks`` and ``left_out``: levels as the job has them, reasons as they were decided.

    A result must not have a key ``skipped``: Ansible then shows the whole task as skipped.
    """
    left_out = [{"name": name, "reason": reason} for name, reason in plan.skipped.items()]
    return {"disks": [_disk_result(plan, job, disk, domain) for disk in job.participating], "left_out": left_out}


def _disk_result(plan: BackupPlan, job: BackupJob, disk: JobDisk, domain: Domain) -> dict[str, t.Any]:
    decision = plan.decisions[disk.name]
    reason = decision.reason
    if decision.level is not disk.level:
        reason = f"the active job has it {disk.level.value}"
    source = domain.disk(disk.name)
    return {
        "name": disk.name,
        "level": disk.level.value,
        "reason": reason,
        "incremental": disk.incremental,
        "exportname": disk.exportname,
        "exportbitmap": disk.exportbitmap,
        "uri": export_uri(job.server, disk.exportname) if job.server is not None else "",
        "target": "" if job.server is not None else disk.path,
        "virtual_size": source.virtual_size if source else 0,
        "dirty_bytes": decision.dirty_bytes,
    }


def job_state(job: BackupJob | None) -> dict[str, t.Any]:
    """Return one side of the diff: the job that is active, if any."""
    if job is None:
        return {"job": None}
    disks = {disk.name: {"level": disk.level.value, "incremental": disk.incremental} for disk in job.participating}
    return {"job": {"mode": job.mode, "server": server_result(job.server), "disks": disks}}
