# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A storage pool's XML -> model (https://libvirt.org/formatstorage.html)."""

from __future__ import annotations

from ansible_collections.virt.backup.plugins.module_utils._model.volume import Pool
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import parse, text_of


def parse_pool(xml: str) -> Pool:
    """Read what ``virStoragePoolGetXMLDesc`` returns."""
    root = parse(xml)
    return Pool(name=text_of(root, "name"), kind=root.get("type", ""), path=text_of(root, "target/path"))
