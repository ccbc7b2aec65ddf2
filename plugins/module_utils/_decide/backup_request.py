# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Whether a request for a backup job makes sense: first by itself, then against the domain. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.capability import why_no_backup
from ansible_collections.virt.backup.plugins.module_utils._decide.names import (
    check_absolute,
    check_checkpoint_name,
    check_given,
    check_known,
    check_listen_address,
    check_printable,
    check_socket,
    check_unique,
)
from ansible_collections.virt.backup.plugins.module_utils._decide.scratch import check_sizes
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.level import BackupMode

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest, DiskRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
    from ansible_collections.virt.backup.plugins.module_utils._model.job import Server

# BDRV_BITMAP_MAX_NAME_SIZE of QEMU, and the length of a name in the NBD protocol.
_BITMAP_NAME_BYTES = 1023
_SHORTEST_LEASE = 5
_LONGEST_LEASE = 30 * 86400
_EXPORT_NAME_BYTES = 4096


def check_request(request: BackupRequest) -> None:
    """Refuse what can be seen to be wrong without a look at the domain."""
    check_given("uri", request.uri, "a connection URI such as qemu:///system")
    check_given("domain", request.domain, "a name or UUID")
    if request.timeout < 1:
        raise InputError("timeout", request.timeout, "is no waiting time", "give at least 1 second")
    check_sizes(request.scratch_min_free, request.scratch_low_water)
    _check_lease(request)
    _check_mode(request)
    _check_levels(request)
    if request.server is not None:
        _check_server(request.server)
    for parameter, path in (("scratch_dir", request.scratch_dir), ("target_dir", request.target_dir)):
        if path:
            check_absolute(parameter, path)
    _check_disks(request)
    _check_checkpoint(request)


def _check_lease(request: BackupRequest) -> None:
    if not (request.lease == 0 or _SHORTEST_LEASE <= request.lease <= _LONGEST_LEASE):
        problem = f"is neither 0 nor between {_SHORTEST_LEASE} seconds and {_LONGEST_LEASE // 86400} days"
        raise InputError("lease", request.lease, problem, "900 suits most")
    if request.lease and request.mode == "push":
        raise InputError("lease", request.lease, "is given in push mode", "leave it out: a push job ends by itself")
    for index, path in enumerate(request.signs_of_life):
        check_absolute(f"signs_of_life[{index}]", path)
    if request.scratch_low_water and not request.lease:
        problem = "is given without lease, and the process that watches is that of the lease"
        raise InputError("scratch_low_water", request.scratch_low_water, problem, "give a lease, too")
    if request.signs_of_life and not request.lease:
        raise InputError("signs_of_life", list(request.signs_of_life), "is given without lease", "give a lease, too")


def _check_mode(request: BackupRequest) -> None:
    if request.mode == "push" and request.server is not None:
        raise InputError("server", request.server.address, "is given in push mode", "remove it, or use mode: pull")
    if request.mode == "pull" and request.target_dir:
        raise InputError("target_dir", request.target_dir, "is given in pull mode", "remove it, or use mode: push")
    if request.mode == "push" and not request.target_dir and request.disks is None:
        raise InputError("target_dir", "", "is not given", "give it, or a target for each disk under disks")
    if request.mode == "pull" and request.cancel:
        raise InputError("cancel", True, "is given in pull mode", "leave it out: stopping is how every pull job ends")


def _check_levels(request: BackupRequest) -> None:
    if request.incremental:
        check_checkpoint_name("incremental", request.incremental)
    if request.backupmode is BackupMode.FULL and request.incremental and not request.fail_if_incremental_possible:
        remedy = "remove one of the two, or set fail_if_incremental_possible to have it tried"
        raise InputError("incremental", request.incremental, "is given together with backupmode: full", remedy)

    if request.backupmode is BackupMode.INCREMENTAL and not request.incremental and request.disks is None:
        remedy = "name a checkpoint in incremental"
        raise InputError("backupmode", request.backupmode.value, "has no checkpoint to start from", remedy)


def _check_server(server: Server) -> None:
    if server.transport == "unix":
        if server.socket:
            check_socket("server.socket", server.socket)
        for parameter, value in (("server.name", server.name), ("server.port", server.port)):
            if value:
                raise InputError(parameter, value, "is given with transport: unix", "remove it, or use transport: tcp")
        return
    if server.socket:
        raise InputError(
            "server.socket", server.socket, "is given with transport: tcp", "remove it, or use transport: unix"
        )
    if not server.name:
        raise InputError(
            "server.name", server.name, "is empty", "give the host name or address to listen on, such as 127.0.0.1"
        )
    check_listen_address("server.name", server.name)
    if not 1 <= server.port <= 65535:
        raise InputError("server.port", server.port, "is no TCP port", "give 1 to 65535; libvirt does not choose one")


def _check_disks(request: BackupRequest) -> None:
    if request.disks is None:
        return
    if not request.disks:
        raise InputError("disks", [], "is empty", "list at least one disk, or leave it out to take all")
    check_unique("disks[].name", (disk.name for disk in request.disks), "a disk")
    for index, disk in enumerate(request.disks):
        _check_disk(f"disks[{index}]", disk, request)
    taking_part = [disk for disk in request.disks if disk.backup]
    if not taking_part:
        raise InputError("disks", [disk.name for disk in request.disks], "all have backup: false", "leave one disk in")
    check_unique("disks[].exportname", (disk.exportname or disk.name for disk in taking_part), "an export name")
    check_unique("disks[].scratch", (disk.scratch for disk in taking_part if disk.scratch), "a scratch path")
    check_unique("disks[].target", (disk.target for disk in taking_part if disk.target), "a target path")


def _check_disk(where: str, disk: DiskRequest, request: BackupRequest) -> None:
    check_given(f"{where}.name", disk.name, "the target name of a disk, such as vda")
    if disk.incremental:
        check_checkpoint_name(f"{where}.incremental", disk.incremental)
    if disk.backupmode is BackupMode.FULL and disk.incremental and not request.fail_if_incremental_possible:
        remedy = "remove one of the two, or set fail_if_incremental_possible to have it tried"
        raise InputError(f"{where}.incremental", disk.incremental, "is given together with backupmode: full", remedy)
    mode = disk.backupmode or request.backupmode
    if disk.backup and mode is BackupMode.INCREMENTAL and not (disk.incremental or request.incremental):
        remedy = "name a checkpoint in incremental, for the disk or for the job"
        raise InputError(f"{where}.backupmode", mode.value, "has no checkpoint to start from", remedy)
    _check_export(where, disk, request.mode)
    _check_path(where, disk, request)


def _check_export(where: str, disk: DiskRequest, mode: str) -> None:
    for option, value, limit in (
        ("exportname", disk.exportname, _EXPORT_NAME_BYTES),
        ("exportbitmap", disk.exportbitmap, _BITMAP_NAME_BYTES),
    ):
        if not value:
            continue
        check_printable(f"{where}.{option}", value)
        if mode == "push":
            raise InputError(f"{where}.{option}", value, "is given in push mode, which exports nothing", "remove it")
        if len(value.encode()) > limit:
            raise InputError(f"{where}.{option}", value[:40] + "...", f"is longer than {limit} bytes", "shorten it")


def _check_path(where: str, disk: DiskRequest, request: BackupRequest) -> None:
    given, other = ("scratch", "target") if request.mode == "pull" else ("target", "scratch")
    wrong, path = getattr(disk, other), getattr(disk, given)
    if wrong:
        remedy = f"use {given}, or mode: {'push' if request.mode == 'pull' else 'pull'}"
        raise InputError(f"{where}.{other}", wrong, f"is given in {request.mode} mode", remedy)
    if path:
        check_absolute(f"{where}.{given}", path)
    elif disk.backup and disk.storage == "block":
        raise InputError(f"{where}.type", "block", f"has no {given}", f"give the block device in {given}")
    elif disk.backup and request.mode == "push" and not request.target_dir:
        raise InputError(f"{where}.target", "", "is not given", "give a target path, or target_dir for all disks")
    if request.mode == "pull" and disk.driver != "qcow2":
        raise InputError(
            f"{where}.driver", disk.driver, "is given in pull mode", "leave it out: scratch files are qcow2"
        )
    if disk.backing_file:
        check_printable(f"{where}.backing_file", disk.backing_file)
        if request.mode == "pull":
            raise InputError(f"{where}.backing_file", disk.backing_file, "is given in pull mode", "remove it")


def _check_checkpoint(request: BackupRequest) -> None:
    wish = request.checkpoint
    if wish is None:
        return
    check_checkpoint_name("checkpoint.name", wish.name)
    check_printable("checkpoint.description", wish.description)
    if wish.name == request.incremental or any(wish.name == disk.incremental for disk in request.disks or ()):
        remedy = "give the new checkpoint a name of its own"
        raise InputError("checkpoint.name", wish.name, "is the checkpoint that the backup starts from", remedy)
    if wish.disks is not None:
        check_unique("checkpoint.disks[].name", (name for name, _bitmap in wish.disks), "a disk")
        if not any(bitmap for _name, bitmap in wish.disks):
            remedy = "list at least one disk with checkpoint: bitmap, or leave disks out"
            raise InputError(
                "checkpoint.disks", [name for name, _bitmap in wish.disks], "gives no disk a bitmap", remedy
            )


def check_against_domain(request: BackupRequest, domain: Domain, untrackable: t.Mapping[str, str]) -> None:
    """Refuse disks that the domain does not have or that cannot do what is asked of them by name."""
    known = [disk.name for disk in domain.disks]
    what = f"a disk of domain '{domain.name}'"
    for index, wish in enumerate(request.disks or ()):
        check_known(f"disks[{index}].name", wish.name, known, what)
        disk = domain.disk(wish.name)
        reason = why_no_backup(disk) if wish.backup and disk else ""
        if reason:
            raise InputError(
                f"disks[{index}].name", wish.name, f"cannot be backed up: {reason}", "set backup: false for it"
            )
    listed = request.checkpoint.disks if request.checkpoint else None
    for index, (name, bitmap) in enumerate(listed or ()):
        check_known(f"checkpoint.disks[{index}].name", name, known, what)
        if bitmap and untrackable.get(name):
            problem = f"cannot carry a checkpoint: {untrackable[name]}"
            raise InputError(f"checkpoint.disks[{index}].name", name, problem, "set checkpoint: 'no' for it")
