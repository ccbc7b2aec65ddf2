# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A domain and its disks as libvirt's live XML shows them."""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.state_file import Nvram, Tpm


@dataclasses.dataclass(frozen=True)
class Disk:
    """One disk of a domain.

    ``name`` is the target device (``vda``), which is how libvirt's backup and checkpoint XML name a disk.
    ``source`` is a path, or for a network disk ``protocol://host:port/name``; empty when there is no medium.
    ``source_type`` is the type attribute of the disk element (``file``, ``block``, ``network``, ``volume``, ...).
    ``inode`` is that of a source that is a local file, 0 for all others: it tells two files apart that take turns under
    one path. ``virtual_size`` is the size the guest sees in bytes, 0 when it is not known (no medium, say).
    ``node`` is what QEMU calls the disk's top image in its messages, empty while the domain is off; it tells no two
    disks apart, since it is another one after each start.
    """

    name: str
    device: str = "disk"
    bus: str = "virtio"
    source_type: str = "file"
    source: str = ""
    format: str = "raw"
    serial: str = ""
    readonly: bool = False
    transient: bool = False
    virtual_size: int = 0
    inode: int = 0
    node: str = dataclasses.field(default="", compare=False)

    @property
    def has_media(self) -> bool:
        """Whether there is anything to read: an empty CD or floppy drive has no source."""
        return bool(self.source)


@dataclasses.dataclass(frozen=True)
class Domain:
    """What the XML says about a domain, and whether it is paused, which the XML does not say.

    ``agent_connected`` is known of a running domain only. ``qemu_ids`` are the user and group id that its QEMU runs as,
    where the live XML tells them.
    """

    name: str
    uuid: str
    disks: tuple[Disk, ...] = ()
    has_agent_channel: bool = False
    agent_connected: bool = False
    nvram: Nvram | None = None
    tpm: Tpm | None = None
    paused: bool = False
    qemu_ids: tuple[int, int] | None = None

    def disk(self, name: str) -> Disk | None:
        """Return the disk of that target name, or ``None``."""
        return next((disk for disk in self.disks if disk.name == name), None)
