# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Cut every tie that a copy would have to the world outside of it, so that it can run beside the original unnoticed.

Its network cards are the least of it: a copy that opens the original's shared directory, its cluster disk or the TCP
connection of its serial port would be taken for the original, or write where the original writes.
"""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._xml.definition_places import card_words
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import element, parse

if t.TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ansible_collections.virt.backup.plugins.module_utils._xml.tree import Element

    Notes = list[str]

_QEMU_ARGUMENTS = "{http://libvirt.org/schemas/domain/qemu/1.0}commandline"
# What there is only to reach something else.
_TIES = ("hostdev", "redirdev", "redirfilter", "filesystem", "shmem", "vsock", "smartcard", "lease")
_TIED = (
    "input[@type='passthrough']",
    "input[@type='evdev']",
    "rng/backend[@model='egd']/..",
    "memory/source/path/../..",
    "tpm/backend[@type='passthrough']/..",
    "tpm/backend[@type='external']/..",
)
_INSIDE = ("pty", "null", "vc", "spicevmc", "spiceport", "qemu-vdagent", "dbus")
"""Character devices that end in QEMU, in its display or in libvirt."""

_CONSOLES = ("serial", "console")
_LISTENERS = ("vnc", "spice", "rdp")


def isolate(root: Element, restored: Collection[str], network: str, notes: Notes) -> None:
    """Cut all ties in place. ``restored`` names the disks that are the copy's own.

    Network cards stay only when they were moved to ``network`` before.
    """
    for step in (_devices, _arguments, _characters, _displays):
        step(root, notes)
    _disks(root, restored, notes)
    if not network:
        for card in root.findall("devices/interface"):
            _remove(card, card_words(card), notes)


def leads_out(network: str) -> str:
    """Return how a network of libvirt (its XML) leads out of the host, such as ``nat``; empty when it does not."""
    forward = parse(network).find("forward")
    return "" if forward is None else forward.get("mode", "nat")


def bridge_of(network: str) -> str:
    """Return the name of the bridge that a network of libvirt (its XML) is on, empty where it has none."""
    bridge = parse(network).find("bridge")
    return "" if bridge is None else bridge.get("name", "")


def lines_of(xml: str) -> frozenset[str]:
    """Return the networks, bridges and interfaces of the host that the network cards of a domain are on."""
    sources = parse(xml).iterfind("devices/interface/source")
    names = {source.get(attribute, "") for source in sources for attribute in ("network", "bridge", "dev")}
    return frozenset(names - {""})


def _remove(node: Element, words: str, notes: Notes) -> None:
    parent = node.getparent()
    if parent is not None:
        parent.remove(node)
        notes.append(f"{words} was removed, since the copy is isolated")


def _devices(root: Element, notes: Notes) -> None:
    paths = [*_TIES, *_TIED]
    for node in [node for path in paths for node in root.findall(f"devices/{path}")]:
        _remove(node, f"the {node.tag} device", notes)


def _arguments(root: Element, notes: Notes) -> None:
    """QEMU's own arguments can hold anything, another network card too."""
    for node in root.findall(_QEMU_ARGUMENTS):
        _remove(node, "what the definition adds to QEMU's command line", notes)


def _disks(root: Element, restored: Collection[str], notes: Notes) -> None:
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        name = "" if target is None else target.get("dev", "")
        if name in restored or disk.find("readonly") is not None or disk.get("device") == "cdrom":
            continue
        if disk.get("device") == "floppy":
            for source in disk.findall("source"):
                _remove(source, f"the medium of {name}", notes)
        else:
            _remove(disk, f"disk {name}, which is not the copy's own", notes)


def _characters(root: Element, notes: Notes) -> None:
    """A console stays one that can be listened to; a channel gets a socket of libvirt's choice, as the agent's has."""
    for device in _talkers(root):
        for log in device.findall("log"):
            device.remove(log)
        if device.get("type") in _INSIDE or (device.tag == "channel" and device.find("source") is None):
            continue
        for tag in ("source", "protocol"):
            for node in device.findall(tag):
                device.remove(node)
        kind = "pty" if device.tag in _CONSOLES else "unix" if device.get("type") == "unix" else "null"
        kind = "null" if device.tag == "parallel" else kind
        notes.append(
            f"the {device.tag} of type {device.get('type', '')} is one of type {kind}, since the copy is isolated"
        )
        device.set("type", kind)


def _talkers(root: Element) -> Iterator[Element]:
    return (node for tag in (*_CONSOLES, "parallel", "channel") for node in root.findall(f"devices/{tag}"))


def _displays(root: Element, _notes: Notes) -> None:
    """Nobody but the host sees the screen, at a port of its own."""
    for node in root.iterfind("devices/graphics"):
        if node.get("type") not in _LISTENERS:
            continue
        for listen in node.findall("listen"):
            node.remove(listen)
        for name in ("listen", "socket", "port", "tlsPort", "websocket"):
            node.attrib.pop(name, "")
        node.set("autoport", "yes")
        node.insert(0, element("listen", type="address", address="127.0.0.1"))
