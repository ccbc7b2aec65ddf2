# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage pools, as libvirt 9.0 writes them."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.volume import Pool
from ansible_collections.virt.backup.plugins.module_utils._xml.pool import parse_pool

DIRECTORY = """<pool type='dir'><name>default</name><uuid>e9f9e962-6477-4e75-ba92-1a6b7dfc3264</uuid>
<capacity unit='bytes'>1</capacity><source></source>
<target><path>/var/lib/libvirt/images</path><permissions><mode>0711</mode></permissions></target></pool>"""
GROUP = """<pool type='logical'><name>vg</name><source><device path='/dev/sdb'/><name>vg</name><format type='lvm2'/></source>
<target><path>/dev/vg</path></target></pool>"""
CEPH = "<pool type='rbd'><name>ceph</name><source><name>rbd</name><host name='ceph1'/></source></pool>"


@pytest.mark.parametrize(
    ("xml", "pool", "holds_files"),
    [
        (DIRECTORY, Pool("default", "dir", "/var/lib/libvirt/images"), True),
        (GROUP, Pool("vg", "logical", "/dev/vg"), False),
        (CEPH, Pool("ceph", "rbd", ""), False),
    ],
)
def test_pools(xml: str, pool: Pool, holds_files: bool) -> None:
    assert parse_pool(xml) == pool
    assert pool.holds_files is holds_files
