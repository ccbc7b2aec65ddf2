# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Let a guest go on that an I/O error paused while our job ran: a full scratch file system does that."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._run.job_files import forget_pause, was_paused

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle
    from ansible_collections.virt.backup.plugins.module_utils._model.job import Server


def resume_after(handle: DomainHandle, server: Server | None) -> tuple[bool, str]:
    """Resume the guest if our job, which has ended, can be why it is paused; return whether, and a warning.

    QEMU does the writes again that had failed. A guest that was paused before the job began, or by somebody's wish, is
    left alone. Never fails: it comes after what matters.
    """
    if server is None:
        return False, ""
    before = was_paused(server, handle.uuid)
    forget_pause(server, handle.uuid)
    try:
        if before or not handle.is_paused_by_io_error():
            return False, ""
        handle.resume()
    except BackupError as error:
        return False, f"An I/O error paused the guest during the job, and it could not be resumed: {error.message}"
    return True, (
        f"An I/O error had paused domain '{handle.name}' during the job, and it was resumed when the job had ended; "
        "look at the space that scratch files have, and at that of the disks."
    )
