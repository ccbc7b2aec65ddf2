# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A test whose body runs in a child fails for everything for which it would have failed in its parent."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import typing as t

import pytest

from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host


def words() -> str:
    return f"words for {sys.exc_info()[1]!r}"


def in_a_thread() -> None:
    thread = threading.Thread(target=in_the_body)
    thread.start()
    thread.join()


def in_the_body() -> None:
    raise ValueError("42")


class Finalized:
    """Has a finalizer that fails, and is part of a ring: only the garbage collector lets it go."""

    def __init__(self) -> None:
        self.ring = self

    def __del__(self) -> None:
        raise ValueError("43")


BAD = {
    r"^words for ValueError\('42'\)$": in_the_body,
    r"^words for SystemExit\(0\)$": lambda: sys.exit(0),
    r"^in <Thread.*>: ValueError\('42'\)$": in_a_thread,
    r"^in <function Finalized.__del__.*>: ValueError\('43'\)$": Finalized,
    "^the process of the test ended with status 0$": lambda: os._exit(0),
    "^the process of the test ended with status 9$": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


@pytest.mark.parametrize("failure", BAD)
def test_what_fails(failure: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=failure):
        own_process.run(BAD[failure], words)


def test_what_is_good() -> None:
    reached: list[int] = []
    own_process.run(lambda: reached.append(1), words)
    assert reached == [], "it was not a child"


def test_who_waits_no_longer_ends_it() -> None:
    """As pytest-timeout does, whose alarm raises in the parent."""
    reading, writing = os.pipe()

    def body() -> None:
        os.write(writing, b"!")
        time.sleep(1000)

    def stop(*_unused: t.Any) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGUSR1, stop)
    parent = os.getpid()
    thread = threading.Thread(target=lambda: (os.read(reading, 1), os.kill(parent, signal.SIGUSR1)))
    thread.start()
    with pytest.raises(InterruptedError):
        own_process.run(body, words)
    thread.join()
    signal.signal(signal.SIGUSR1, before)
    os.close(writing)
    assert os.read(reading, 1) == b"", "the child lives on"
    os.close(reading)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, 0)
