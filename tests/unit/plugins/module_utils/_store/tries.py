# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How often a test broke something, which ``make faults`` writes into its table."""

from __future__ import annotations

import contextlib
import mmap
import typing as t

if t.TYPE_CHECKING:
    import pytest

_made = memoryview(mmap.mmap(-1, 8)).cast("Q")
"""Shared with the processes that a test forks: what they count counts."""


def count(number: int = 1) -> None:
    """Something was broken, so many times."""
    _made[0] += number


@contextlib.contextmanager
def told(test: pytest.Item) -> t.Iterator[None]:
    """Tell the report of the test how often that was."""
    before = _made[0]
    yield
    if _made[0] > before:
        test.user_properties.append(("tried", _made[0] - before))
