# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes as people write and read them."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.size import in_units, parse_size

WRITTEN = [
    ("0", 0),
    ("1048576", 1 << 20),
    ("512B", 512),
    ("1k", 1024),
    ("512M", 512 << 20),
    ("20G", 20 << 30),
    ("20GB", 20 << 30),
    ("20 GiB", 20 << 30),
    ("1.5 gib", 3 << 29),
    (" 2T ", 2 << 40),
    ("9007199254740993", 9007199254740993),
    ("", None),
    ("G", None),
    ("-1", None),
    ("1.G", None),
    ("1P", None),
    ("1,5G", None),
    ("\u0663G", None),
]


@pytest.mark.parametrize(("text", "size"), WRITTEN)
def test_what_a_size_means(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("size", [0, 12, 1023, 4 << 20, 3 << 29, 5 << 50])
def test_what_is_shown_is_understood(size: int) -> None:
    shown = in_units(size)
    assert parse_size(shown.replace(" bytes", "")) == size
