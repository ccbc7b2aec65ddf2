# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The dead man's switch of a pull job: a program of its own, which ends the job when nobody lives that would.

It is started from this file's text before the guest is frozen, and goes on when the module that started it, its SSH
connection and its controller are gone. So it imports nothing of ours. ``docs/internals/dead-man.md`` tells its rules.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import typing as t
from xml.etree import ElementTree

TICK = 0.5
"""Seconds between two looks at the files; a lease file that is gone ends the program within them."""

LOOK = 5.0
"""Seconds between two questions to libvirt, which come to a connection each."""

STUBBORN = 3600.0
"""Seconds after the lease for which a daemon that does not answer is asked again."""

BEGIN = 20.0
"""Seconds within which libvirt has to answer for the switch to be armed."""


class Order(t.NamedTuple):
    """What to watch. ``address`` is the job's socket, or its host and port, as in ``host:port``.

    ``lease_file`` is there for as long as the switch is armed. ``signs`` are files that somebody alive writes to.
    ``seconds`` is how long nothing may change in any of them.
    """

    uri: str
    uuid: str
    address: str
    lease_file: str
    seconds: float
    signs: list[str]


def last_signs(order: Order) -> list[int]:
    """Return when each file was last written to, in nanoseconds; 0 for one that is not there."""
    times = []
    for path in [order.lease_file, *order.signs]:
        try:
            times.append(os.stat(path).st_mtime_ns)
        except OSError:
            times.append(0)
    return times


def is_at(xml: str, address: str) -> bool:
    """Whether a backup job's XML is that of the job which serves at this address."""
    server = ElementTree.fromstring(xml).find("server")
    if server is None:
        return False
    return address in (server.get("socket"), f"{server.get('name')}:{server.get('port')}")


class Look(threading.Thread):
    """One look at libvirt, which ends our job where it is to ``end`` it. A daemon may never answer, so nobody waits.

    ``job`` is then whether our job is active: ``None`` is that libvirt did not say.
    """

    def __init__(self, order: Order, libvirt: t.Any, *, end: bool) -> None:
        super().__init__(daemon=True)
        self._order, self._libvirt, self._end = order, libvirt, end
        self.job: bool | None = None

    def run(self) -> None:
        """Ask, and end the job; what libvirt refuses now is tried again by the next look."""
        codes = self._libvirt
        gone = (codes.VIR_ERR_NO_DOMAIN_BACKUP, codes.VIR_ERR_OPERATION_INVALID, codes.VIR_ERR_NO_DOMAIN)
        try:
            domain = self._libvirt.open(self._order.uri).lookupByUUIDString(self._order.uuid)
            self.job = is_at(domain.backupGetXMLDesc(0), self._order.address)
            if self.job and self._end:
                domain.abortJob()
        except self._libvirt.libvirtError as error:
            self.job = False if error.get_error_code() in gone else self.job


def watch(order: Order, libvirt: t.Any) -> str:
    """Watch until there is nothing left to do; return why it ended."""
    seen = last_signs(order)
    expires = time.monotonic() + order.seconds
    looked = time.monotonic()
    begun = False
    look: Look | None = None
    while os.path.exists(order.lease_file):
        now = time.monotonic()
        signs = last_signs(order)
        if signs != seen:
            seen, expires = signs, now + order.seconds
        if look is not None and not look.is_alive():
            begun = begun or bool(look.job)
            if look.job is False and (begun or now >= expires):
                return "the job is over"
            look, looked = None, now
        if look is None and (now - looked >= LOOK or now >= expires):
            look = Look(order, libvirt, end=now >= expires)
            look.start()
        if now >= expires + STUBBORN:
            return "libvirt did not answer"
        time.sleep(TICK)
    return "disarmed"


def for_us_alone(path: str, flags: int) -> int:
    """Open a file that nobody else may read, whatever the umask."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def main() -> None:
    """Arm the switch, which the lease file tells to whoever waits for it, and watch."""
    import libvirt

    order = Order(*json.loads(sys.argv[1]))
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    first = Look(order, libvirt, end=False)
    first.start()
    first.join(BEGIN)
    if first.job is not None:
        with open(order.lease_file, "w", encoding="ascii", opener=for_us_alone) as file:
            file.write(f"{os.getpid()}\n")
        watch(order, libvirt)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(order.lease_file)
    # At once: a look that libvirt never answered would be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
