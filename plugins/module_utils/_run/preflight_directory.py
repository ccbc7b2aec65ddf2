# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Whether a directory will do: for us, and for the user that the domain's QEMU runs as."""

from __future__ import annotations

import os
import pwd
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain


def check_directory(parameter: str, path: str, domain: Domain, needed: int) -> None:
    """Refuse a directory that we cannot write, or for which QEMU's own user lacks the rights in ``needed``.

    libvirt's daemon creates files and hands them over, so QEMU has to enter their directory; sockets it makes itself.
    """
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        if os.path.exists(directory):
            raise InputError(parameter, directory, "is not a directory", "give a directory")
        raise InputError(parameter, directory, "does not exist", "create it, or run the role virt.backup.hypervisor")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InputError(parameter, directory, "is not writable", "make it writable, or choose another directory")
    if domain.qemu_ids is not None and not _has_access(directory, needed, *domain.qemu_ids):
        verb = "written" if needed & os.W_OK else "entered"
        raise InputError(
            parameter,
            directory,
            f"cannot be {verb} by the user that QEMU runs as (uid {domain.qemu_ids[0]})",
            "give that user the right to it and to enter the directories above it, or choose another directory",
        )


def _has_access(directory: str, needed: int, uid: int, gid: int) -> bool:
    """Ask the kernel as that user: its groups, access lists and all directories above count."""
    if os.geteuid() != 0 or uid == 0:
        return True
    try:
        groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        groups = [gid]
    our_groups, our_gid = os.getgroups(), os.getegid()
    try:
        os.setgroups(groups)
        os.setegid(gid)
        os.seteuid(uid)
        return os.access(directory, needed, effective_ids=True)
    finally:
        os.seteuid(0)
        os.setegid(our_gid)
        os.setgroups(our_groups)
