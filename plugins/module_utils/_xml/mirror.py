# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Copy jobs in the live domain XML, and the XML of a copy's destination (virDomainBlockCopy)."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.disk_copy import Mirror
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import child, element, parse, serialise

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.disk_copy import CopyTarget
    from ansible_collections.virt.backup.plugins.module_utils._xml.tree import Element

_ATTRIBUTE = {"file": "file", "block": "dev"}


def parse_mirrors(xml: str) -> dict[str, Mirror]:
    """Return the copy jobs by the target name of their disks.

    ``ready`` is "yes" once the copy is complete; "abort" and "pivot" stand there while libvirt ends the job.
    """
    found = {}
    for disk in parse(xml).iterfind("devices/disk"):
        mirror, target = disk.find("mirror"), disk.find("target")
        if mirror is not None and target is not None:
            ready = mirror.get("ready") == "yes"
            found[target.get("dev", "")] = Mirror(_place(mirror), ready, mirror.get("job", "copy"))
    return found


def _place(mirror: Element) -> str:
    source = mirror.find("source")
    if source is None:
        return str(mirror.get("file", ""))
    return str(source.get("file") or source.get("dev") or "")


def reads_from_server(xml: str, name: str) -> bool:
    """Whether an image of the disk, or below it, is reached over a network protocol."""
    for disk in parse(xml).iterfind("devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("dev") == name:
            return any(source.get("protocol") for source in disk.iter("source"))
    return False


def build_destination(target: CopyTarget) -> str:
    """Return the disk element that tells libvirt where to copy to."""
    disk = element("disk", type=target.kind)
    child(disk, "driver", name="qemu", type=target.format)
    child(disk, "source", **{_ATTRIBUTE[target.kind]: target.dest})
    return serialise(disk)
