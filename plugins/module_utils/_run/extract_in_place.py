# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Images that are written in place, into a block device or an export: what they may be asked, and who has them open."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.block_device import open_device
from ansible_collections.virt.backup.plugins.module_utils._copy.in_place import InPlaceDraft
from ansible_collections.virt.backup.plugins.module_utils._copy.publish import digests_path
from ansible_collections.virt.backup.plugins.module_utils._decide.names import check_printable
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place
from ansible_collections.virt.backup.plugins.module_utils._run.extract_checks import (
    SCHEMES,
    export_key,
    export_name,
    parameter,
)

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Attributes
    from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest

WORDS = {Place.DEVICE: "a block device", Place.SERVER: "an NBD export"}

SYS_NAMES = ("dm/uuid", "wwid", "device/wwid", "device/serial", "serial", "loop/backing_file")
"""Where below /sys/dev/block a device says which one it is; its name may be another's after the next start."""


def find_place(dest: str) -> Place:
    """Return what a dest is: its form tells an export, what is there now tells a device."""
    if dest.partition("://")[0] in SCHEMES:
        return Place.SERVER
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISBLK(os.stat(dest).st_mode):
            return Place.DEVICE
    return Place.FILE


def check_in_place(index: int, image: ImageRequest) -> None:
    """Refuse what only a file can be, and a record where none can be kept."""
    name, kind = parameter(index, "format"), WORDS[image.place]
    if image.bitmap:
        problem = f"can't be extracted into {kind}, which would lose its old content before the new one is complete"
        raise InputError(
            parameter(index, "bitmap"), image.bitmap, problem, "name a qcow2 file as dest, or leave it out"
        )
    if image.format != "raw":
        raise InputError(name, image.format, f"can't be written to {kind}", "use format raw, or name a file as dest")
    if image.place is Place.SERVER:
        export_name(index, image.dest, "dest")
    if image.record:
        _check_record(index, image.record)


def check_no_record(index: int, image: ImageRequest) -> None:
    """Refuse a place for the record of a file, which is always beside it."""
    if image.record:
        problem = "was given for a dest that is a file, whose record is beside it"
        raise InputError(parameter(index, "record"), image.record, problem, "leave it out")


def check_not_source(index: int, image: ImageRequest) -> None:
    """Refuse to write into the export that is read."""
    if image.place is Place.SERVER and export_key(image.uri) == export_key(image.dest):
        raise InputError(parameter(index, "dest"), image.dest, "is the export that is read", "name another export")


def identity(image: ImageRequest) -> str:
    """Return which device or export this is, as its record shall name it."""
    if image.place is Place.SERVER:
        return export_key(image.dest)
    number = os.stat(image.dest).st_rdev
    folder = os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    words = [_read_line(os.path.join(folder, "partition"))]
    if words[0]:
        folder = os.path.dirname(folder)
    words += [_read_line(os.path.join(folder, name)) for name in SYS_NAMES]
    known = " ".join(word for word in words if word)
    return f"{image.dest} ({known})" if known else image.dest


def refuse_unknown(index: int, image: ImageRequest, told: str) -> InputError:
    """Return the error for a device or export that nobody said may be overwritten."""
    problem = f"is {WORDS[image.place]} {told}"
    return InputError(parameter(index, "dest"), image.dest, problem, "set force to overwrite what is there")


def open_draft(index: int, image: ImageRequest, attributes: Attributes, *, check: bool) -> InPlaceDraft:
    """Return the draft; with ``check`` only to see whether it could be had. Nothing is written yet."""
    if image.place is Place.SERVER:
        return InPlaceDraft(-1, image.record, attributes)
    try:
        fd = open_device(image.dest, os.O_RDONLY if check else os.O_RDWR)
    except OSError as error:
        problem, remedy = f"can't be opened ({error.strerror})", "run as a user who may write to it"
        if error.errno == errno.EBUSY:
            problem, remedy = "is in use", "unmount it, end what has it open, or name another device"
        elif error.errno == errno.EROFS:
            problem, remedy = "is read-only", "make it writable, or name another device"
        raise InputError(parameter(index, "dest"), image.dest, problem, remedy) from error
    return InPlaceDraft(fd, image.record, attributes)


def _check_record(index: int, path: str) -> None:
    name = parameter(index, "record")
    check_printable(name, path)
    folder, base = os.path.split(path)
    if not os.path.isabs(path) or not base:
        raise InputError(name, path, "is no absolute path of a file", "write it like /var/lib/virt-backup/sdb.json")
    if digests_path(path) == path:
        raise InputError(name, path, "has the name of a list of digests", "use another suffix, such as .json")
    if not os.path.isdir(folder):
        raise InputError(name, path, "lies in a directory that does not exist", "create the directory first")
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise InputError(name, path, "exists and is no regular file", "choose another name")


def _read_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
