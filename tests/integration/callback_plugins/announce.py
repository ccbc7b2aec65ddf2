# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A callback of the tests: the playbook stands still before the task that VIRT_BACKUP_STOP_AT names.

It says so with the file ``reached`` in VIRT_BACKUP_STOP_IN, and goes on when somebody opens the pipe ``go`` beside it.
ansible-playbook calls its callbacks in the process that hands tasks out, so nothing else of the run goes on meanwhile.
"""

from __future__ import annotations

import os
import pathlib
import typing as t

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: announce
type: aggregate
short_description: Stand still before a task
description:
  - For tests only.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no type information
    """Stands still once."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "announce"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        """Announce the task, and wait, when it is the one."""
        folder = pathlib.Path(os.environ["VIRT_BACKUP_STOP_IN"])
        if str(task.get_name()).endswith(os.environ["VIRT_BACKUP_STOP_AT"]) and not (folder / "reached").exists():
            (folder / "reached").touch()
            (folder / "go").read_bytes()
