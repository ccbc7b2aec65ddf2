# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Volumes of libvirt's storage pools as places of disks: from ``pool/volume`` to a path, and known to libvirt after it.

In a pool of files the volume need not be there: a file is written, and the pool reads its directory again. In a pool of
devices it must, since only its owner can say how large it shall be, and what of the pool is free for it.
"""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.names import check_printable
from ansible_collections.virt.backup.plugins.module_utils._libvirt import connect
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError
from ansible_collections.virt.backup.plugins.module_utils._model.volume import Volume
from ansible_collections.virt.backup.plugins.module_utils._xml.pool import parse_pool

if t.TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ansible_collections.virt.backup.plugins.module_utils._libvirt import Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._model.volume import Pool


def find_volumes(uri: str, wanted: Mapping[str, str]) -> dict[str, Volume]:
    """Return the volume of each parameter, such as ``disks[0].dest``, whose value is ``pool/volume``.

    :raises InputError: there is no such pool, or no such volume can be in it.
    """
    if not wanted:
        return {}
    with connect(uri) as hypervisor:
        if not hypervisor.is_local:
            remedy = "run the module on that host, with its local uri"
            raise InputError("uri", uri, "is another host's, and volumes are written on this one", remedy)
        return {parameter: _find(hypervisor, parameter, value) for parameter, value in wanted.items()}


def show_volumes(uri: str, volumes: Collection[Volume], written: Collection[str]) -> list[str]:
    """Let libvirt look again at the pools of what was ``written`` (paths), and of what it does not know yet.

    Returns a warning if that could not be.
    """
    if not volumes:
        return []
    pools = ", ".join(sorted({volume.pool for volume in volumes}))
    try:
        with connect(uri) as hypervisor:
            stale = {v.pool for v in volumes if v.path in written or not hypervisor.volume_path(v.pool, v.name)}
            for pool in sorted(stale):
                hypervisor.refresh_pool(pool)
    except BackupError as error:
        return [f"{error.message} The disks are complete; refresh the pools yourself ({pools}: virsh pool-refresh)."]
    return []


def is_block_device(path: str) -> bool:
    """Whether a block device is there."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _find(hypervisor: Hypervisor, parameter: str, value: str) -> Volume:
    check_printable(parameter, value)
    name, _slash, volume = value.partition("/")
    if not (name and volume):
        raise InputError(parameter, value, "is not of the form pool/volume", "give both")
    pools = hypervisor.pools()
    if name not in pools:
        known = ", ".join(sorted(pools)) or "none"
        raise InputError(parameter, value, f"is in no storage pool of this host (it has: {known})", "name one of them")
    if not pools[name]:
        remedy = f"start it (virsh pool-start {name})"
        raise InputError(parameter, value, f"is in storage pool {name}, which is not active", remedy)
    pool = parse_pool(hypervisor.pool_xml(name))
    path = hypervisor.volume_path(name, volume) or _new_path(parameter, value, pool, volume)
    if not os.path.isabs(path):
        problem = f"is in storage pool {name} of type {pool.kind}, whose volumes have no path on this host"
        raise InputError(parameter, value, problem, "name a file, a block device or an NBD export")
    return Volume(name, volume, path)


def _new_path(parameter: str, value: str, pool: Pool, volume: str) -> str:
    """Return where the file of a new volume is."""
    if not pool.holds_files:
        problem = f"is not there, and in storage pool {pool.name} of type {pool.kind} none is made"
        raise InputError(parameter, value, problem, f"make it first (virsh vol-create-as {pool.name} {volume} SIZE)")
    if "/" in volume or volume in (".", ".."):
        raise InputError(parameter, value, "is no name of a volume, which is a file", "leave out the slash or the dots")
    return os.path.join(pool.path, volume)
