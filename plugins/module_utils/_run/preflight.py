# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Look at directories and files on the hypervisor before a job is started, where a failure still costs nothing."""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import derived_scratch, place_option
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError, ToolError
from ansible_collections.virt.backup.plugins.module_utils._run.preflight_directory import check_directory
from ansible_collections.virt.backup.plugins.module_utils._run.preflight_server import check_server

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import BackupPlan
    from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
    from ansible_collections.virt.backup.plugins.module_utils._model.job import JobDisk


def check_places(request: BackupRequest, plan: BackupPlan, domain: Domain) -> list[str]:
    """Refuse directories that are missing or closed, and files that stand in the way.

    :returns: paths of scratch files that an earlier job of ours left behind (the host lost power), to be removed.
    """
    if plan.job.server is not None:
        check_server(plan.job.server, domain)
    return [disk.path for disk in plan.job.participating if _check_place(request, disk, domain)]


def _check_place(request: BackupRequest, disk: JobDisk, domain: Domain) -> bool:
    """Return whether a leftover of ours lies where the disk's scratch or target goes; refuse whatever else is wrong."""
    parameter = place_option(request, disk.name)
    if disk.storage == "block":
        _check_block(parameter, disk, domain)
    else:
        check_directory(parameter, disk.path, domain, os.X_OK)
        if not request.reuse_external:
            return _stands_in_the_way(request, disk, domain.uuid, parameter)
        if not os.path.lexists(disk.path):
            raise InputError(parameter, disk.path, "does not exist", "create it first, or drop reuse_external")
    _refuse_own_disk(parameter, disk.path, domain)
    if request.reuse_external:
        _check_reused(parameter, disk, domain)
    return False


def _check_block(parameter: str, disk: JobDisk, domain: Domain) -> None:
    size = device_size(parameter, disk.path)
    source = domain.disk(disk.name)
    wanted = source.virtual_size if source else 0
    if disk.driver == "raw" and wanted not in (0, size):
        problem = f"has {size} bytes, and disk '{disk.name}' has {wanted}"
        raise InputError(parameter, disk.path, problem, "give a device of exactly that size, or use driver: qcow2")


def device_size(parameter: str, path: str) -> int:
    """Return the size of a block device in bytes; refuse whatever is none."""
    try:
        if not stat.S_ISBLK(os.stat(path).st_mode):
            raise InputError(parameter, path, "is not a block device", "give a block device, or use type: file")
        with open(path, "rb", buffering=0) as device:
            return device.seek(0, os.SEEK_END)
    except OSError as error:
        raise InputError(parameter, path, f"cannot be used: {error.strerror}", "give a block device") from error


def _refuse_own_disk(parameter: str, path: str, domain: Domain) -> None:
    """Refuse a file or device that is a disk of the domain under another name: a link, or another device node."""
    found = os.stat(path)
    for disk in domain.disks:
        if disk.source_type not in ("file", "block") or not os.path.exists(disk.source):
            continue
        own = os.stat(disk.source)
        both_devices = stat.S_ISBLK(found.st_mode) and stat.S_ISBLK(own.st_mode)
        if os.path.samestat(found, own) or (both_devices and found.st_rdev == own.st_rdev):
            problem = f"is the source of disk '{disk.name}' of the domain itself, {disk.source!r}"
            raise InputError(parameter, path, problem, "choose another path")


def _check_reused(parameter: str, disk: JobDisk, domain: Domain) -> None:
    """Refuse an image that libvirt would only refuse after the job's first steps: another format, another size."""
    source = domain.disk(disk.name)
    size = source.virtual_size if source else 0
    try:
        found = _qemu.info(disk.path, disk.driver).virtual_size
    except ToolError as error:
        remedy = f"create it with qemu-img create -f {disk.driver}, or drop reuse_external"
        raise InputError(parameter, disk.path, f"is no readable {disk.driver} image", remedy) from error
    if size and found != size:
        problem = f"has {found} bytes, and disk '{disk.name}' has {size}"
        raise InputError(parameter, disk.path, problem, "create it with exactly the size of the disk")


def _stands_in_the_way(request: BackupRequest, disk: JobDisk, uuid: str, parameter: str) -> bool:
    """Return whether a leftover of ours lies at the disk's path; anything else there is refused."""
    try:
        mode = os.lstat(disk.path).st_mode
    except FileNotFoundError:
        return False
    if request.mode == "pull" and disk.path == derived_scratch(request, uuid, disk.name) and stat.S_ISREG(mode):
        return True
    raise InputError(parameter, disk.path, "exists already", "remove it, choose another path, or set reuse_external")


def remove_leftovers(paths: t.Iterable[str]) -> None:
    """Remove scratch files that an earlier job of ours left behind; none is in use, since no job is active."""
    for path in paths:
        try:
            os.unlink(path)
        except OSError as error:
            raise StateError(
                f"The scratch file {path!r} that an earlier job left behind cannot be removed: {error.strerror}; "
                "remove it by hand."
            ) from error
