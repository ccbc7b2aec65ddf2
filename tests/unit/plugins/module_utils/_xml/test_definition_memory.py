# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory of a definition in bytes, whatever unit it has."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_memory import memory_of


@pytest.mark.parametrize(
    ("memory", "length"),
    [
        ("<memory>8</memory>", 8192),
        ("<memory unit='KiB'>1048576</memory>", 1 << 30),
        ("<memory unit='k'>3</memory>", 3072),
        ("<memory unit='KB'>3</memory>", 3000),
        ("<memory unit='MiB'> 160 </memory>", 160 << 20),
        ("<memory unit='GB'>2</memory>", 2 * 10**9),
        ("<memory unit='TiB'>1</memory>", 1 << 40),
        ("<memory unit='bytes'>77</memory>", 77),
        ("<currentMemory>5</currentMemory>", 0),
    ],
)
def test_units(memory: str, length: int) -> None:
    assert memory_of(f"<domain>{memory}</domain>") == length


@pytest.mark.parametrize("memory", ["<memory unit='pages'>1</memory>", "<memory>much</memory>"])
def test_what_is_no_memory(memory: str) -> None:
    with pytest.raises(BackupError, match="which is no"):
        memory_of(f"<domain>{memory}</domain>")
