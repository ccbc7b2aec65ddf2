# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The process that thaws a guest when nobody else is left to do it. Only the text of it imports libvirt."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError

# Runs as a process of its own, so that a guest thaws even when this one is killed while it holds a freeze: the pipe
# closes with us, and anything but the word "thawed" on it makes the watchdog act. It connects before it says ready, and
# anew for each thaw: a libvirtd that was restarted meanwhile has dropped its connection. It says so before it acts.
_WATCHDOG = """
import select, sys, time
import libvirt
uri, uuid, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
libvirt.registerErrorHandler(lambda context, error: None, None)
def domain():
    return libvirt.open(uri).lookupByUUIDString(uuid)
def has_ended():
    try:
        return not domain().isActive()
    except libvirt.libvirtError as error:
        return error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
domain()
print("ready", flush=True)
readable = select.select([sys.stdin], [], [], seconds)[0]
if not readable or sys.stdin.readline().strip() != "thawed":
    try:
        print("acts", flush=True)
    except OSError:
        pass
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            domain().fsThaw()
            break
        except libvirt.libvirtError:
            if has_ended():
                break
            time.sleep(1)
"""


class ThawWatchdog:
    """A process that thaws the guest when its owner dies, or does not report the thaw, within ``seconds``."""

    def __init__(self, uri: str, uuid: str, seconds: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WATCHDOG, uri, uuid, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        if self._process.stdout is None or self._process.stdout.readline().strip() != "ready":
            self._process.kill()
            self._process.wait()
            raise BackupError(
                "The watchdog that would thaw the guest could not be started, so the guest was not frozen."
            )

    def has_acted(self) -> bool:
        """Whether it has thawed the guest, or is about to: what was frozen is not any more."""
        said = self._process.stdout
        return said is not None and bool(select.select([said], [], [], 0)[0])

    def thawed(self) -> None:
        """Tell the watchdog that it is not needed, and wait for its end."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write("thawed\n")
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()

    def take_over(self) -> None:
        """Leave the thaw to the watchdog: our own attempt failed, it goes on trying after we have gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
