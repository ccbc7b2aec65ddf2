# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any image that the writer makes is in order for ``qemu-img check`` and shows QEMU what was written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings

from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import without_hypervisor
from ansible_collections.virt.backup.tests.unit.properties.qcow2_cases import Case, cases, write

lab_host = without_hypervisor.lab_host


@settings(deadline=None, derandomize=True, database=None, max_examples=40)
@given(case=cases("none", "zlib", "zstd"))
def test_qemu_reads_what_was_written(case: Case) -> None:
    with tempfile.TemporaryDirectory() as name:
        image, plain = Path(name) / "image.qcow2", Path(name) / "plain.raw"
        # QEMU is to see what the image itself holds: no backing file is there.
        write(case._replace(backing=""), image)
        with plain.open("wb") as file:
            for number, content in case.contents().items():
                file.seek(number * 65536)
                file.write(content)
            file.truncate(case.size)
        nbd.identical(image, plain, other_format="raw")
