# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random chains of plain images, read from a disk at rest. How: ``random_chains.py``."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor
from ansible_collections.virt.backup.tests.integration.random_chains import run_chain, seeds

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host


@pytest.mark.parametrize("seed", seeds(1))
def test_random_chain(seed: int) -> None:
    run_chain(seed, compressions=("none",), pull=False)
