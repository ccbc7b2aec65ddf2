# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long ``30d`` is, and what is no length of time."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("2m", 120),
        ("12h", 43200),
        (" 30 d ", 2592000),
        ("4W", 2419200),
        ("", None),
        ("-1", None),
        ("1.5h", None),
        ("30 days", None),
        ("\u0663d", None),
        ("9999999999", None),
    ],
)
def test_lengths_of_time(text: str, seconds: int | None) -> None:
    assert parse_duration(text) == seconds
