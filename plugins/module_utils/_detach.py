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
import tempfile
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


def keep(name: str, command: t.Sequence[str], fds: tuple[int, ...], ready: t.Callable[[], bool], seconds: float) -> int:
    """Start another program, which inherits ``fds``; return its process id when it is ``ready``.

    Where systemd runs it gets a scope of its own, as units inherit nothing. What it makes is its user's alone.

    :raises BackupError: it ended, with what it said, or was not ready in time, and was ended then.
    """
    scope = ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={name}", "--"]
    scoped = os.path.isdir(SYSTEMD) and shutil.which(scope[0]) and _run([*scope[:-2], "--", "true"])
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*(scope if scoped else ()), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=fds,
            start_new_session=True,
            cwd="/",
            umask=0o077,
        )
        try:
            _await(process, name, ready, seconds)
        except BaseException as error:
            process.kill()
            process.wait()
            said.seek(0)
            words = " ".join(said.read().decode(errors="replace").split())
            if isinstance(error, BackupError) and words:
                error.message += f" It said: {words.rstrip('.')}."
            raise
    process.returncode = 0  # nobody is going to wait for it, which Popen would warn of
    return process.pid


def _await(process: subprocess.Popen[bytes], name: str, ready: t.Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise BackupError(f"The process {name} did not start.")
        if time.monotonic() > deadline:
            raise BackupError(f"The process {name} did not start within {seconds:g} seconds.")
        time.sleep(_POLL_SECONDS)


def _run(command: list[str]) -> bool:
    nothing = subprocess.DEVNULL
    done = subprocess.run(command, check=False, stdin=nothing, stdout=nothing, stderr=nothing, cwd="/")
    return done.returncode == 0
