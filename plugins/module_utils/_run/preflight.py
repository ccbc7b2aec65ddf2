# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Look at directories and files on the hypervisor before a job is started, where a failure still costs nothing."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import derived_scratch, place_option
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError, ToolError

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import BackupPlan
    from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
    from ansible_collections.virt.backup.plugins.module_utils._model.job import JobDisk

# An empty qcow2 file takes 192 KiB; less than this cannot even begin.
_SCRATCH_FLOOR = 1024 * 1024
_SOCKET = "server.socket"
_SOCKET_SECONDS = 2.0


def check_places(request: BackupRequest, plan: BackupPlan, domain: Domain) -> list[str]:
    """Refuse directories that are missing, closed or too small, and files that stand in the way.

    :returns: paths of scratch files that an earlier job of ours left behind (the host lost power), to be removed.
    """
    if plan.job.server is not None and plan.job.server.transport == "unix":
        _check_socket(plan.job.server.socket)
        _check_directory(_SOCKET, plan.job.server.socket, domain, os.W_OK | os.X_OK)
    leftovers = [disk.path for disk in plan.job.participating if _check_place(request, disk, domain)]
    if request.mode == "pull":
        _check_space(request, plan, domain)
    return leftovers


def _check_place(request: BackupRequest, disk: JobDisk, domain: Domain) -> bool:
    """Return whether a leftover of ours lies where the disk's scratch or target goes; refuse whatever else is wrong."""
    parameter = place_option(request, disk.name)
    if disk.storage == "block":
        _check_block(parameter, disk.path)
    else:
        _check_directory(parameter, disk.path, domain, os.X_OK)
        if not request.reuse_external:
            return _stands_in_the_way(request, disk, domain.uuid, parameter)
        if not os.path.lexists(disk.path):
            raise InputError(parameter, disk.path, "does not exist", "create it first, or drop reuse_external")
    _refuse_own_disk(parameter, disk.path, domain)
    if request.reuse_external:
        _check_reused(parameter, disk, domain)
    return False


def _check_directory(parameter: str, path: str, domain: Domain, needed: int) -> None:
    """Refuse a directory that we cannot write, or for which QEMU's own user lacks the rights in ``needed``.

    libvirt's daemon creates files and hands them over, so QEMU has to enter their directory; sockets it makes itself.
    """
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        problem = "is not a directory" if os.path.exists(directory) else "does not exist"
        raise InputError(parameter, directory, problem, "create it, or run the role virt.backup.hypervisor")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InputError(parameter, directory, "is not writable", "make it writable, or choose another directory")
    if domain.qemu_ids is not None and not _has_access(directory, needed, *domain.qemu_ids):
        verb = "written" if needed & os.W_OK else "entered"
        raise InputError(
            parameter,
            directory,
            f"cannot be {verb} by the user that QEMU runs as (uid {domain.qemu_ids[0]})",
            "give that user the right to it and to enter the directories above it, or choose another directory",
        )


def _has_access(directory: str, needed: int, uid: int, gid: int) -> bool:
    """Ask the kernel in a child process that becomes that user: groups, ACLs and all directories above count."""
    if os.geteuid() != 0 or uid == 0:
        return True
    try:
        groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        groups = [gid]
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            os._exit(0 if os.access(directory, needed) else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 1


def _check_socket(path: str) -> None:
    """Refuse a path on which QEMU would delete what is not its own: it unlinks whatever is there before it binds."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISSOCK(mode):
        raise InputError(_SOCKET, path, "exists and is no socket", "choose another path: QEMU would delete it")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_SOCKET_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return  # nobody listens any more: left behind by a QEMU that was killed
        except OSError:
            pass
    raise InputError(_SOCKET, path, "is in use by another server", "end that server, or choose another path")


def _check_block(parameter: str, path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise InputError(parameter, path, f"cannot be used: {error.strerror}", "give a block device") from error
    if not stat.S_ISBLK(mode):
        raise InputError(parameter, path, "is not a block device", "give a block device, or use type: file")


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
        directories.setdefault(device, (place_option(request, job_disk.name), directory))
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
        try:
            os.unlink(path)
        except OSError as error:
            raise StateError(
                f"The scratch file {path!r} that an earlier job left behind cannot be removed: {error.strerror}; "
                "remove it by hand."
            ) from error
