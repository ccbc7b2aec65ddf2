# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.duration import seconds_of
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(0, 0), ("90", 90), ("90s", 90), ("45m", 2700), (" 20 H ", 72000), ("30d", 2592000), ("2w", 1209600)],
)
def test_seconds(given: object, seconds: int) -> None:
    assert seconds_of("max_age", given) == seconds


@pytest.mark.parametrize("given", [-1, "", "d", "1.5h", "1h30m", "30 days", "1y", "\u0663d", "9" * 10])
def test_no_duration(given: object) -> None:
    with pytest.raises(InputError, match=r"^max_age: .* is no duration; give seconds, .* as in 30d"):
        seconds_of("max_age", given)
