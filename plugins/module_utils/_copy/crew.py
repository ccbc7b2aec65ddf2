# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Several threads, and the first error among them."""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._nbd import Cancelled


class FirstError:
    """Keeps the first error of several threads and stops the rest; those that stop because of it do not count."""

    def __init__(self, stop: t.Callable[[], None]) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def guard(self, work: t.Callable[..., None], *args: t.Any) -> None:
        """Run ``work``; keep its error."""
        try:
            work(*args)
        except Cancelled:
            self._stop()
        except BaseException as error:  # noqa: BLE001 - raised again by raise_first, in the thread that waits
            with self._lock:
                if self._error is None:
                    self._error = error
            self._stop()

    def raise_first(self) -> None:
        """Raise the kept error, if there is one."""
        if self._error is not None:
            raise self._error


class Part(t.Protocol):
    """What can run beside others and be told to stop."""

    def run(self) -> None:
        """Work to the end; raise what goes wrong."""

    def stop(self) -> None:
        """End every wait soon; from another thread."""


def run_all(parts: t.Sequence[Part], tick: t.Callable[[], None]) -> None:
    """Run all at the same time; the first error stops the others and is raised when all have ended.

    ``tick`` is called a few times a second, and what it raises stops them all too.
    """

    def stop() -> None:
        for part in parts:
            part.stop()

    errors = FirstError(stop)
    threads = [threading.Thread(target=errors.guard, args=(part.run,), daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                tick()
                thread.join(0.1)
    except BaseException:
        stop()
        raise
    finally:
        for thread in threads:
            thread.join()
    errors.raise_first()
