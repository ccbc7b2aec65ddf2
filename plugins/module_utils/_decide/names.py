# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Rules that several parameters share: names of checkpoints, absolute paths, sockets, printable text. Pure."""

from __future__ import annotations

import ipaddress
import posixpath
import re
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.text import is_printable

# domaincheckpoint.rng of libvirt 9.0; the metadata file is <name>.xml, so the name ends at 255 - 4 bytes.
_CHECKPOINT_NAME = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]*\Z")
_CHECKPOINT_NAME_LENGTH = 251

# sizeof(sockaddr_un.sun_path) is 108 with the final NUL; QEMU says "UNIX socket path is too long".
SOCKET_PATH_BYTES = 107


# The pattern dnsName of libvirt's basictypes.rng.
_DNS_NAME = re.compile(r"[a-zA-Z0-9.-]+\Z")


def listed(value: str | t.Sequence[str]) -> list[str]:
    """Return the entries of a list, or of a text with commas, which is all that a survey can ask for."""
    entries = value.split(",") if isinstance(value, str) else [str(entry) for entry in value]
    return [entry.strip() for entry in entries if entry.strip()]


def check_printable(parameter: str, value: str) -> None:
    """Refuse control characters and newlines: no name, path or description of ours may hold one."""
    if not is_printable(value):
        raise InputError(parameter, value, "holds a newline or another control character", "remove it")


def check_given(parameter: str, value: str, what: str) -> None:
    """Refuse an empty text where one is needed; ``what`` says which, as the remedy."""
    check_printable(parameter, value)
    if not value.strip():
        raise InputError(parameter, value, "is empty", f"give {what}")


def check_checkpoint_name(parameter: str, value: str) -> None:
    """Refuse what libvirt's schema refuses as the name of a checkpoint."""
    check_printable(parameter, value)
    if not _CHECKPOINT_NAME.match(value):
        remedy = "use letters, digits, '_', '-' and '.', not starting with '.'"
        raise InputError(parameter, value, "is no valid checkpoint name", remedy)
    if len(value) > _CHECKPOINT_NAME_LENGTH:
        raise InputError(parameter, value, f"has {len(value)} characters", f"use at most {_CHECKPOINT_NAME_LENGTH}")


def check_absolute(parameter: str, value: str) -> None:
    """Refuse a path that is not absolute and plain."""
    check_printable(parameter, value)
    if not posixpath.isabs(value):
        raise InputError(parameter, value, "is not an absolute path", "give the full path on the hypervisor")
    plain = "/" + posixpath.normpath(value).lstrip("/")  # POSIX lets "//" mean something else, Linux does not
    if plain != value:
        raise InputError(parameter, value, "is not in its plain form", f"write it as {plain!r}")


def check_socket(parameter: str, value: str) -> None:
    """Refuse a socket path that is relative or too long for the kernel."""
    check_absolute(parameter, value)
    length = len(value.encode())
    if length > SOCKET_PATH_BYTES:
        remedy = f"use a path of at most {SOCKET_PATH_BYTES} bytes, such as one below /run/virt-backup"
        raise InputError(parameter, value, f"has {length} bytes, more than a UNIX socket address holds", remedy)


def check_listen_address(parameter: str, value: str) -> None:
    """Refuse what libvirt's schema refuses as the name of a server: anything but a DNS name or an IP address."""
    check_printable(parameter, value)
    if not _DNS_NAME.match(value) and not _is_ipv6(value):
        raise InputError(parameter, value, "is no host name or IP address", "give one to listen on, such as 127.0.0.1")


def _is_ipv6(value: str) -> bool:
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return "%" not in value


def check_unique(parameter: str, values: t.Iterable[str], what: str) -> None:
    """Refuse a value that stands twice in a list."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise InputError(parameter, value, f"is given twice as {what}", "list each one once")
        seen.add(value)


def check_known(parameter: str, value: str, known: t.Sequence[str], what: str) -> None:
    """Refuse a name that is not among those that exist, and say which do."""
    if value not in known:
        there = ", ".join(known) if known else "none"
        raise InputError(parameter, value, f"is not {what}", f"it has: {there}")
