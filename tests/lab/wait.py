# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for a state, with a bound; nothing in the lab sleeps for luck."""

from __future__ import annotations

import time
import typing as t

from lab.errors import LabError

STEP = 0.02


def until(what: str, reached: t.Callable[[], object], seconds: float = 20.0, step: float = STEP) -> None:
    """Return as soon as ``reached()`` is true; raise :class:`LabError` naming ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not so after {seconds:g} s")
        time.sleep(step)
