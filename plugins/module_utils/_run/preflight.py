# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Look at directories and files on the hypervisor before a job is started, where a failure still costs nothing."""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import derived_scratch
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import BackupPlan
    from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
    from ansible_collections.virt.backup.plugins.module_utils._model.job import JobDisk

# An empty qcow2 file takes 192 KiB; less than this cannot even begin.
_SCRATCH_FLOOR = 1024 * 1024


def check_places(request: BackupRequest, plan: BackupPlan, domain: Domain) -> list[str]:
    """Refuse directories that are missing, read-only or too small, and files that stand in the way.

    :returns: paths of scratch files that an earlier job of ours left behind (the host lost power), to be removed.
    """
    if plan.job.server is not None and plan.job.server.transport == "unix":
        _check_directory("server.socket", plan.job.server.socket)
    leftovers = []
    for disk in plan.job.participating:
        parameter = _parameter(request, disk)
        if disk.storage == "block":
            _check_block(parameter, disk.path)
            continue
        _check_directory(parameter, disk.path)
        if _stands_in_the_way(request, disk, domain.uuid, parameter):
            leftovers.append(disk.path)
    if request.mode == "pull":
        _check_space(request, plan, domain)
    return leftovers


def _parameter(request: BackupRequest, disk: JobDisk) -> str:
    kind = "scratch" if request.mode == "pull" else "target"
    wish = request.disk(disk.name)
    if request.disks is not None and wish is not None and (wish.scratch or wish.target):
        return f"disks[{request.disks.index(wish)}].{kind}"
    return f"{kind}_dir"


def _check_directory(parameter: str, path: str) -> None:
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        problem = "is not a directory" if os.path.exists(directory) else "does not exist"
        raise InputError(parameter, directory, problem, "create it, or run the role virt.backup.hypervisor")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InputError(parameter, directory, "is not writable", "make it writable, or choose another directory")


def _check_block(parameter: str, path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise InputError(parameter, path, f"cannot be used: {error.strerror}", "give a block device") from error
    if not stat.S_ISBLK(mode):
        raise InputError(parameter, path, "is not a block device", "give a block device, or use type: file")


def _stands_in_the_way(request: BackupRequest, disk: JobDisk, uuid: str, parameter: str) -> bool:
    """Return whether a leftover of ours lies at the disk's path; a foreign file there is refused."""
    exists = os.path.lexists(disk.path)
    if request.reuse_external:
        if not exists:
            raise InputError(parameter, disk.path, "does not exist", "create it first, or drop reuse_external")
        return False
    if not exists:
        return False
    if request.mode == "pull" and disk.path == derived_scratch(request, uuid, disk.name):
        return True
    raise InputError(parameter, disk.path, "exists already", "remove it, choose another path, or set reuse_external")


def _check_space(request: BackupRequest, plan: BackupPlan, domain: Domain) -> None:
    """Refuse a file system without room for what the guest may overwrite: when scratch is full, the guest stops."""
    needed: dict[int, int] = {}
    directories: dict[int, tuple[str, str]] = {}
    for job_disk in plan.job.participating:
        disk = domain.disk(job_disk.name)
        if job_disk.storage == "block" or disk is None:
            continue
        directory = os.path.dirname(job_disk.path)
        device = os.stat(directory).st_dev
        directories.setdefault(device, (_parameter(request, job_disk), directory))
        share = disk.virtual_size * request.scratch_min_percent // 100
        needed[device] = needed.get(device, 0) + max(share, _SCRATCH_FLOOR)
    for device, (parameter, directory) in directories.items():
        usage = os.statvfs(directory)
        free = usage.f_bavail * usage.f_frsize
        if free < needed[device]:
            problem = (
                f"has {free} bytes free, and {needed[device]} are asked for "
                f"({request.scratch_min_percent} percent of the disks' size): when it fills up, the guest stops"
            )
            raise InputError(parameter, directory, problem, "choose a larger one, or lower scratch_min_percent")


def remove_leftovers(paths: t.Iterable[str]) -> None:
    """Remove scratch files that an earlier job of ours left behind; none is in use, since no job is active."""
    for path in paths:
        os.unlink(path)
