# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The mark of a restore in a domain's metadata: from which restore point it came, and what was defined then.

``<vb:restored xmlns:vb="urn:virt-backup:restored:1" restore_point="..." wanted="sha256:..." definition="sha256:..."/>``

``wanted`` is the digest of all that a restore asks for, so that the same restore is recognised later, whatever libvirt
made of the XML, and whatever the machine has written since. ``definition`` is the digest of what libvirt made of it, so
that a change by others is noticed.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._xml.tree import child, parse, serialise

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._xml.tree import Element

NAMESPACE = "urn:virt-backup:restored:1"
_TAG = f"{{{NAMESPACE}}}restored"


@dataclasses.dataclass(frozen=True)
class Record:
    """The mark. ``definition`` is empty until libvirt was asked what it had made of the XML.

    ``isolated`` is a copy for a drill: nobody but the drill knows of it, and its memory counts for the limit of all.
    """

    restore_point: str
    wanted: str
    definition: str = ""
    isolated: bool = False


def read_record(xml: str) -> Record | None:
    """Return the mark in a definition, or ``None``."""
    node = parse(xml).find(f"metadata/{_TAG}")
    if node is None:
        return None
    texts = (node.get("restore_point", ""), node.get("wanted", ""), node.get("definition", ""))
    return Record(*texts, isolated=node.get("isolated") == "yes")


def _element(record: Record) -> Element:
    node = parse(f'<vb:restored xmlns:vb="{NAMESPACE}"/>')
    for name, value in (("restore_point", record.restore_point), ("wanted", record.wanted)):
        node.set(name, value)
    if record.definition:
        node.set("definition", record.definition)
    if record.isolated:
        node.set("isolated", "yes")
    return node


def without_record(xml: str) -> str:
    """Return the definition without the mark, indented always alike: what digests are taken of."""
    root = parse(xml)
    for metadata in root.findall("metadata"):
        for node in metadata.findall(_TAG):
            metadata.remove(node)
        if not len(metadata):
            root.remove(metadata)
    return serialise(root)


def without_places(xml: str, disks: t.Collection[str]) -> str:
    """Return the definition without the mark and without where these disks are, as they may have moved since."""
    root = parse(without_record(xml))
    for node in root.iterfind("devices/disk"):
        target = node.find("target")
        if target is None or target.get("dev", "") not in disks:
            continue
        node.attrib.pop("type", "")
        for tag in ("source", "backingStore", "mirror"):
            for found in node.findall(tag):
                node.remove(found)
        for driver in node.findall("driver"):
            driver.attrib.pop("type", "")
    return serialise(root)


def with_record(xml: str, record: Record) -> str:
    """Return the definition with the mark in the place of an older one."""
    root = parse(without_record(xml))
    metadata = root.find("metadata")
    if metadata is None:
        metadata = child(root, "metadata")
    metadata.append(_element(record))
    return serialise(root)
