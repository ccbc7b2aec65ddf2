# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the live definition tells of copies of disks."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._xml.mirror import reads_from_server

LIVE = """\
<domain><devices>
  <disk type='file'><source file='/a.overlay'/><target dev='vda'/>
    <backingStore type='network'><source protocol='nbd' name='vda'><host transport='unix' socket='/s'/></source></backingStore></disk>
  <disk type='network'><source protocol='rbd' name='pool/image'/><target dev='vdb'/></disk>
  <disk type='file'><source file='/c'/><backingStore type='file'><source file='/d'/></backingStore><target dev='vdc'/></disk>
</devices></domain>
"""


@pytest.mark.parametrize(("name", "far"), [("vda", True), ("vdb", True), ("vdc", False), ("vdd", False)])
def test_whether_a_disk_is_read_from_a_server(name: str, far: bool) -> None:
    assert reads_from_server(LIVE, name) == far
