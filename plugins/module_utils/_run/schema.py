# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Check generated XML against the RELAX NG schemas that the host's own libvirt installed, before anything happens."""

from __future__ import annotations

import os

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import schema_complaint

_SCHEMA_DIRECTORY = "/usr/share/libvirt/schemas"


def complaint_of(document: str, schema: str) -> str:
    """Return why ``document`` is not what the schema (``domainbackup`` or ``domaincheckpoint``) allows, empty if it is.

    A host without the schema files leaves the check to the daemon, which makes it first of all (error 92).
    """
    path = os.path.join(_SCHEMA_DIRECTORY, f"{schema}.rng")
    return schema_complaint(document, path) if os.path.exists(path) else ""


def check_schema(document: str, schema: str) -> None:
    """Raise when generated XML is not what the schema allows."""
    complaint = complaint_of(document, schema)
    if complaint:
        raise BackupError(
            f"The {schema} XML does not satisfy this host's libvirt: {complaint}. "
            "A value given to the module is of a form that libvirt does not take; nothing was started.",
            xml=document,
        )
