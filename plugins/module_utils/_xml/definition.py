# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Rewrite a stored definition for the host and the name that it comes back to. Strings in, strings out."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.definition import Rewritten
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_clean import clean
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_copy import make_copy, renew_generation
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_isolated import isolate
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_places import (
    drop_foreign_labels,
    map_cards,
    map_pools,
    replace_disks,
    set_machine,
)
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import parse, serialise

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.virt.backup.plugins.module_utils._model.definition import Rewrite


def rewrite(xml: str, wanted: Rewrite, rename: Callable[[str], str]) -> Rewritten:
    """Return the definition as it is wanted, whatever the host has of it.

    ``rename`` gives for a path that the original makes or writes the one that a copy uses.
    """
    root = parse(xml)
    notes: list[str] = []
    warnings: list[str] = []
    clean(root)
    renew_generation(root)
    map_pools(root, wanted.pools)
    replace_disks(root, wanted.disks, warnings)
    if wanted.copy is not None:
        make_copy(root, wanted.copy, rename, notes, warnings)
    map_cards(root, wanted, notes)
    if wanted.isolated:
        isolate(root, [disk.name for disk in wanted.disks], wanted.network, notes)
    set_machine(root, wanted)
    if wanted.secmodels is not None:
        drop_foreign_labels(root, wanted.secmodels, notes)
    return Rewritten(serialise(root), tuple(dict.fromkeys(notes)), tuple(dict.fromkeys(warnings)))


def stopping_on_errors(xml: str, disks: t.Collection[str]) -> str:
    """Return the definition of a domain that stands still when a read or write of these disks fails.

    Its guest then hears of no error, and what failed is tried again when it goes on.
    """
    root = parse(xml)
    for node in root.iterfind("devices/disk"):
        target, driver = node.find("target"), node.find("driver")
        if target is not None and driver is not None and target.get("dev", "") in disks:
            driver.set("error_policy", "stop")
            driver.set("rerror_policy", "stop")
    return serialise(root)


def without_passwords(xml: str) -> str:
    """Return the XML as it may be shown: a definition that was stored with its secrets has them in these places."""
    root = parse(xml)
    for node in root.iterfind("devices/graphics[@passwd]"):
        node.attrib.pop("passwd", "")
    for cookies in root.findall("devices/disk//cookies"):
        parent = cookies.getparent()
        if parent is not None:
            parent.remove(cookies)
    return serialise(root)
