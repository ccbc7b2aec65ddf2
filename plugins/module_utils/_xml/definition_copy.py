# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Make a definition that of another domain, which can run beside the original.

What has to be unique on a host or in a network is given anew: name, UUID, MAC addresses, the generation id, what a
socket, a port or a file is called. What the original holds exclusively is no question of names, and is in
``definition_needs``.
"""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._xml.tree import element, text_of

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.virt.backup.plugins.module_utils._model.definition import Identity
    from ansible_collections.virt.backup.plugins.module_utils._xml.tree import Element

    Notes = list[str]
    Rename = Callable[[str], str]

_CHARACTERS = ("serial", "parallel", "console", "channel")


def make_copy(root: Element, who: Identity, rename: Rename, notes: Notes, warnings: Notes) -> None:
    """Change the identity in place. ``rename`` gives the path of a copy for a path of the original."""
    old_uuid = text_of(root, "uuid")
    _set_text(root, "name", who.name)
    _set_text(root, "uuid", who.uuid)
    for entry in root.iterfind("sysinfo/system/entry[@name='uuid']"):
        entry.text = who.uuid
    _cards(root, who)
    _labels(root, old_uuid, notes, warnings)
    _characters(root, rename, notes, warnings)
    _graphics(root, rename, notes)
    for cid in root.iterfind("devices/vsock/cid"):
        cid.set("auto", "yes")
        cid.attrib.pop("address", "")
    for nvram in root.iterfind("os/nvram"):
        _move_nvram(nvram, rename)
    _move_tpm(root, rename)


def renew_generation(root: Element) -> None:
    """Empty the generation id, so that libvirt makes a new one: a guest must know that it came back from a backup."""
    for node in root.iterfind("genid"):
        node.text = None


def _set_text(root: Element, tag: str, text: str) -> None:
    node = root.find(tag)
    if node is None:
        node = element(tag)
        root.insert(0, node)
    node.text = text


def _cards(root: Element, who: Identity) -> None:
    for card, mac in zip(root.iterfind("devices/interface"), who.macs):
        for node in card.findall("mac"):
            card.remove(node)
        card.insert(0, element("mac", address=mac))
        for node in card.findall("target"):
            card.remove(node)
        for parameters in card.iterfind("virtualport/parameters"):
            for name in ("interfaceid", "instanceid"):
                parameters.attrib.pop(name, "")


def _labels(root: Element, old_uuid: str, notes: Notes, warnings: Notes) -> None:
    """AppArmor's static labels are profiles, which are named by the UUID: the original's is not the copy's."""
    for node in root.findall("seclabel[@type='static']"):
        if old_uuid and old_uuid.lower() in text_of(node, "label").lower():
            root.remove(node)
            notes.append(f"the static label of {node.get('model', '')} was left out: it is made for the original")
        else:
            label = text_of(node, "label")
            warnings.append(f"the copy runs under the static label {label} of the original: they share its rights.")


def _characters(root: Element, rename: Rename, notes: Notes, warnings: Notes) -> None:
    for device in root.iterfind("devices/*"):
        if device.tag not in _CHARACTERS:
            continue
        for source in [*device.findall("source"), *device.findall("log")]:
            attribute = "file" if source.tag == "log" else "path"
            path = source.get(attribute, "")
            if path and (source.tag == "log" or _is_made(device, source)):
                source.set(attribute, rename(path))
                notes.append(f"{path} of the original is {rename(path)} of the copy")
            elif device.get("type") in ("tcp", "udp") and source.get("mode") == "bind":
                port = source.get("service", "")
                warnings.append(f"the copy's {device.tag} listens on port {port} as the original's does.")


def _is_made(device: Element, source: Element) -> bool:
    """Whether QEMU makes what is at the path; a socket that it connects to is another's."""
    return device.get("type") in ("file", "pipe") or (device.get("type") == "unix" and source.get("mode") == "bind")


def _graphics(root: Element, rename: Rename, notes: Notes) -> None:
    for node in root.iterfind("devices/graphics"):
        if node.get("autoport") == "no" or node.get("port", "-1") != "-1":
            for name in ("port", "tlsPort", "websocket"):
                node.attrib.pop(name, "")
            node.set("autoport", "yes")
            notes.append(f"the display ({node.get('type', '')}) of the copy gets a port of its own")
        for holder in (node, *node.findall("listen")):
            if holder.get("socket"):
                holder.set("socket", rename(holder.get("socket", "")))


def _move_nvram(node: Element, rename: Rename) -> None:
    if (node.text or "").strip():
        node.text = rename((node.text or "").strip())
    for source in node.findall("source[@file]"):
        source.set("file", rename(source.get("file", "")))


def _move_tpm(root: Element, rename: Rename) -> None:
    """Move the state that the definition puts somewhere; libvirt's own place follows from the UUID."""
    for source in root.iterfind("devices/tpm/backend[@type='emulator']/source"):
        source.set("path", rename(source.get("path", "")))
