# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Whether a run's secret opens what its increments will build on: asked before anything of the run begins."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import opens

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._decide.base import DiskBase
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption


def check_secret(catalog: Catalog, bases: Sequence[DiskBase], encryption: Encryption | None) -> None:
    """Refuse increments that neither the old secret nor the new one alone could read.

    It is an error and no reason for a full: a secret that changed is more often a mistake than a wish, and a full under
    a secret that nobody keeps looks like a backup and is none. Who wishes it asks for a full.
    """
    for base in bases if encryption else ():
        point = catalog.point(base.base)
        image = point.manifest.disk(base.disk.name) if point else None
        if encryption is None or point is None or image is None:
            continue
        path = os.path.join(point.path, image.image)
        if not opens(path, encryption):
            problem = f"does not open {path!r}, on which the increment of disk {base.disk.name!r} would build"
            remedy = "give the secret with which that image was made, or ask for a full of every disk to change it"
            raise InputError("encryption", "(hidden)", problem, remedy)
