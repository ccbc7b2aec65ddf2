# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Where the disks of a restore go: what can be said against it, what is there already, and who has it open."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.block_device import lock_whole
from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Attributes
from ansible_collections.virt.backup.plugins.module_utils._copy.restored_file import restored_path, stamp_of
from ansible_collections.virt.backup.plugins.module_utils._decide.names import check_printable
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place
from ansible_collections.virt.backup.plugins.module_utils._model.restored import RestoredRecord
from ansible_collections.virt.backup.plugins.module_utils._run import extract_checks as checks
from ansible_collections.virt.backup.plugins.module_utils._run import extract_in_place as in_place
from ansible_collections.virt.backup.plugins.module_utils._run.extract_direct import check_direct, check_file_system
from ansible_collections.virt.backup.plugins.module_utils._run.restore_report import Target
from ansible_collections.virt.backup.plugins.module_utils._store.files import NotJson, read_json

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.stored_disk import StoredDisk
    from ansible_collections.virt.backup.plugins.module_utils._model.volume import Volume
    from ansible_collections.virt.backup.plugins.module_utils._run.restore_report import DiskRequest, RestoreRequest
    from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import FoundPoint

DEFAULT_MODE = "0600"

_WRITTEN = 6
"""Which number of ``/sys/dev/block/*/stat`` counts the sectors written (Linux, Documentation/block/stat.rst)."""


@contextlib.contextmanager
def called_disks() -> Iterator[None]:
    """Let errors of the checks that nbd_extract has too call the list by its name here."""
    try:
        yield
    except BackupError as error:
        error.message = re.sub(r"(^| as )images\[(?=\d+\])", r"\1disks[", error.message)
        raise


def volumes_of(disks: Sequence[DiskRequest]) -> dict[str, str]:
    """Return the disks that go to volumes of storage pools: ``pool/volume`` by the name of its parameter."""
    return {f"disks[{index}].dest": disk.dest for index, disk in enumerate(disks) if disk.type == "volume"}


def at_paths(disks: Sequence[DiskRequest], volumes: Mapping[str, Volume]) -> list[DiskRequest]:
    """Return the disks with the paths of their volumes in the place of their names."""
    found = [volumes.get(f"disks[{index}].dest") for index in range(len(disks))]
    return [dataclasses.replace(d, dest=volume.path) if volume else d for d, volume in zip(disks, found)]


def image_requests(request: RestoreRequest, disks: Sequence[DiskRequest]) -> list[ImageRequest]:
    """Return where the disks go, as the parts of a copy know it; refuse what could not be written."""
    images = [_image(request, f"disks[{index}].dest", disk) for index, disk in enumerate(disks)]
    with called_disks():
        for index, image in enumerate(images):
            (in_place.check_in_place if image.place.in_place else in_place.check_no_record)(index, image)
        checks.check_dests(images)
        checks.check_status_file(request.status_file, [image.dest for image in images])
        check_direct(request.direct, images)
        for index, image in enumerate(images):
            checks.check_kind(index, image)
    return images


def check_outside(repository: str, request: RestoreRequest, images: Sequence[ImageRequest]) -> None:
    """Refuse to write anything below the repository."""
    named = [("status_file", request.status_file)]
    for index, image in enumerate(images):
        named += [(f"disks[{index}].dest", image.dest if image.place is Place.FILE else "")]
        named += [(f"disks[{index}].record", image.record)]
    inside = os.path.join(os.path.realpath(repository), "")
    for parameter, path in named:
        if path and os.path.realpath(path).startswith(inside):
            raise InputError(parameter, path, f"lies in the repository {repository!r}", "name a path outside of it")


def observe(found: FoundPoint, index: int, disk: StoredDisk, image: ImageRequest, request: RestoreRequest) -> Target:
    """See what is at the place, and decide. What will be replaced must not be in use."""
    written_to = in_place.identity(image) if image.place.in_place else ""
    record = RestoredRecord(
        repository=found.repository.id,
        domain_uuid=found.uuid,
        restore_point=found.point.id,
        disk=disk.name,
        format=image.format,
        size=disk.size,
        content=disk.content if request.checksum == "sha256" else "",
        stamp="",
        written_to=written_to,
    )
    exists = image.place.in_place or os.path.lexists(image.dest)
    before = _read_record(image) if exists else None
    same = before is not None and before.same_disk(record) and before.stamp == current_stamp(image) != ""
    with called_disks():
        if not same:
            if image.place is Place.SERVER:
                checks.check_socket(index, image.dest, "dest")
            if exists and not request.overwrite:
                raise _refuse(index, image, record, before)
            if request.direct:
                check_file_system(image)
        attributes = _attributes(request, image, exists=exists)
    differ = same and image.place is Place.FILE and attributes_differ(image.dest, attributes)
    return Target(index, disk, image, record, before, exists, not same, attributes, differ)


def current_stamp(image: ImageRequest) -> str:
    """Return what changes when somebody writes to what is at the place, or empty where nothing tells."""
    if image.place is Place.FILE:
        return stamp_of(image.dest)
    return _device_stamp(image.dest) if image.place is Place.DEVICE else ""


def hold(target: Target, *, check: bool) -> int:
    """Take the lock of the file that is to be replaced and return its descriptor; with ``check`` only look.

    QEMU takes locks of the same kind, so a domain that runs on the file is in the way, and one that would start on it
    meanwhile is refused by its QEMU.
    """
    name, dest = checks.parameter(target.index, "dest"), target.image.dest
    try:
        fd = os.open(dest, (os.O_RDONLY if check else os.O_RDWR) | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(name, dest, f"can't be opened ({error.strerror})", "run as its owner or root") from error
    try:
        lock_whole(fd, write=not check)
    except OSError as error:
        os.close(fd)
        problem, remedy = f"can't be locked ({error.strerror})", "name another file, or remove it yourself"
        if error.errno == errno.EBUSY:
            problem = "is in use, as by a running domain"
            remedy = "shut the domain down, end what has it open, or name another file"
        raise InputError(name, dest, problem, remedy) from error
    return fd


def attributes_differ(path: str, wanted: Attributes) -> bool:
    """Whether a file has another owner, group or mode."""
    found = os.stat(path)
    return (
        stat.S_IMODE(found.st_mode) != wanted.mode
        or wanted.uid not in (-1, found.st_uid)
        or wanted.gid not in (-1, found.st_gid)
    )


def _image(request: RestoreRequest, name: str, disk: DiskRequest) -> ImageRequest:
    dest = disk.dest
    if not dest:
        if not request.dest_dir:
            raise InputError("disks", disk.name, "has no dest", "give its dest, or dest_dir for all")
        check_printable("dest_dir", request.dest_dir)
        dest = os.path.join(request.dest_dir, f"{disk.name}.{disk.format}")
    image = ImageRequest("", dest, disk.format, record=disk.record, cluster_size=disk.cluster_size)
    place = in_place.find_place(dest)
    _check_type(name, disk, dest, place)
    return dataclasses.replace(image, place=place)


def _check_type(name: str, disk: DiskRequest, dest: str, place: Place) -> None:
    """Refuse a device that is not there, of which a file would be made, and one that is taken for a file."""
    if disk.type == "block" and place is not Place.DEVICE:
        raise InputError(name, dest, "is no block device of this host", "make it first, or set type to file")
    if disk.type == "file" and place is not Place.FILE:
        raise InputError(name, dest, f"is {in_place.WORDS[place]} and no file", "leave type out, or name a file")


def _attributes(request: RestoreRequest, image: ImageRequest, *, exists: bool) -> Attributes:
    """Return what the file shall have: as asked, else as the one that it replaces."""
    mode = DEFAULT_MODE if request.mode is None else request.mode
    asked = checks.check_attributes(request.owner, request.group, mode)
    if image.place is not Place.FILE or not exists:
        return asked
    old = os.stat(image.dest)
    return Attributes(
        old.st_uid if asked.uid < 0 else asked.uid,
        old.st_gid if asked.gid < 0 else asked.gid,
        stat.S_IMODE(old.st_mode) if request.mode is None else asked.mode,
    )


def _read_record(image: ImageRequest) -> RestoredRecord | None:
    """Return the record, or ``None`` if there is none or it can't be understood: then nothing is known."""
    path = restored_path(image.dest) if image.place is Place.FILE else image.record
    try:
        return RestoredRecord.from_dict(read_json(path)) if path else None
    except (OSError, NotJson, KeyError, TypeError, ValueError):
        return None


def _refuse(index: int, image: ImageRequest, record: RestoredRecord, before: RestoredRecord | None) -> InputError:
    what = in_place.WORDS.get(image.place, "exists and")
    if before is None:
        problem = f"{what} has no record of a restore" if image.place is Place.FILE else f"is {what} without a record"
    elif before.same_disk(record):
        problem = f"holds {before.describe()}, and was changed since"
    else:
        problem = f"holds {before.describe()}"
    return InputError(checks.parameter(index, "dest"), image.dest, problem, "set overwrite to replace it")


def _device_stamp(path: str) -> str:
    """Return how often the kernel wrote to a device since it knows it; empty where it does not count."""
    number = os.stat(path).st_rdev
    folder = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    try:
        with open(os.path.join(folder, "stat"), encoding="ascii") as file:
            written = file.read().split()[_WRITTEN]
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except (OSError, IndexError):
        return ""
    sequence = ""
    with contextlib.suppress(OSError), open(os.path.join(folder, "diskseq"), encoding="ascii") as file:
        sequence = file.read().strip()
    return f"boot {boot}, device {sequence}, {written} sectors written"
