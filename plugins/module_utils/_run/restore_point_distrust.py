# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a run found out about its bases while it copied, kept for the runs after it."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._store.distrust import read_distrust, write_distrust

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.staging import Staging
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths

ByPoint = dict[str, dict[str, str]]
"""Why images are no bases: by the id of their restore point, then by disk."""


def distrusted_bases(staging: Staging, directory: str, mismatches: Sequence[tuple[str, str]]) -> ByPoint:
    """Return what (path of an image in the staging ``directory``, problem) mean for the bases that this run planned.

    Raises :class:`InputError` for an image that this run does not make, or that has no base.
    """
    found: ByPoint = {}
    images = {os.path.join(directory, disk.image): disk for disk in staging.disks}
    for dest, problem in mismatches:
        disk = images.get(dest)
        if disk is None or not disk.base:
            what = "is no image of this run" if disk is None else "is planned as a full image, which has no base"
            raise InputError("mismatches.dest", dest, what, "pass on what nbd_extract returned")
        found.setdefault(disk.base, {})[disk.name] = problem
    return found


def unknown(paths: DomainPaths, bases: Mapping[str, Mapping[str, str]]) -> ByPoint:
    """Return what of it is not recorded yet."""
    return {
        identifier: dict(disks)
        for identifier, disks in bases.items()
        if not disks.items() <= read_distrust(paths.point(identifier), ()).items()
    }


def record(paths: DomainPaths, bases: Mapping[str, Mapping[str, str]]) -> None:
    """Write it beside the manifests of the bases. To be called under the domain's guard."""
    for identifier, disks in bases.items():
        write_distrust(paths.point(identifier), disks)
