# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Remove a copy that is not needed any more, with all that libvirt keeps for it; its disks stay."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import LibvirtFailure, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.libvirt_error import NO_DOMAIN
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_needs import nvram_path
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_record import read_record
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import parse

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle, Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._run.domain_host import Neighbour


def check_removable(existing: DomainHandle) -> None:
    """Refuse a domain that no restore has made. Raises :class:`StateError`."""
    if read_record(existing.definition(secure=False)) is None:
        what = f"as: domain '{existing.name}' bears no mark of a restore"
        raise StateError(f"{what}, so it is left alone; remove it with virsh.")


def remove(existing: DomainHandle) -> None:
    """End and forget the domain; one that libvirt forgets by itself may be gone at any moment."""
    try:
        persistent = existing.is_persistent()
        if existing.is_active():
            existing.destroy()
        if persistent:
            existing.remove()
    except LibvirtFailure as failure:
        if failure.code != NO_DOMAIN:
            raise


def own_nvram(hypervisor: Hypervisor, stored: str, rewritten: str, others: Iterable[Neighbour]) -> str:
    """Return the NVRAM that the copy has left, which libvirt deletes for nobody; empty when there is none.

    Never the original's: it must have another path, and no other domain may use it.
    """
    path = nvram_path(parse(rewritten))
    if not path or not hypervisor.is_local or not os.path.lexists(path) or path == nvram_path(parse(stored)):
        return ""
    used = {os.path.realpath(claim.value) for other in others for claim in other.holds}
    return "" if os.path.realpath(path) in used else path


def unlink(path: str) -> None:
    """Delete a file that may be gone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
