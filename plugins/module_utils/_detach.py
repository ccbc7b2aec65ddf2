# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The gateway to processes that outlive the module: nothing else starts one.

Where systemd runs, a transient unit of its own: a process of the session's is at the mercy of whoever ends the session.
Elsewhere a process in a session of its own (setsid(1)), which is nobody's child and has nothing of ours open.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError

SYSTEMD = "/run/systemd/system"
"""What sd_booted(3) looks at."""

_POLL_SECONDS = 0.02


def start(name: str, text: str, argument: str, ready: t.Callable[[], bool], seconds: float) -> None:
    """Start the Python program ``text`` with one argument, and return when it is ``ready``.

    :raises BackupError: it was not ready in time.
    """
    program = [sys.executable, "-c", text, argument]
    as_unit = ["systemd-run", "--quiet", "--collect", f"--unit={name}", "--", *program]
    # A user without a manager of units (of a session connection, say) gets a process all the same.
    if not (os.path.isdir(SYSTEMD) and shutil.which(as_unit[0]) and _run(as_unit)):
        _run(["setsid", "--fork", *program])
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise BackupError(f"The process {name}, which is to outlive this one, did not start; nothing was begun.")
        time.sleep(_POLL_SECONDS)


def _run(command: list[str]) -> bool:
    nothing = subprocess.DEVNULL
    done = subprocess.run(command, check=False, stdin=nothing, stdout=nothing, stderr=nothing, cwd="/")
    return done.returncode == 0
