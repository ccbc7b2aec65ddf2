# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The daemons of the hypervisor that we are in: restarted or held down, as an operator would with systemctl."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import typing as t

from lab.errors import LabError
from lab.hypervisor import LIBVIRTD, VIRTLOGD
from lab.pid1 import HOLD, answers
from lab.processes import start_time
from lab.tools import virsh
from lab.wait import until

_SERVICES = {service.name: service for service in (LIBVIRTD, VIRTLOGD)}


def pid_of(name: str) -> int:
    """Return the process id of a daemon, 0 when it is not running."""
    try:
        pid = int(pathlib.Path(f"/run/{name}.pid").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0
    return pid if start_time(pid) else 0


def end(name: str, how: signal.Signals = signal.SIGTERM) -> None:
    """End a daemon and wait until it is gone; process 1 starts it again unless it is held down."""
    pid = pid_of(name)
    if not pid:
        raise LabError(f"{name} is not running")
    begun = start_time(pid)
    os.kill(pid, how)
    until(f"{name} has ended", lambda: start_time(pid) != begun)


def wait_for(name: str) -> None:
    """Wait until a daemon answers, libvirtd with all its drivers ready."""
    until(f"{name} answers", lambda: answers(_SERVICES[name].ready), 30)
    if name == LIBVIRTD.name:
        until(f"{name} lists its domains", _lists_domains, 30)


def _lists_domains() -> bool:
    """Whether libvirtd serves its main socket; after a SIGKILL the old one's file is there before anybody listens."""
    try:
        virsh("list", "--all")
    except LabError:
        return False
    return True


def restart(name: str = "libvirtd", how: signal.Signals = signal.SIGTERM) -> None:
    """End a daemon, and return when its successor answers."""
    end(name, how)
    wait_for(name)


@contextlib.contextmanager
def held_down(name: str = "libvirtd") -> t.Iterator[None]:
    """Keep a daemon down for the duration."""
    hold = HOLD / name
    hold.touch()
    try:
        end(name)
        yield
    finally:
        hold.unlink()
        os.kill(1, signal.SIGHUP)
        wait_for(name)
