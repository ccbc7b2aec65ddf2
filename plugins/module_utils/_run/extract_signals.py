# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Signals that end an extraction, met at a place where what was begun can be removed in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError

if t.TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterator

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


EXTRACTION = "The extraction was ended by {signal}; no image got its name."


@contextlib.contextmanager
def noted_signals(sentence: str = EXTRACTION) -> Iterator[Callable[[], None]]:
    """Only note SIGTERM, SIGINT and SIGHUP; yield a function that raises ``sentence`` once one came.

    Python allows handlers in the main thread alone; in any other this changes nothing.
    """
    came: list[int] = []

    def note(number: int, _frame: types.FrameType | None) -> None:
        came.append(number)

    def check() -> None:
        if came:
            raise BackupError(sentence.format(signal=signal.Signals(came[0]).name))

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in ENDING} if main else {}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
