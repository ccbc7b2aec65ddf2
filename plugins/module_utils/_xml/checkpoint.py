# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Checkpoint XML <-> model (https://libvirt.org/formatcheckpoint.html)."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint, CheckpointDisk
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import (
    child,
    element,
    number_of,
    parse,
    serialise,
    text_of,
)


def build_checkpoint(name: str, disks: t.Mapping[str, bool], description: str = "") -> str:
    """Return the XML of a new checkpoint.

    ``disks`` says for each target name whether it gets a bitmap. Every disk of the domain should be listed: without
    the list libvirt takes all writable disks and fails on the first raw one.
    """
    root = element("domaincheckpoint")
    child(root, "name", name)
    if description:
        child(root, "description", description)
    entries = child(root, "disks")
    for disk, bitmap in disks.items():
        child(entries, "disk", name=disk, checkpoint="bitmap" if bitmap else "no")
    return serialise(root)


def parse_checkpoint(xml: str, *, measured: bool = False) -> Checkpoint:
    """Read a checkpoint; ``measured`` says that the XML was asked for with sizes.

    :raises BackupError: it is no XML, or a number in it is none.
    """
    root = parse(xml)
    disks = []
    for node in root.iterfind("disks/disk"):
        size = node.get("size")
        bitmap = node.get("checkpoint", "bitmap") == "bitmap"
        disks.append(
            CheckpointDisk(
                node.get("name", ""), bitmap, None if size is None else number_of("The checkpoint's size", size)
            )
        )
    return Checkpoint(
        name=text_of(root, "name"),
        parent=text_of(root, "parent/name"),
        creation_time=number_of("The checkpoint's creationTime", text_of(root, "creationTime") or "0"),
        description=root.findtext("description") or "",
        disks=tuple(disks),
        measured=measured,
    )


def domain_uuid(xml: str) -> str:
    """Return the UUID of the domain inside a checkpoint's XML, empty when it holds none."""
    return text_of(parse(xml), "domain/uuid").lower()


def without_bitmaps(xml: str, lost: t.Collection[str]) -> str:
    """Return the XML with the named disks taken out of the checkpoint, for a redefinition that lets it be deleted."""
    root = parse(xml)
    for node in root.iterfind("disks/disk"):
        if node.get("name") in lost:
            for attribute in ("bitmap", "size"):
                node.attrib.pop(attribute, "")
            node.set("checkpoint", "no")
    return serialise(root)


def for_redefinition(xml: str, disks: t.Collection[str], checkpoints: t.Collection[str]) -> tuple[str, list[str]]:
    """Fit a saved checkpoint to the domain as it is now; return the XML and, in words, what was left out.

    libvirt refuses a definition that names a disk or a parent the domain does not have any more. Neither carries
    data: the parent is for display, and a disk that is gone has taken its bitmap along.
    """
    root = parse(xml)
    words = []
    for entries in root.iterfind("disks"):
        for node in entries.findall("disk"):
            if node.get("name") not in disks:
                entries.remove(node)
                words.append(f"disk '{node.get('name')}'")
    parent = root.find("parent")
    if parent is not None and text_of(root, "parent/name") not in checkpoints:
        root.remove(parent)
        words.append(f"parent '{(parent.findtext('name') or '').strip()}'")
    return serialise(root), words
