# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Take out of a domain's XML what belongs to one run of it, so that what is left can be defined.

A restore point holds the definition, or the XML of the running domain where the two had different disks. libvirt drops
most of this itself when it parses a definition; here it goes before, so that the same restore point always gives the
same text. Addresses stay: with other ones a guest would find its disks and network cards under other names.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._xml.tree import Element

# What libvirt calls the host's side of a network card when nobody chose a name (virnetdev.h, VIR_NET_GENERATED_*).
_GENERATED_TARGETS = ("vnet", "vif", "macvtap", "macvlan")

# Where libvirt puts the sockets of channels by itself: of a running domain, below a name that holds its number.
_GENERATED_SOCKETS = ("/channel/target/", "/run/libvirt/qemu/channel/")


def clean(root: Element) -> None:
    """Drop run-time parts in place."""
    root.attrib.pop("id", "")
    _drop(root, "devices//alias", lambda node: not node.get("name", "").startswith("ua-"))
    _drop(root, "resource", lambda node: (node.findtext("partition") or "").strip() in ("/machine", "/machine.slice"))
    for step in (_labels, _disks, _interfaces, _characters, _graphics, _vsock):
        step(root)


def _drop(root: Element, path: str, condition: t.Callable[[Element], bool]) -> None:
    for node in root.findall(path):
        parent = node.getparent()
        if parent is not None and condition(node):
            parent.remove(node)


def _labels(root: Element) -> None:
    """A dynamic label is made anew for every run; what is left of it then is libvirt's default, for every model."""
    for node in root.findall("seclabel[@type='dynamic']"):
        for name in ("label", "imagelabel"):
            for label in node.findall(name):
                node.remove(label)
        if not len(node) and node.get("relabel", "yes") == "yes":
            root.remove(node)
    _drop(root, "devices//seclabel", lambda node: node.get("labelskip") == "yes")


def _disks(root: Element) -> None:
    """The chain of a disk goes too: it is that of the day of the backup, and libvirt reads the one there is now."""
    for disk in root.iterfind("devices/disk"):
        for tag in ("mirror", "backingStore"):
            for node in disk.findall(tag):
                disk.remove(node)
        for node in disk.iter("source"):
            node.attrib.pop("index", "")


def _interfaces(root: Element) -> None:
    _drop(root, "devices/interface/target", lambda node: node.get("dev", "").startswith(_GENERATED_TARGETS))
    for source in root.iterfind("devices/interface[@type='network']/source"):
        for name in ("portid", "bridge"):
            source.attrib.pop(name, "")


def _characters(root: Element) -> None:
    for node in root.iterfind("devices/*[@type='pty']"):
        node.attrib.pop("tty", "")
        for source in node.findall("source"):
            source.attrib.pop("path", "")
            if not source.attrib and not len(source):
                node.remove(source)
    for channel in root.iterfind("devices/channel[@type='unix']"):
        channel_target = channel.find("target")
        if channel_target is not None:
            channel_target.attrib.pop("state", "")
        for source in channel.findall("source[@mode='bind']"):
            if any(part in source.get("path", "") for part in _GENERATED_SOCKETS):
                channel.remove(source)


def _graphics(root: Element) -> None:
    for node in root.iterfind("devices/graphics[@autoport='yes']"):
        for name in ("port", "tlsPort"):
            node.attrib.pop(name, "")
    for node in root.iterfind("devices/graphics"):
        listens = node.findall("listen")
        for listen in listens:
            if listen.get("type") == "network":
                listen.attrib.pop("address", "")
        if listens and listens[0].get("type") == "network":
            node.attrib.pop("listen", "")


def _vsock(root: Element) -> None:
    for node in root.iterfind("devices/vsock/cid[@auto='yes']"):
        node.attrib.pop("address", "")
