# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What make hands on to the long run."""

from __future__ import annotations

import argparse

import pytest
import soak


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200)])
def test_a_time(text: str, seconds: float) -> None:
    assert soak.to_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "1d", "-1", "1.5h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time"):
        soak.to_seconds(text)


def test_a_hundred_backups_unless_told_otherwise() -> None:
    options = soak.parse(["--time=", "--backups=", "--seed="])
    assert (options.time, options.backups) == (None, soak.BACKUPS)
    assert options.seed.isdigit()


def test_a_time_is_enough_and_a_seed_is_kept() -> None:
    options = soak.parse(["--time=10m", "--backups=", "--seed=7"])
    assert (options.time, options.backups, options.seed) == (600, None, "7")
