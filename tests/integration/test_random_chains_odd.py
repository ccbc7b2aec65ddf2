# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random chains of disks of any size in bytes, which only a server of our own can serve with a bitmap, in any cut of replies."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor
from ansible_collections.virt.backup.tests.integration.random_chains import odd_chain, seeds

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host


@pytest.mark.parametrize("seed", seeds(4))
def test_random_chain(seed: int) -> None:
    odd_chain(seed, ["none", "none", "zstd", "zlib"])
