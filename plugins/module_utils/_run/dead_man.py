# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Arm and disarm the dead man's switch of a pull job."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils import _deadman, _detach
from ansible_collections.virt.backup.plugins.module_utils._run.job_files import lease_file, note_file, was_paused

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
    from ansible_collections.virt.backup.plugins.module_utils._model.job import Server
    from ansible_collections.virt.backup.plugins.module_utils._model.scratch import Mark

_START_SECONDS = 30.0


def arm(request: BackupRequest, server: Server | None, uuid: str, marks: t.Iterable[Mark]) -> None:
    """Arm the switch for a job that is about to begin, if one is asked for. ``marks`` is the space that it watches.

    :raises BackupError: it did not start, so the job must not begin.
    """
    if not request.lease or server is None:
        return
    path = lease_file(server, uuid)
    order = _deadman.Order(
        request.uri,
        uuid,
        server.address,
        path,
        request.lease,
        list(request.signs_of_life),
        note_file(server, uuid),
        [(mark.directory, mark.low_water) for mark in marks],
        was_paused(server, uuid),
    )
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    name = f"virt-backup-{uuid}-{os.getpid()}"
    _detach.start(name, inspect.getsource(_deadman), json.dumps(order), lambda: _is_armed(path), _START_SECONDS)


def _is_armed(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def renew(server: Server | None, uuid: str) -> None:
    """Give a sign of life, where a switch is armed."""
    if server is not None:
        with contextlib.suppress(FileNotFoundError):
            os.utime(lease_file(server, uuid))


def disarm(server: Server | None, uuid: str) -> None:
    """Disarm the switch, if it is armed; its process ends within a second."""
    if server is not None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lease_file(server, uuid))
