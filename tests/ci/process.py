# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the commands of a step: logged, within a time limit, and without leaving a process behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import paths
from guard import Red

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_GRACE = 10.0  # seconds that a daemon of a finished command gets to go by itself
_SILENCE = 60.0  # seconds after which a long command shows its last line


_asked_to_end: list[int] = []  # by these signals; looked at where a command can be ended, not in the middle of a start


def adopt_orphans(*, adopt: bool = True) -> None:
    """Become the parent of every process that a command leaves behind, so that it is found (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def hear_signals() -> None:
    """Let a signal end this process through its clean-up, so that no command outlives it.

    Commands hear them, too: what is started in the background inherits deaf ears for some, a handler is not inherited.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: _asked_to_end.append(number))


class Commands:
    """The commands of one step and their common log."""

    def __init__(self, name: str, minimum: t.Mapping[str, t.Any]) -> None:
        self.log = paths.LOGS / f"{name}.log"
        self.minimum = minimum
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")

    def __call__(
        self, *command: str | Path, cwd: Path = paths.ROOT, limit: float = 900, **variables: str | Path
    ) -> str:
        """Run one command to its end and return what it printed; raise Red unless it succeeds within the limit (s)."""
        words = [str(word) for word in command]
        start = self._append(f"$ {shlex.join(words)}\n")
        environment = {**paths.tool_environment(), **{name: str(value) for name, value in variables.items()}}
        with self.log.open("ab") as stream:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = self._wait(process, limit)
            finally:
                left = _end_orphans(process)
        if status:
            raise Red(f"{Path(words[0]).name} ended with status {status}")
        if left:
            raise Red(f"{Path(words[0]).name} left processes behind: {', '.join(left)}")
        return self.log.read_bytes()[start:].decode(errors="replace")

    def tail(self, lines: int = 80) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _append(self, text: str) -> int:
        with self.log.open("ab") as stream:
            stream.write(text.encode())
            return stream.tell()

    def _wait(self, process: subprocess.Popen[bytes], limit: float) -> int:
        begun = shown = time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=1)
            if _asked_to_end:
                raise SystemExit(128 + _asked_to_end.pop())
            now = time.monotonic()
            if now - begun > limit:
                raise Red(f"{self.log.stem} did not end within {limit:.0f} s")
            if now - shown > _SILENCE:
                shown = now
                print(f"     {self.log.stem}: {now - begun:.0f} s, {self.tail(1)[:120]}", flush=True)


def _end_orphans(process: subprocess.Popen[bytes]) -> list[str]:
    """End the command when it still runs, then whatever it left; return the names of what was left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    deadline = time.monotonic() + _GRACE
    left: list[str] = []
    while orphans := living_children():
        if time.monotonic() > deadline:
            left += [_describe(pid) for pid in orphans]
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return left


def living_children() -> list[int]:
    """Reap what has ended and return the children that live (the command itself has been waited for)."""
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return []
        if pid == 0:
            break
    return [pid for pid in _processes() if _parent(pid) == os.getpid()]


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _parent(pid: int) -> int:
    """Return the parent of a process, 0 when it is gone (proc(5): the second field after the name in parentheses)."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _describe(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        words = "(gone)"
    return f"{pid} {words[:100]}"
