# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The status file: how far a call is, for whoever watches it. Replaced as a whole, at most once a second; mode 0600."""

from __future__ import annotations

import collections
import contextlib
import datetime
import json
import os
import time
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = 1
INTERVAL = 1.0
RECENT = 10.0
"""Seconds over which the rate is taken: long enough to be calm, short enough to tell how it goes now."""


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


class Progress(t.NamedTuple):
    """How far one image is. ``bytes_done`` is the place on the disk up to which all is done; ``bytes_total`` its size.

    ``bytes_copied`` is what was stored as data so far; ``state`` is ``copying``, ``done``, ``unchanged`` or ``failed``.
    """

    dest: str
    state: str
    bytes_done: int
    bytes_total: int
    bytes_copied: int


class _Sample(t.NamedTuple):
    """What each image had copied at a moment, by its dest."""

    moment: float
    copied: dict[str, int]


class StatusFile:
    """Writes the progress to ``path``, or nowhere when that is empty. ``updated`` is a sign of life for who waits.

    What cannot be written is left out: a full disk must not end a copy to another one, nor hide the error of the copy
    that filled it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._written = float("-inf")
        self._samples: collections.deque[_Sample] = collections.deque()

    def write(self, images: Sequence[Progress], *, now: bool = False) -> None:
        """Write if the last time was at least a second ago, or ``now``."""
        if not self._path or (not now and time.monotonic() - self._written < INTERVAL):
            return
        self._written = time.monotonic()
        updated = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        content = {"format": FORMAT, "updated": updated, **self._content(images)}
        folder, name = os.path.split(self._path)
        new = os.path.join(folder, f".{name}.{os.getpid()}.new")
        with contextlib.suppress(OSError):
            os.unlink(new)  # left by a process that had this number, or a link that somebody laid
        try:
            with open(new, "x", encoding="utf-8", opener=_for_us_alone) as file:
                json.dump(content, file)
                file.write("\n")
            os.replace(new, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)

    def _content(self, images: Sequence[Progress]) -> dict[str, t.Any]:
        """Return the images and their sums, each with its rate in bytes copied per second of the recent past."""
        now = _Sample(self._written, {image.dest: image.bytes_copied for image in images})
        self._samples.append(now)
        while len(self._samples) > 2 and self._samples[1].moment <= now.moment - RECENT:
            self._samples.popleft()
        then = self._samples[0]
        seconds = now.moment - then.moment

        def rate(image: Progress) -> int:
            return round((image.bytes_copied - then.copied.get(image.dest, 0)) / seconds) if seconds > 0 else 0

        told = [{**image._asdict(), "rate": rate(image)} for image in images]
        sums = ("bytes_done", "bytes_total", "bytes_copied", "rate")
        return {"images": told, "total": {name: sum(image[name] for image in told) for name in sums}}
