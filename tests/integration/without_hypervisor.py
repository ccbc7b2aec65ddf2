# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Set-up of the tests that meet servers and files only. A test file takes a fixture by giving it a name of its own.

Beside :mod:`nbd_fixtures`, because the benchmarks use that one where there is no pytest.
"""

from __future__ import annotations

import typing as t

import pytest

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def lab_host() -> str:
    """No hypervisor is needed here: these tests run inside the lab and outside of it."""
    return ""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an empty folder for the images."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
