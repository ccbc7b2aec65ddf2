# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Which files make up a chain, from the headers of its images: no program is started and nothing else is opened.

QEMU would follow any name that an image stores, to another protocol or to a device that blocks. A chain of ours holds
plain files, and says of each of which format it is (QEMU's docs/interop/qcow2.txt).
"""

from __future__ import annotations

import os
import stat
import struct
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2_format import (
    EXTENSION_BACKING_FORMAT,
    LONGEST_BACKING_NAME,
    MAGIC,
    keeps_data_elsewhere,
)
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError

_FIXED = struct.Struct(">4sIQI")
_EXTENSION = struct.Struct(">II")
_HEADER_LENGTH_AT = 100
_HEADER_LENGTH_OF_2 = 72
_LARGEST_CLUSTER = 2 * 1024 * 1024  # the name lies in the first one
_EXTENSIONS = 65536  # how far behind the header they are looked for; a known one takes a few bytes
_KNOWN = ("qcow2", "raw")


class ChainUnreadable(BackupError):
    """A chain that can't be read as a whole; the message completes "the chain can't be read: "."""


class Layer(t.NamedTuple):
    """One image of a chain and its format, ``qcow2`` or ``raw``."""

    path: str
    format: str


def layers_of(path: str, image_format: str) -> list[Layer]:
    """Return the images that the one at ``path`` shows, the lowest first and itself last.

    Raises :class:`ChainUnreadable` for what is missing, no image, or named in another way than by a path.
    """
    layers: list[Layer] = []
    seen: set[tuple[int, int]] = set()
    name, kind = path, image_format
    while name:
        name = _without_links(name)
        layers.append(Layer(name, kind))
        name, kind = _below(name, kind, seen)
    return layers[::-1]


def _without_links(path: str) -> str:
    """Return the same file by a path whose folder can be normalised; relative names count from where its name is."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _below(path: str, image_format: str, seen: set[tuple[int, int]]) -> tuple[str, str]:
    """Return path and format of the backing image, both empty where there is none."""
    try:
        found = os.stat(path)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
            raise ChainUnreadable(f"{path!r} is no file")
        if (found.st_dev, found.st_ino) in seen:
            raise ChainUnreadable(f"{path!r} builds on itself")
        seen.add((found.st_dev, found.st_ino))
        if image_format == "raw":
            return "", ""
        with open(path, "rb") as file:
            name, kind = _backing(path, file)
    except OSError as error:
        raise ChainUnreadable(f"{path!r}: {error.strerror}") from error
    return (os.path.join(os.path.dirname(path), name), kind) if name else ("", "")


def _backing(path: str, file: t.BinaryIO) -> tuple[str, str]:
    """Return the name and the format that a qcow2 file stores of its backing image."""
    head = file.read(_HEADER_LENGTH_AT + 4).ljust(_HEADER_LENGTH_AT + 4, b"\0")
    magic, version, offset, length = _FIXED.unpack_from(head)
    if magic != MAGIC or version not in (2, 3):
        raise ChainUnreadable(f"{path!r} is no qcow2 image")
    if keeps_data_elsewhere(head):
        raise ChainUnreadable(f"{path!r} keeps its data in another file")
    if not offset:
        return "", ""
    if length > LONGEST_BACKING_NAME or offset > _LARGEST_CLUSTER:
        raise ChainUnreadable(f"{path!r} has a backing name of {length} bytes at {offset}, which qcow2 does not allow")
    file.seek(offset)
    name = file.read(length).decode("utf-8", "surrogateescape")
    if not name or "\0" in name or ":" in name.split("/")[0]:
        raise ChainUnreadable(f"{path!r} builds on {name!r}, which is no path")
    begins = _HEADER_LENGTH_OF_2 if version == 2 else struct.unpack_from(">I", head, _HEADER_LENGTH_AT)[0]
    file.seek(begins)
    kind = _stored_format(file.read(_EXTENSIONS))
    if kind not in _KNOWN:
        raise ChainUnreadable(f"{path!r} says of {name!r} the format {kind!r}, and not {' or '.join(_KNOWN)}")
    return name, kind


def _stored_format(extensions: bytes) -> str:
    position = 0
    while position + _EXTENSION.size <= len(extensions):
        kind, length = _EXTENSION.unpack_from(extensions, position)
        position += _EXTENSION.size
        if kind == EXTENSION_BACKING_FORMAT:
            return extensions[position : position + length].decode("ascii", "replace")
        if not kind:
            break
        position += -(-length // 8) * 8
    return ""
