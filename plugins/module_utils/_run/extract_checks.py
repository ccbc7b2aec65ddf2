# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What can be said against a call of nbd_extract before it connects or writes. Reads only names and headers."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import stat
import typing as t
import urllib.parse

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._copy.compress import compressor
from ansible_collections.virt.backup.plugins.module_utils._copy.publish import Attributes, beside, digests_path
from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2_format import LONGEST_BACKING_NAME
from ansible_collections.virt.backup.plugins.module_utils._decide.names import check_printable
from ansible_collections.virt.backup.plugins.module_utils._durable import is_there
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, ToolError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER, CLUSTER_SIZES
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import check_backing_encryption
from ansible_collections.virt.backup.plugins.module_utils._run.foreign_data import PROBLEM, is_led_elsewhere

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
    from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest

SCHEMES = ("nbd", "nbds", "nbd+unix", "nbds+unix", "nbd+vsock", "nbds+vsock")
LONGEST_SOCKET = 107
MOST_CONNECTIONS = 16
MOST_CLEAN_SAMPLES = 65536


def parameter(index: int, name: str = "") -> str:
    """Return how errors call a parameter of an image."""
    return f"images[{index}].{name}" if name else f"images[{index}]"


def check_numbers(connections: int, rate_limit: int, timeout: int, clean_samples: int = 0) -> None:
    """Refuse numbers out of range."""
    if not 1 <= connections <= MOST_CONNECTIONS:
        raise InputError("connections", connections, "is out of range", f"use 1 to {MOST_CONNECTIONS}")
    if rate_limit < 0:
        raise InputError("rate_limit", rate_limit, "is negative", "use bytes per second, or 0 for no limit")
    if timeout < 1:
        raise InputError("timeout", timeout, "is too short", "use at least 1 second")
    if not 0 <= clean_samples <= MOST_CLEAN_SAMPLES:
        raise InputError(
            "clean_samples", clean_samples, "is out of range", f"use 1 to {MOST_CLEAN_SAMPLES}, or 0 for none"
        )


def check_status_file(path: str, dests: Sequence[str]) -> None:
    """Refuse a status file that could not be written or that is one of the images."""
    if not path:
        return
    check_printable("status_file", path)
    if not os.path.isabs(path):
        raise InputError("status_file", path, "is relative", "give an absolute path")
    if not os.path.isdir(os.path.dirname(path)):
        raise InputError("status_file", path, "lies in a directory that does not exist", "create the directory first")
    if os.path.isdir(path):
        raise InputError("status_file", path, "is a directory", "name a file")
    if path in [name for dest in dests for name in beside(dest)]:
        raise InputError("status_file", path, "is an image, its record or its digests", "choose another name")


def check_compression(compression: str, images: Sequence[ImageRequest]) -> None:
    """Refuse compression of what can't be compressed, or by a library that is not there."""
    if compression == "none":
        return
    raw = [image.dest for image in images if image.format == "raw"]
    if raw:
        raise InputError(
            "compression", compression, f"can't be used for the raw image {raw[0]!r}", "use none, or format qcow2"
        )
    compressor(compression)


def check_attributes(owner: str, group: str, mode: object) -> Attributes:
    """Return owner, group and mode as numbers. Refuses an owner or group that this user may not give."""
    attributes = Attributes(_owner(owner), _group(group), _mode(mode))
    _check_giving("owner", owner, attributes.uid, -1)
    _check_giving("group", group, -1, attributes.gid)
    return attributes


def export_name(index: int, uri: str, parameter_name: str = "uri") -> str:
    """Return the name of the export in an NBD URI (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md)."""
    name = parameter(index, parameter_name)
    check_printable(name, uri)
    try:
        parts = urllib.parse.urlsplit(uri)
        query = urllib.parse.parse_qs(parts.query)
    except ValueError as error:
        raise InputError(
            name, uri, f"is no URI ({error})", "write it like nbd+unix:///vda?socket=/run/x.sock"
        ) from error
    if parts.scheme not in SCHEMES:
        remedy = "write it like nbd+unix:///vda?socket=/run/x.sock or nbd://host:10809/vda"
        raise InputError(name, uri, f"has a scheme other than {', '.join(SCHEMES)}", remedy)
    if parts.scheme.endswith("+unix"):
        _check_socket_name(name, uri, query.get("socket", [""])[0])
    elif not parts.netloc:
        raise InputError(name, uri, "names no host", "write it like nbd://host:10809/vda")
    export = urllib.parse.unquote(parts.path[1:])
    check_printable(name, export)
    return export


def check_socket(index: int, uri: str, parameter_name: str = "uri") -> None:
    """Refuse a UNIX socket that is not there; to be asked only when it is about to be used."""
    parts = urllib.parse.urlsplit(uri)
    if not parts.scheme.endswith("+unix"):
        return
    name, path = parameter(index, parameter_name), urllib.parse.parse_qs(parts.query)["socket"][0]
    if not os.path.exists(path):
        raise InputError(name, uri, f"names the socket {path!r}, which does not exist", "start the NBD server first")
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise InputError(name, uri, f"names {path!r}, which is no socket", "give the server's socket")


def check_dests(images: Sequence[ImageRequest]) -> None:
    """Refuse names that could not be written, or that two images would share."""
    taken: dict[str, int] = {}
    for index, image in enumerate(images):
        name = parameter(index, "dest")
        if not image.place.in_place:
            _check_dest(name, image.dest)
        keys = {_real(path): path for path in names_of(image)}
        if image.place.in_place:
            keys[target_key(image)] = image.dest
        for key, path in keys.items():
            if key in taken:
                kind = "has the same file or the same record"
                problem = f"{kind} ({path!r}) as images[{taken[key]}]"
                if path == image.dest and image.place.in_place:
                    problem = f"is the same device or export as images[{taken[key]}]"
                raise InputError(
                    name, image.dest, problem, "give each image a name of its own, not only another suffix"
                )
        taken.update(dict.fromkeys(keys, index))


def names_of(image: ImageRequest) -> tuple[str, ...]:
    """Return the files that belong to an image; for what is written in place, those at its record."""
    if image.place.in_place:
        return (image.record, digests_path(image.record)) if image.record else ()
    return beside(image.dest)


def export_key(uri: str) -> str:
    """Return what is the same for two URIs of one export."""
    parts = urllib.parse.urlsplit(uri)
    socket = urllib.parse.parse_qs(parts.query).get("socket", [""])[0]
    where = os.path.realpath(socket) if parts.scheme.endswith("+unix") else parts.netloc.rpartition("@")[2]
    return f"export {urllib.parse.unquote(parts.path[1:])!r} at {where}"


def target_key(image: ImageRequest) -> str:
    """Return what is the same for two names of one device or export."""
    if image.place is Place.DEVICE:
        return f"device {os.stat(image.dest).st_rdev}"
    return export_key(image.dest)


def check_kind(index: int, image: ImageRequest) -> None:
    """Refuse contradictions between format, bitmap and backing file, and a source that is no single line."""
    check_printable(parameter(index, "source_id"), image.source_id)
    _check_cluster_size(parameter(index, "cluster_size"), image)
    if image.bitmap:
        check_printable(parameter(index, "bitmap"), image.bitmap)
        if image.bitmap.startswith("qemu:"):
            remedy = f"give the bare name, such as {image.bitmap.rpartition(':')[2]!r}"
            raise InputError(parameter(index, "bitmap"), image.bitmap, "is the name of a context", remedy)
        if image.format != "qcow2":
            problem = "can't be extracted into a raw image, which can't tell what did not change"
            raise InputError(parameter(index, "bitmap"), image.bitmap, problem, "use format qcow2")
        if not image.backing_file:
            problem = "was given without backing_file, and an increment is no image without the one below it"
            raise InputError(
                parameter(index, "bitmap"), image.bitmap, problem, "name the image of the base in backing_file"
            )
    elif image.backing_file:
        problem = "was given without bitmap, and a full image needs nothing below it"
        raise InputError(
            parameter(index, "backing_file"), image.backing_file, problem, "give the bitmap, or leave it out"
        )


def check_backing(index: int, image: ImageRequest, encryption: Encryption | None) -> None:
    """Refuse a backing file that QEMU could not open from where the image will be."""
    if not image.backing_file:
        return
    name, given = parameter(index, "backing_file"), image.backing_file
    check_printable(name, given)
    if ":" in given.split("/")[0]:
        raise InputError(name, given, "would be taken by QEMU for a protocol", "begin it with './' or '/'")
    if len(given.encode()) > LONGEST_BACKING_NAME:
        raise InputError(name, given, f"is longer than {LONGEST_BACKING_NAME} bytes", "use a relative path")
    # QEMU's tools are given normalised paths, and '..' behind a link to a folder leads elsewhere than for the kernel.
    path = os.path.join(os.path.realpath(os.path.dirname(image.dest)), given)
    if os.path.realpath(path) == os.path.realpath(image.dest):
        raise InputError(name, given, "is the dest itself", "name the image of the base")
    if not os.path.isfile(path):
        remedy = "give a path that is absolute or counts from the folder of dest"
        raise InputError(name, given, f"is no file (looked for as {path!r})", remedy)
    if image.backing_format == "qcow2" and is_led_elsewhere(path):
        raise InputError(name, given, PROBLEM, "name an image that holds its own data, or take a full image")
    try:
        encrypted = _qemu.info(path, image.backing_format).encrypted
    except ToolError as error:
        remedy = "give its true backing_format, or take a full image"
        raise InputError(
            name, given, f"is no readable {image.backing_format} image: {error.message}", remedy
        ) from error
    check_backing_encryption(name, given, path, encrypted, encryption)


def _check_cluster_size(name: str, image: ImageRequest) -> None:
    if image.cluster_size not in CLUSTER_SIZES:
        remedy = f"use one of {', '.join(str(size) for size in CLUSTER_SIZES)}"
        raise InputError(name, image.cluster_size, "is no size that a cluster can have here", remedy)
    if image.cluster_size != CLUSTER and image.format != "qcow2":
        raise InputError(name, image.cluster_size, f"means nothing to a {image.format} image", "leave it out")
    if image.cluster_size != CLUSTER and image.encryption != NONE:
        problem = "can't be used together with encryption"
        raise InputError(name, image.cluster_size, problem, f"use {CLUSTER}, or no encryption")


def _check_socket_name(name: str, uri: str, path: str) -> None:
    check_printable(name, path)
    if not path:
        raise InputError(name, uri, "names no socket", "write it like nbd+unix:///vda?socket=/run/x.sock")
    if not os.path.isabs(path):
        raise InputError(name, uri, "names a relative socket", "give the socket's absolute path")
    if len(path.encode()) > LONGEST_SOCKET:
        raise InputError(name, uri, f"names a socket longer than {LONGEST_SOCKET} bytes", "use a shorter path")


@contextlib.contextmanager
def looking(name: str, dest: str) -> Iterator[None]:
    """Turn an ``OSError`` met while looking at what is there into the sentence that names the parameter."""
    try:
        yield
    except OSError as error:
        problem = f"can't be looked at ({error.strerror})"
        raise InputError(name, dest, problem, "check the directory and its storage") from error


def _check_dest(name: str, dest: str) -> None:
    check_printable(name, dest)
    if not os.path.isabs(dest):
        raise InputError(name, dest, "is relative", "give an absolute path")
    folder, base = os.path.split(dest)
    if not base or os.path.isdir(dest):
        raise InputError(name, dest, "is a directory", "name the file in it")
    if not os.path.isdir(folder):
        raise InputError(name, dest, "lies in a directory that does not exist", "create the directory first")
    if dest in beside(dest)[1:]:
        raise InputError(name, dest, "has the name of a record or of digests", "use another suffix, such as .qcow2")
    if len(base.encode()) > 230:
        raise InputError(name, dest, "has a name too long for a file beside it to work in", "use at most 230 bytes")
    with looking(name, dest):
        if is_there(dest) and not stat.S_ISREG(os.lstat(dest).st_mode):
            raise InputError(name, dest, "exists and is no regular file", "choose another name")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(name, dest, "lies in a directory that is not writable", "run as a user who may write there")


def _real(path: str) -> str:
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _check_giving(name: str, given: str, uid: int, gid: int) -> None:
    """Try it with a file in memory: else it would fail when a device has been overwritten, at its record."""
    fd = os.memfd_create(name)
    try:
        os.fchown(fd, uid, gid)
    except (OSError, OverflowError) as error:  # the latter for a number that no user can have
        problem = f"can't be given by this user ({getattr(error, 'strerror', error)})"
        raise InputError(name, given, problem, "run as root, or leave it out") from error
    finally:
        os.close(fd)


def _owner(owner: str) -> int:
    try:
        return int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid if owner else -1
    except (KeyError, ValueError) as error:
        raise InputError("owner", owner, "is no user of this machine", "create the user or give a number") from error


def _group(group: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid if group else -1
    except (KeyError, ValueError) as error:
        raise InputError("group", group, "is no group of this machine", "create the group or give a number") from error


def _mode(mode: object) -> int:
    """Return the mode: a string is octal; a number is what YAML made of an unquoted ``0600``."""
    number = mode if isinstance(mode, int) and not isinstance(mode, bool) else None
    if isinstance(mode, str) and re.fullmatch(r"0?o?[0-7]{1,4}", mode):
        number = int(mode.replace("o", ""), 8)
    if number is None or not 0 <= number <= 0o7777:
        raise InputError("mode", mode, "is no octal mode", "write it as a string such as '0600'")
    return number
