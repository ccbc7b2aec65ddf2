# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the body of a test in a forked child: ``pytestmark = own_process.MARK`` in a file does it for all of its tests.

libnbd's binding (1.14) keeps for ever what a copy read into, 4-8 MiB each. After a thousand copies in one process a fork
copies the tables of gigabytes, and each module of every later test costs a tenth of a second more.

Fixtures are made and closed in the parent, so a body must not change what they have to know at the end.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import typing as t

import pytest

NAME = "own_process"
MARK = pytest.mark.own_process
_GOOD = "good"


def run(body: t.Callable[[], object], words: t.Callable[[], str]) -> None:
    """Run ``body``; fail with the child's words if it failed, also in a thread, in a finalizer, or by dying.

    ``words`` tells of the exception that is being handled.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _be_child(body, words, writing)
    os.close(writing)
    told = ""
    try:
        with open(reading, encoding="utf-8") as pipe:
            told = pipe.read()
    finally:
        if not told:  # it died, or we were told to stop
            os.kill(pid, signal.SIGKILL)
        _pid, status = os.waitpid(pid, 0)
    if told != _GOOD:
        pytest.fail(told or f"the process of the test ended with status {status}", pytrace=False)


def _be_child(body: t.Callable[[], object], words: t.Callable[[], str], writing: int) -> t.NoReturn:
    failures: list[str] = []
    with contextlib.suppress(BaseException):
        # What the parent had is not looked through again, nor copied by that.
        gc.freeze()
        threading.excepthook = lambda seen: failures.append(f"in {seen.thread}: {seen.exc_value!r}")
        sys.unraisablehook = lambda seen: failures.append(f"in {seen.object!r}: {seen.exc_value!r}")
        try:
            body()
        except BaseException:
            failures.append(words())
        gc.collect()
        sys.stdout.flush()
        sys.stderr.flush()
        with open(writing, "w", encoding="utf-8", errors="replace") as pipe:
            pipe.write("\n".join(failures) or _GOOD)
    os._exit(0)
