# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The dead man's switch of a pull job: a program of its own, which ends the job when nobody lives that would.

It also guards the guest: it ends the job before its scratch files fill their file system, and when an I/O error has
paused the guest all the same. It is started from this file's text before the guest is frozen, and goes on when the
module that started it, its SSH connection and its controller are gone. So it imports nothing of ours.
``docs/internals/dead-man.md`` tells its rules.
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

GAUGE = 0.25
"""Seconds between two looks at the space that scratch files leave."""

LOOK = 5.0
"""Seconds between two questions to libvirt, which come to a connection each."""

STUBBORN = 3600.0
"""Seconds after the lease for which a daemon that does not answer is asked again."""

BEGIN = 20.0
"""Seconds within which libvirt has to answer for the switch to be armed."""

PAUSED, IOERROR = 3, 5
"""VIR_DOMAIN_PAUSED, and the reason VIR_DOMAIN_PAUSED_IOERROR."""

PAUSED_GUEST = "An I/O error paused the guest, perhaps on scratch space: the job was ended to protect the guest."
RESUMED = "The guest, which an I/O error had paused, was resumed."


class Order(t.NamedTuple):
    """What to watch. ``address`` is the job's socket, or its host and port, as in ``host:port``.

    ``lease_file`` is there for as long as the switch is armed. ``signs`` are files that somebody alive writes to.
    ``seconds`` is how long nothing may change in any of them. ``note_file`` is where it is left, in a sentence or two,
    why the job was ended to protect the guest. ``scratch`` are directories, each with the bytes that must stay free in
    it. ``was_paused`` says that an I/O error had paused the guest before.
    """

    uri: str
    uuid: str
    address: str
    lease_file: str
    seconds: float
    signs: list[str]
    note_file: str = ""
    scratch: t.Sequence[tuple[str, int]] = ()
    was_paused: bool = False


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


def write_new(path: str, text: str) -> None:
    """Write a file whole or not at all. QEMU's user may write in the directory, so no link is followed."""
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{text}\n")
    os.rename(new, path)


class Note:
    """What is left for others to read: why the job was ended to protect the guest."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sentences: list[str] = []

    def say(self, sentence: str) -> None:
        """Add a sentence, once; a note that cannot be written must not keep the job from its end."""
        if sentence not in self._sentences:
            self._sentences.append(sentence)
            with contextlib.suppress(OSError):
                write_new(self._path, " ".join(self._sentences))


class Gauge(threading.Thread):
    """Looks at the space that is left for scratch. A file system may never answer, so nobody waits for this thread.

    ``low`` tells, once there is too little, where and how much; ``alarm`` is set then.
    """

    def __init__(self, scratch: t.Sequence[tuple[str, int]], alarm: threading.Event) -> None:
        super().__init__(daemon=True)
        self._scratch, self._alarm = scratch, alarm
        self.low = ""

    def run(self) -> None:
        """Look until there is too little anywhere."""
        while self._scratch and not self.low:
            for directory, wanted in self._scratch:
                self._look(directory, wanted)
            time.sleep(GAUGE)

    def _look(self, directory: str, wanted: int) -> None:
        try:
            usage = os.statvfs(directory)
        except OSError:
            return
        left = usage.f_bavail * usage.f_frsize
        if left < wanted:
            mib = 1024 * 1024
            amounts = f"{left / mib:.1f} MiB left, {wanted / mib:.1f} MiB wanted"
            self.low = f"Scratch space in {directory!r} ran low ({amounts}): the job was ended to protect the guest."
            self._alarm.set()


class Look(threading.Thread):
    """One look at libvirt, which ends our job where it is to ``end`` it. A daemon may never answer, so nobody waits.

    ``why`` is the sentence that the note gets before the job ends, empty when only the lease is over. ``begun`` says
    that the job was seen before. ``job`` is then whether our job is active: ``None`` is that libvirt did not say.
    """

    def __init__(
        self, order: Order, libvirt: t.Any, note: Note, *, end: bool, why: str = "", begun: bool = False
    ) -> None:
        super().__init__(daemon=True)
        self._order, self._libvirt, self._note = order, libvirt, note
        self._end, self._why, self._begun = end, why, begun
        self.job: bool | None = None
        self._foreign = False

    def run(self) -> None:
        """Ask, and act; what libvirt refuses now is tried again by the next look."""
        gone = (
            self._libvirt.VIR_ERR_NO_DOMAIN_BACKUP,
            self._libvirt.VIR_ERR_OPERATION_INVALID,
            self._libvirt.VIR_ERR_NO_DOMAIN,
        )
        try:
            domain = self._libvirt.open(self._order.uri).lookupByUUIDString(self._order.uuid)
            self.job = self._has_job(domain, gone)
            self._act(domain)
        except self._libvirt.libvirtError as error:
            self.job = False if error.get_error_code() in gone else self.job

    def _has_job(self, domain: t.Any, gone: tuple[int, ...]) -> bool:
        try:
            ours = is_at(domain.backupGetXMLDesc(0), self._order.address)
            self._foreign = not ours
            return ours
        except self._libvirt.libvirtError as error:
            if error.get_error_code() in gone:
                return False
            raise

    def _act(self, domain: t.Any) -> None:
        """End the job where it has to end, and let a guest go on whose job has ended."""
        paused = domain.state(0) == [PAUSED, IOERROR] and not self._order.was_paused
        why = self._why or (PAUSED_GUEST if paused else "")
        if self.job and (self._end or why):
            # First, so that whoever loses the connection can say why.
            if why:
                self._note.say(why)
            domain.abortJob()
        elif not (self.job or self._foreign) and self._begun and paused:
            domain.resume()
            self._note.say(RESUMED)


def watch(order: Order, libvirt: t.Any) -> str:
    """Watch until there is nothing left to do; return why it ended."""
    seen = last_signs(order)
    expires = time.monotonic() + order.seconds
    looked = time.monotonic()
    begun = False
    look: Look | None = None
    note, alarm = Note(order.note_file), threading.Event()
    gauge = Gauge(order.scratch, alarm)
    gauge.start()
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
        end = now >= expires or bool(gauge.low)
        if look is None and (now - looked >= LOOK or end):
            look = Look(order, libvirt, note, end=end, why=gauge.low, begun=begun)
            look.start()
        if now >= expires + STUBBORN:
            return "libvirt did not answer"
        alarm.wait(TICK)
        alarm.clear()
    return "disarmed"


def main() -> None:
    """Arm the switch, which the lease file tells to whoever waits for it, and watch."""
    import libvirt

    order = Order(*json.loads(sys.argv[1]))
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    first = Look(order, libvirt, Note(order.note_file), end=False)
    first.start()
    first.join(BEGIN)
    if first.job is not None:
        write_new(order.lease_file, f"{os.getpid()}")
        watch(order, libvirt)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(order.lease_file)
    # At once: a look that libvirt never answered would be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
