# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Where everything is in a repository. Names from outside are checked here, once, before they become a path.

Identifiers are chosen so that they cannot contain a separator, a dot component or anything a shell or an XML parser
would look at twice: nothing in ``_store`` joins a path from a string that did not pass this file.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import secrets
import uuid as uuid_module

from ansible_collections.virt.backup.plugins.module_utils._decide.names import check_printable
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError

STAGING = ".staging"
TRASH = ".trash"
NEW = ".new"
MANIFEST = "manifest.json"
STAGING_FILE = "staging.json"
DAMAGED = "damaged.json"
DISTRUSTED = "distrusted.json"
VERIFIED = "verified.json"
DRILLED = "drilled.json"
STATUS_FILE = "status.json"
SUMS = "SHA256SUMS"

_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}")
_TIME = "%Y%m%dT%H%M%SZ"
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DISK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESERVED = frozenset({MANIFEST, STAGING_FILE, DAMAGED, DISTRUSTED, VERIFIED, DRILLED, STATUS_FILE, SUMS})


def checked_path(parameter: str, value: str) -> str:
    """Return the absolute path ``value``, normalised, or raise :class:`InputError`."""
    check_printable(parameter, value)
    if not os.path.isabs(value):
        raise InputError(parameter, value, "is a relative path", "give an absolute path")
    if ".." in value.split("/"):
        raise InputError(parameter, value, "contains '..'", "give the path without it")
    return os.path.normpath(value)


def checked_uuid(parameter: str, value: str) -> str:
    """Return ``value`` as libvirt writes a UUID (lower case, with dashes), or raise :class:`InputError`."""
    if not is_uuid(value.lower()):
        raise InputError(parameter, value, "is not a domain's UUID", "take it from 'virsh domuuid'")
    return value.lower()


def is_uuid(value: str) -> bool:
    """Whether ``value`` is a UUID as libvirt writes one."""
    try:
        return str(uuid_module.UUID(value)) == value
    except ValueError:
        return False


def is_id(value: str) -> bool:
    """Whether ``value`` is the id of a restore point, such as ``20261123T021500Z-7f3a``."""
    return _ID.fullmatch(value) is not None and _time_of(value) is not None


def checked_id(parameter: str, value: str) -> str:
    """Return ``value`` when it is the id of a restore point, else raise :class:`InputError`."""
    if not is_id(value):
        raise InputError(
            parameter,
            value,
            "is not the id of a restore point",
            "ids look like 20261123T021500Z-7f3a (restore_point_info lists them)",
        )
    return value


def checked_disk_name(parameter: str, value: str) -> str:
    """Return ``value`` when it can be the target name of a disk and so a file name, else raise :class:`InputError`."""
    if not is_disk_name(value):
        raise InputError(
            parameter,
            value,
            "is not the target name of a disk",
            "use the names that virt_backup_info lists, such as vda",
        )
    return value


def checked_file_name(parameter: str, value: str) -> str:
    """Return ``value`` when a small file of a restore point may have that name, else raise :class:`InputError`."""
    if not is_plain_name(value):
        raise InputError(
            parameter,
            value,
            "is no plain file name",
            "use letters, digits, dot, dash and underscore, without a directory",
        )
    if value in _RESERVED or value.endswith(".qcow2"):
        raise InputError(parameter, value, "is a name the repository uses itself", "choose another file name")
    return value


def is_disk_name(value: str) -> bool:
    """Whether ``value`` can be the target name of a disk."""
    return _DISK.fullmatch(value) is not None


def is_plain_name(value: str) -> bool:
    """Whether ``value`` is a file name without anything that leads elsewhere; empty is none."""
    return _FILE.fullmatch(value) is not None


def is_token(value: str) -> bool:
    """Whether ``value`` can be the token of a run: it becomes a part of file names."""
    return _TOKEN.fullmatch(value) is not None


def _time_of(identifier: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.strptime(identifier.split("-", maxsplit=1)[0], _TIME).replace(
            tzinfo=datetime.timezone.utc
        )
    except ValueError:
        return None


def new_id(now: datetime.datetime, newest: str) -> str:
    """Return an id that sorts after ``newest`` (empty: there is none).

    The order of restore points is the order of their ids. A clock that was set back, or two runs within a second, must
    not put a new restore point before its parent, so the time in the id is moved on where needed.
    """
    moment = now
    last = _time_of(newest) if newest else None
    if last is not None and moment.replace(microsecond=0) <= last:
        moment = last + datetime.timedelta(seconds=1)
    return f"{moment.strftime(_TIME)}-{secrets.token_hex(2)}"


def checkpoint_name(repository_id: str, identifier: str) -> str:
    """Return the name of the checkpoint that belongs to a restore point of this repository."""
    return f"virt-backup.{repository_id}.{identifier}"


@dataclasses.dataclass(frozen=True)
class DomainPaths:
    """The paths of one domain in a repository."""

    root: str

    def point(self, identifier: str) -> str:
        """The directory of a published restore point."""
        return os.path.join(self.root, identifier)

    def staging(self, identifier: str) -> str:
        """The directory of a run in progress: a sibling of the published, so that relative backing paths resolve."""
        return os.path.join(self.root, identifier + STAGING)

    def trash(self, identifier: str) -> str:
        """Where a directory is renamed to before it is deleted."""
        return os.path.join(self.root, identifier + TRASH)

    def new(self, identifier: str) -> str:
        """Where a staging directory is prepared before it gets its name."""
        return os.path.join(self.root, identifier + NEW)

    @property
    def lock(self) -> str:
        """The lock of the domain."""
        return os.path.join(self.root, "lock")

    @property
    def guard(self) -> str:
        """An empty file that is locked with flock(2) for the moment in which the lock is read and replaced."""
        return os.path.join(self.root, "lock.guard")


def domain_paths(repository: str, domain_uuid: str) -> DomainPaths:
    """Return the paths of the domain with that (checked) UUID."""
    return DomainPaths(os.path.join(repository, domain_uuid))
