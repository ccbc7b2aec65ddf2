# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small truths about processes, read from /proc."""

from __future__ import annotations

import ctypes
import os
import pathlib
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """To be called between fork and exec: the kernel kills us when our parent dies, however it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def unblock_signals() -> None:
    """To be called between fork and exec: a blocked signal would stay blocked in the new program."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def children(pid: int) -> list[int]:
    """Return the children of a process, oldest first; none when it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(word) for word in text.split()]


def start_time(pid: int) -> int:
    """Return the start of a process in clock ticks since boot, 0 when it is gone.

    A process id is used again; a process id together with its start time is not.
    """
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


def namespaces(pid: int) -> frozenset[str]:
    """Return the namespaces of a process that the lab makes, as the kernel names them (``net:[4026532281]``)."""
    return frozenset(os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "net", "pid", "uts"))


def members(wanted: frozenset[str]) -> list[int]:
    """Return every process that is in any of these namespaces."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if namespaces(int(entry.name)) & wanted:
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone, or so well protected that it is none of ours
    return found
