# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What can be said against a secret and against encrypting the images of a call, and where the secret comes from.

No sentence here shows a secret, not even a wrong one.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils import _qemu
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, ToolError

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest

LONGEST_SECRET = 4096
LONGEST_ITER_TIME = 60_000


@dataclasses.dataclass(frozen=True)
class EncryptionRequest:
    """The parameter ``encryption``. ``iter_time`` in milliseconds."""

    secret_file: str = ""
    secret: str = dataclasses.field(default="", repr=False)
    iter_time: int = 2000


def read_encryption(request: EncryptionRequest | None) -> Encryption | None:
    """Return the secret, byte by byte as it is in the file, or as it is given; ``None`` without ``encryption``."""
    if request is None:
        return None
    if not 1 <= request.iter_time <= LONGEST_ITER_TIME:
        remedy = f"use 1 to {LONGEST_ITER_TIME} milliseconds"
        raise InputError("encryption.iter_time", request.iter_time, "is out of range", remedy)
    if bool(request.secret_file) == bool(request.secret):
        given = "both secret_file and secret" if request.secret else "neither secret_file nor secret"
        raise InputError("encryption", given, "is not one secret", "give exactly one of secret_file and secret")
    if request.secret:
        name, shown, secret = "encryption.secret", "(hidden)", request.secret.encode("utf-8", "surrogateescape")
    else:
        name, shown, secret = "encryption.secret_file", request.secret_file, _read(request.secret_file)
    _check_secret(name, shown, secret)
    return Encryption(secret, request.iter_time)


def check_encryption(encryption: Encryption | None, compression: str, images: Sequence[ImageRequest]) -> None:
    """Refuse what can't be encrypted, and what QEMU would store in the clear although it says that it is encrypted."""
    if encryption is None:
        return
    for image in images:
        if image.format != "qcow2":
            problem = f"can't be used for the {image.format} image {image.dest!r}"
            raise InputError("encryption", "luks", problem, "use format qcow2, or no encryption")
    if compression != "none":
        problem = "can't be used together with encryption: QEMU stores compressed clusters unencrypted"
        raise InputError("compression", compression, problem, "use compression none, or no encryption")


def check_backing_encryption(name: str, given: str, path: str, encrypted: bool, encryption: Encryption | None) -> None:
    """Refuse a chain of which a part is encrypted and another not, or that would need two secrets."""
    if encryption is None:
        if encrypted:
            problem = "is an encrypted image, and an increment in the clear would tell what it protects"
            raise InputError(name, given, problem, "give encryption with its secret, or take a full image")
        return
    if not encrypted:
        problem = "is not encrypted, and an encrypted increment would protect only what changed"
        raise InputError(name, given, problem, "take a full image, or leave encryption out")
    if not opens(path, encryption):
        problem = f"is another secret than that of {given!r}, the backing_file"
        remedy = "give the secret with which the chain was made, or take a full image"
        raise InputError("encryption", "(hidden)", problem, remedy)


def opens(path: str, encryption: Encryption) -> bool:
    """Whether the secret opens an encrypted image. Raises :class:`ToolError` for what is no such image."""
    try:
        _qemu.unlock(path, encryption)
    except ToolError as error:
        if "Invalid password" not in error.message:
            raise
        return False
    return True


def _read(path: str) -> bytes:
    name = "encryption.secret_file"
    if not os.path.isabs(path):
        raise InputError(name, path, "is relative", "give an absolute path")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        remedy = "name a file on this host that the module's user may read"
        raise InputError(name, path, f"can't be read ({error.strerror})", remedy) from error
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(name, path, "is no regular file", "name a file that holds the secret")
        if found.st_mode & stat.S_IRWXO:
            mode = f"{stat.S_IMODE(found.st_mode):04o}"
            raise InputError(name, path, f"is open to every user (mode {mode})", "give it mode 0600")
        return file.read(LONGEST_SECRET + 1)


def _check_secret(name: str, shown: str, secret: bytes) -> None:
    """Refuse what QEMU would refuse, or take only a part of: it wants UTF-8 without NUL."""
    if not secret:
        raise InputError(name, shown, "is empty", "give a secret")
    if len(secret) > LONGEST_SECRET:
        raise InputError(name, shown, f"is longer than {LONGEST_SECRET} bytes", "use a shorter secret")
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        remedy = "use a secret of letters and digits, such as one that 'openssl rand -base64 32' prints"
        raise InputError(name, shown, "is no text in UTF-8, which QEMU wants", remedy) from None
