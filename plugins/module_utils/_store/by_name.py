# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""``by-name/<domain name>``: symbolic links for humans. Nothing reads them, and a failure to make one harms nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets

from ansible_collections.virt.backup.plugins.module_utils._durable import sync_directory
from ansible_collections.virt.backup.plugins.module_utils._model.text import is_printable
from ansible_collections.virt.backup.plugins.module_utils._store.files import (
    is_directory,
    make_directory,
)

_DIRECTORY = "by-name"


def link_name(repository: str, domain_name: str, domain_uuid: str) -> str:
    """Return the name of the link; a name that another domain of the repository has already gets the UUID added."""
    if not _is_file_name(domain_name):
        return domain_uuid
    try:
        target = os.readlink(os.path.join(repository, _DIRECTORY, domain_name))
    except OSError:
        return domain_name
    other = os.path.basename(target)
    taken = other != domain_uuid and is_directory(os.path.join(repository, other))
    return f"{domain_name}.{domain_uuid}" if taken else domain_name


def _is_file_name(name: str) -> bool:
    """Whether a name can be shown in a listing and leads nowhere else, with room for what is added to it."""
    return name[:1] not in ("", ".") and "/" not in name and is_printable(name) and len(name.encode()) <= 200


def ensure_link(repository: str, domain_name: str, domain_uuid: str) -> bool:
    """Make the link when it is missing or wrong; return whether anything was done. Raises ``OSError``."""
    directory = os.path.join(repository, _DIRECTORY)
    with contextlib.suppress(FileExistsError):
        make_directory(directory)
    if not is_directory(directory):
        # A link made through one that leads elsewhere would be made there.
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
    path = os.path.join(directory, link_name(repository, domain_name, domain_uuid))
    target = os.path.join("..", domain_uuid)
    if os.path.islink(path) and os.readlink(path) == target:
        return False
    temporary = os.path.join(directory, f".{secrets.token_hex(6)}")
    os.symlink(target, temporary)
    try:
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    sync_directory(directory)
    return True
