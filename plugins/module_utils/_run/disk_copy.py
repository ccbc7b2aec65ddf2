# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Copy disks of a running domain to another place, and let it go on there; or leave it where it was.

Every write of the guest goes to both places while a copy runs, so that nothing is lost whichever way it ends. The
domain moves only when the copies of all disks are complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.status import Progress, StatusFile
from ansible_collections.virt.backup.plugins.module_utils._decide.names import (
    check_absolute,
    check_given,
    check_known,
    check_unique,
)
from ansible_collections.virt.backup.plugins.module_utils._libvirt import connect
from ansible_collections.virt.backup.plugins.module_utils._model.errors import (
    BackupError,
    InputError,
    LibvirtFailure,
    StateError,
)
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.copy_place import CopyPlace
from ansible_collections.virt.backup.plugins.module_utils._run.domain_host import users_of
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import world
from ansible_collections.virt.backup.plugins.module_utils._run.volumes import (
    find_volumes,
    is_block_device,
    show_volumes,
)
from ansible_collections.virt.backup.plugins.module_utils._xml.domain import parse_domain
from ansible_collections.virt.backup.plugins.module_utils._xml.mirror import (
    build_destination,
    parse_mirrors,
    reads_from_server,
)

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle, Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._model.disk_copy import CopyTarget, DiskCopyRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.volume import Volume

_LOOK_SECONDS = 0.2

_TRIES, _TRY_SECONDS = 50, 0.5
"""How often a copy from a server is begun that ends before its first byte, and the time between. QEMU connects anew in
the background to an NBD server that is there again, and reads fail meanwhile; the longer the server was away, the
rarer it tries, down to once in 16 seconds (nbd/client-connection.c)."""


def copy_disks(request: DiskCopyRequest, *, check: bool) -> Outcome:
    """Move the disks that are not at their places yet.

    :raises InputError: a disk or place can't be meant.
    :raises StateError: the domain is off, a disk has another job, or a copy failed; the domain goes on where it was.
    """
    _check(request)
    volumes = find_volumes(request.uri, _volumes_of(request))
    request = _at_paths(request, volumes)
    with world("disks"), connect(request.uri) as hypervisor:
        handle = hypervisor.domain(request.domain)
        domain = parse_domain(handle.xml())
        known = [disk.name for disk in domain.disks]
        for index, target in enumerate(request.disks):
            check_known(f"disks[{index}].name", target.name, known, f"a disk of domain '{domain.name}'")
        before = {disk.name: disk.source for disk in domain.disks}
        move = [target for target in request.disks if before[target.name] != target.dest]
        places = {
            target.name: CopyPlace(target, f"disks[{index}].dest", handle.uuid)
            for index, target in enumerate(request.disks)
        }
        began = time.monotonic()
        if move:
            _require_running(handle)
            joined = _already_running(handle, move)
            for target in move:
                if target.name not in joined:
                    _check_free(hypervisor, handle, places[target.name])
                    places[target.name].check(handle.capacity(target.name), overwrite=request.overwrite)
            if not check:
                _Move(handle, request, [places[target.name] for target in move], joined).run()
        if not check:
            for place in places.values():
                place.settle()
        outcome = _outcome(request, before, move, time.monotonic() - began)
    warnings = [] if check else show_volumes(request.uri, volumes.values(), [target.dest for target in move])
    return dataclasses.replace(outcome, warnings=tuple(warnings))


def _volumes_of(request: DiskCopyRequest) -> dict[str, str]:
    named = {f"disks[{index}].dest": target for index, target in enumerate(request.disks)}
    return {parameter: target.dest for parameter, target in named.items() if target.kind == "volume"}


def _at_paths(request: DiskCopyRequest, volumes: t.Mapping[str, Volume]) -> DiskCopyRequest:
    """Return the request with the paths of the volumes; QEMU knows no pools, and the domain is told the path."""
    disks = list(request.disks)
    for index, target in enumerate(disks):
        volume = volumes.get(f"disks[{index}].dest")
        if volume:
            kind = "block" if is_block_device(volume.path) else "file"
            disks[index] = dataclasses.replace(target, dest=volume.path, kind=kind)
    request = dataclasses.replace(request, disks=tuple(disks))
    if volumes:
        _check(request)
    return request


def _check(request: DiskCopyRequest) -> None:
    if not request.disks:
        raise InputError("disks", [], "is empty", "name at least one disk")
    check_unique("disks", (target.name for target in request.disks), "name of a disk")
    check_unique("disks", (target.dest for target in request.disks), "dest of a disk")
    for index, target in enumerate(request.disks):
        check_given(f"disks[{index}].name", target.name, "the target name of a disk")
        if target.kind != "volume":
            check_absolute(f"disks[{index}].dest", target.dest)
        if target.kind == "block" and target.format != "raw":
            raise InputError(
                f"disks[{index}].format", target.format, "is not for a block device", "use raw, or a file as dest"
            )
    if request.status_file:
        check_absolute("status_file", request.status_file)
    if request.bandwidth < 0:
        raise InputError("bandwidth", request.bandwidth, "is negative", "give bytes per second, or 0 for no limit")
    if request.timeout <= 0:
        raise InputError("timeout", request.timeout, "is no time", "give seconds, at least 1")


def _require_running(handle: DomainHandle) -> None:
    if not handle.is_active():
        raise StateError(
            f"domain: '{handle.name}' is off, and only the disks of a running domain are copied live; "
            "start it, or copy the files with qemu-img."
        )


def _already_running(handle: DomainHandle, move: t.Sequence[CopyTarget]) -> set[str]:
    """Return the disks of which a copy to the right place runs already, as after a run that was cut off."""
    mirrors = parse_mirrors(handle.xml())
    joined = set()
    for target in move:
        mirror = mirrors.get(target.name)
        if mirror is None and handle.disk_job_progress(target.name) is not None:
            raise StateError(
                f"disks: '{target.name}' of domain '{handle.name}' has a job, such as a backup, which is left alone. "
                "Wait for its end; virt_backup_info shows a backup, virsh blockjob any other."
            )
        if mirror is None:
            continue
        if mirror.dest != target.dest or mirror.job != "copy":
            raise StateError(
                f"disks: '{target.name}' of domain '{handle.name}' has a {mirror.job} job to {mirror.dest!r}; "
                "it is left alone. Wait for its end, or end it with virsh blockjob."
            )
        joined.add(target.name)
    return joined


def _check_free(hypervisor: Hypervisor, handle: DomainHandle, place: CopyPlace) -> None:
    """Refuse what belongs to a domain, be it off or this one: overwrite is for what nobody has."""
    for other, claim in users_of(hypervisor, place.target.dest):
        if other.uuid != handle.uuid or claim.whose != f"disk {place.target.name}":
            raise place.refusal(f"is used by domain '{other.name}' ({claim.whose})", "name another place")


class _Move:
    """The copies of one call. What this call began ends with it: moved to, or given up and removed."""

    def __init__(
        self, handle: DomainHandle, request: DiskCopyRequest, move: t.Sequence[CopyPlace], joined: set[str]
    ) -> None:
        self._handle = handle
        self._request = request
        self._places = {place.target.name: place for place in move}
        self._waiting = {place.target.name: place.target for place in move}
        self._joined = joined
        self._begun: set[str] = set()
        self._tries = dict.fromkeys(self._waiting, 1)
        self._seen: dict[str, tuple[int, int]] = {}
        self._status = StatusFile(request.status_file)

    def run(self) -> None:
        """Begin, wait for all, move."""
        try:
            for target in self._waiting.values():
                if target.name not in self._joined:
                    self._begin(target)
            self._wait_until_ready()
            for name in list(self._waiting):
                self._handle.end_disk_copy(name, pivot=True)
                del self._waiting[name]
            self._write("done")
        except BaseException as error:
            self._give_up()
            if isinstance(error, (LibvirtFailure, StateError)) and self._is_off():
                raise StateError(
                    f"domain: '{self._handle.name}' went off while its disks were copied, and what had reached them is "
                    "there; start it, or do the same restore once more, which starts it."
                ) from error
            raise

    def _begin(self, target: CopyTarget) -> None:
        xml, block = build_destination(target), target.kind == "block"
        self._begun.add(target.name)
        self._places[target.name].prepare()
        self._handle.begin_disk_copy(target.name, xml, bandwidth=self._request.bandwidth, reuse=block)

    def _wait_until_ready(self) -> None:
        changed = time.monotonic()
        while not self._all_ready():
            now = {name: self._handle.disk_job_progress(name) or (0, 0) for name in self._waiting}
            if now != self._seen:
                self._seen, changed = now, time.monotonic()
            elif time.monotonic() - changed >= self._request.timeout:
                raise StateError(
                    f"disks: the copy of {', '.join(self._waiting)} did not move for {self._request.timeout:g} seconds "
                    f"and was given up; domain '{self._handle.name}' goes on where it was."
                )
            self._write("copying")
            time.sleep(_LOOK_SECONDS)

    def _all_ready(self) -> bool:
        mirrors = parse_mirrors(self._handle.xml())
        for name, target in self._waiting.items():
            if name not in mirrors and self._ended_at_once(target):
                time.sleep(_TRY_SECONDS)
                self._tries[name] += 1
                self._begin(target)
                return False
            if name not in mirrors:
                raise StateError(
                    f"disks: the copy of '{name}' to {target.dest!r} ended before it was complete; domain "
                    f"'{self._handle.name}' goes on where it was. Check the space there, whether what is copied can "
                    "be read, and QEMU's log."
                )
        return all(mirrors[name].ready for name in self._waiting)

    def _is_off(self) -> bool:
        with contextlib.suppress(BackupError):
            return not self._handle.is_active()
        return False

    def _ended_at_once(self, target: CopyTarget) -> bool:
        done, _all = self._seen.get(target.name, (0, 0))
        if done or self._tries[target.name] >= _TRIES:
            return False
        return reads_from_server(self._handle.xml(), target.name) and self._has_let_go(target)

    def _give_up(self) -> None:
        """End the copies of this call that did not become the domain's disks; what was there before is there again.

        A copy that was joined goes on as it did, unless it has failed.
        """
        for target in self._waiting.values():
            if target.name in self._begun:
                with contextlib.suppress(BackupError):
                    self._end_ours(target)
            if self._has_let_go(target):
                with contextlib.suppress(OSError):
                    self._places[target.name].give_back()
        self._write("failed")

    def _end_ours(self, target: CopyTarget) -> None:
        """End the copy to there. Any other job of the disk, as one that was why this one could not begin, goes on."""
        mirror = parse_mirrors(self._handle.xml()).get(target.name)
        if mirror is not None and mirror.dest == target.dest:
            self._handle.end_disk_copy(target.name, pivot=False)

    def _has_let_go(self, target: CopyTarget) -> bool:
        try:
            xml = self._handle.xml()
        except BackupError:
            return False
        in_use = {disk.source for disk in parse_domain(xml).disks} | {copy.dest for copy in parse_mirrors(xml).values()}
        return target.dest not in in_use

    def _write(self, state: str) -> None:
        images = [
            Progress(target.dest, state, *self._seen.get(target.name, (0, 0)), self._seen.get(target.name, (0, 0))[0])
            for target in self._request.disks
        ]
        self._status.write(images, now=state != "copying")


def _outcome(
    request: DiskCopyRequest, before: t.Mapping[str, str], move: t.Sequence[CopyTarget], seconds: float
) -> Outcome:
    moved = {target.name for target in move}
    disks = [
        {
            "name": target.name,
            "source": target.dest,
            "before": before[target.name],
            "format": target.format,
            "changed": target.name in moved,
        }
        for target in request.disks
    ]
    return Outcome(
        changed=bool(move),
        result={"disks": disks, "seconds": round(seconds, 3)},
        before={"disks": {target.name: before[target.name] for target in request.disks}},
        after={"disks": {target.name: target.dest for target in request.disks}},
    )
