# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a copy keeps of each read: nothing, or a disk of a tebibyte would need hundreds of mebibytes."""

from __future__ import annotations

import gc
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor

if t.TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host


@pytest.mark.parametrize("connections", [1, 4])
def test_the_views_that_libnbd_keeps_do_not_grow_with_the_disk(tmp_path: Path, connections: int) -> None:
    before = views()
    with nbd.nbdkit(tmp_path, "pattern", f"size={300 * MIB}") as server:
        image = ImageRequest(server.uri(), str(tmp_path / "out.raw"), format="raw")
        extract(ExtractRequest(images=(image,), connections=connections, checksum="none"), check=False)
    assert views() - before < 100


def views() -> int:
    gc.collect()
    return sum(isinstance(found, memoryview) for found in gc.get_objects())
