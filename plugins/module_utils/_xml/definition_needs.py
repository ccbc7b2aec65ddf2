# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a definition needs of the host, part by part; and taking a part out that goes without."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.definition import (
    DEVICES,
    DISKS,
    HOST,
    MEDIA,
    NETWORKS,
    RESTORED,
    Claim,
    Need,
)
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_places import card_words
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import parse, serialise, text_of

if t.TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from ansible_collections.virt.backup.plugins.module_utils._xml.tree import Element

_MEDIA = ("cdrom", "floppy")
_CARD_SOURCES = {"network": ("network", "network"), "bridge": ("link", "bridge"), "direct": ("link", "dev")}
_PATH_ATTRIBUTES = {"file": "file", "block": "dev", "dir": "dir"}
# Files of the host that a machine starts from.
_BOOT_FILES = ("loader", "kernel", "initrd", "dtb", "shim")


def needs_of(xml: str, restored: Collection[str], *, copy: bool) -> tuple[Need, ...]:
    """Return all needs. ``restored`` names the disks whose content was put in place; ``copy``: the original lives."""
    root = parse(xml)
    found = [*_disks(root, restored, copy), *_cards(root, copy), *_host_devices(root, copy), *_files(root, copy)]
    return (*found, *_boot(root), *_tpm(root))


def without_parts(xml: str, remove: Collection[str], eject: Collection[str]) -> str:
    """Return the XML without some parts, and with some drives emptied."""
    root = parse(xml)
    nodes = dict(_parts(root))
    for part in remove:
        parent = nodes[part].getparent()
        if parent is not None:
            parent.remove(nodes[part])
    for part in eject:
        for tag in ("source", "backingStore"):
            for node in nodes[part].findall(tag):
                nodes[part].remove(node)
        nodes[part].set("type", "file")
    return serialise(root)


def _parts(root: Element) -> Iterator[tuple[str, Element]]:
    """Name every device so that it is found again in the same text: disks by target, others by their order."""
    counts: dict[str, int] = {}
    for node in root.iterfind("devices/*"):
        tag = str(node.tag)
        target = node.find("target")
        if tag == "disk" and target is not None:
            yield f"disk:{target.get('dev', '')}", node
        else:
            counts[tag] = counts.get(tag, -1) + 1
            yield f"{tag}:{counts[tag]}", node


def _of(root: Element, *tags: str) -> Iterator[tuple[str, Element]]:
    return ((part, node) for part, node in _parts(root) if node.tag in tags)


# Disks


def _disks(root: Element, restored: Collection[str], copy: bool) -> Iterator[Need]:
    for part, node in _of(root, "disk"):
        name = part.partition(":")[2]
        source = node.find("source")
        if source is None:
            continue
        media = node.get("device") in _MEDIA
        group = RESTORED if name in restored else MEDIA if media else DISKS
        shared = media or node.find("readonly") is not None or node.find("shareable") is not None
        if group == DISKS and copy and not shared:
            words = f"disk {name} is not among the restored, and what the original has it on is the original's"
            yield Need(part, "never", "", words, DISKS)
            continue
        kind, value = _place(node, source)
        if kind:
            yield Need(part, kind, value, f"{'the medium of ' if media else ''}disk {name}", group)


def _place(node: Element, source: Element) -> tuple[str, str]:
    """Return kind and value of the place; nothing for what can't be looked at beforehand."""
    kind = node.get("type", "file")
    if kind == "volume":
        return "volume", f"{source.get('pool', '')}/{source.get('volume', '')}"
    if kind == "nvme":
        address = source.find("address")
        return ("pci", _pci(address)) if address is not None else ("", "")
    value = source.get(_PATH_ATTRIBUTES[kind], "") if kind in _PATH_ATTRIBUTES else ""
    return ("file", value) if value else ("", "")


def writes_of(xml: str) -> tuple[Claim, ...]:
    """Return the places that the domain writes to and shares with nobody by intent: its disks, its NVRAM."""
    root = parse(xml)
    alone = [
        (part, node)
        for part, node in _of(root, "disk")
        if node.get("device") not in _MEDIA and all(node.find(tag) is None for tag in ("readonly", "shareable"))
    ]
    return (*(claim for part, node in alone for claim in _claims(part, [node])), *_nvram_claims(root))


def holds_of(xml: str) -> tuple[Claim, ...]:
    """Return every place that the domain uses, images below other images too: what another must not write to."""
    root = parse(xml)
    disks = [(part, [node, *node.iter("backingStore", "mirror")]) for part, node in _of(root, "disk")]
    return (*(claim for part, holders in disks for claim in _claims(part, holders)), *_nvram_claims(root))


def _claims(part: str, holders: Iterable[Element]) -> Iterator[Claim]:
    for holder in holders:
        source = holder.find("source")
        kind, value = ("", "") if source is None else _place(holder, source)
        if kind in ("file", "volume"):
            yield Claim(kind, value, part.replace(":", " "))


def _nvram_claims(root: Element) -> Iterator[Claim]:
    path = nvram_path(root)
    if path:
        yield Claim("file", path, "the NVRAM")


def macs_of(xml: str) -> tuple[str, ...]:
    """Return the MAC addresses of the network cards, in lower case."""
    return tuple(node.get("address", "").lower() for node in parse(xml).iterfind("devices/interface/mac"))


def nvram_path(root: Element) -> str:
    """Return the path of the NVRAM, empty without one in a file."""
    node = root.find("os/nvram")
    if node is None or node.get("type", "file") != "file":
        return ""
    source = node.find("source")
    return (node.text or "").strip() or ("" if source is None else source.get("file", ""))


# Network cards


def _cards(root: Element, copy: bool) -> Iterator[Need]:
    for part, node in _of(root, "interface"):
        kind, attribute = _CARD_SOURCES.get(node.get("type", ""), ("", ""))
        source = node.find("source")
        if source is None:
            continue
        if kind:
            where = "a network" if kind == "network" else "an interface of the host"
            words = f"{card_words(node)} is on {where}"
            yield Need(part, kind, source.get(attribute, ""), words, NETWORKS)
        elif node.get("type") == "hostdev":
            yield from _exclusive(part, source.find("address"), card_words(node), copy, NETWORKS)


# Other devices


def _exclusive(part: str, address: Element | None, words: str, copy: bool, group: str) -> Iterator[Need]:
    if copy:
        yield Need(part, "never", "", f"{words} is a device of the host, and the original's", group)
    elif address is not None and address.get("bus") and address.get("domain"):
        yield Need(part, "pci", _pci(address), f"{words} is a PCI device", group)


def _pci(address: Element) -> str:
    """Return the name of the device below /sys/bus/pci/devices; libvirt writes the numbers in hexadecimal."""
    domain, bus, slot, function = (_number(address, key) for key in ("domain", "bus", "slot", "function"))
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _number(node: Element, attribute: str) -> int:
    text = node.get(attribute, "0")
    try:
        return int(text, 0)
    except ValueError:
        raise BackupError(
            f"The stored definition has {attribute}={text!r} in <{node.tag}>, which is no number."
        ) from None


def _host_devices(root: Element, copy: bool) -> Iterator[Need]:
    for part, node in _of(root, "hostdev"):
        source = node.find("source")
        if source is None:
            continue
        words = f"the passed-through {node.get('type', '')} device"
        vendor, product, address = source.find("vendor"), source.find("product"), source.find("address")
        if not copy and node.get("type") == "usb" and vendor is not None and product is not None:
            value = f"{_number(vendor, 'id'):04x}:{_number(product, 'id'):04x}"
            yield Need(part, "usb", value, words, DEVICES)
        elif not copy and node.get("type") == "mdev" and address is not None:
            yield Need(part, "mdev", address.get("uuid", ""), words, DEVICES)
        else:
            yield from _exclusive(part, address if node.get("type") == "pci" else None, words, copy, DEVICES)


def _files(root: Element, copy: bool) -> Iterator[Need]:
    """Devices that stand on a file, a directory or a device node of the host."""
    for part, node in _of(root, "filesystem", "input", "memory", "tpm", "lease"):
        if node.tag == "filesystem":
            yield from _file(part, node.find("source[@dir]"), "dir", "the shared directory")
        elif node.tag == "input":
            yield from _file(part, node.find("source[@dev]"), "dev", "the input device")
        elif node.tag == "memory" and node.find("source/path") is not None:
            words = "the memory device"
            if copy:
                yield Need(part, "never", "", f"{words} has its content in a file, and that is the original's", DEVICES)
            else:
                yield Need(part, "file", text_of(node, "source/path"), words, DEVICES)
        elif node.tag == "tpm" and node.find("backend[@type='passthrough']") is not None:
            device = node.find("backend/device")
            if copy:
                yield Need(part, "never", "", "the TPM is the host's own chip, and the original's", DEVICES)
            else:
                yield from _file(part, device, "path", "the TPM")
        elif node.tag == "lease" and copy:
            yield Need(part, "never", "", f"the lease {text_of(node, 'key')} is the original's", DEVICES)


def _file(part: str, source: Element | None, attribute: str, words: str) -> Iterator[Need]:
    value = "" if source is None else source.get(attribute, "")
    if value:
        yield Need(part, "file", value, words, DEVICES)


# What cannot go


def _boot(root: Element) -> Iterator[Need]:
    for tag in _BOOT_FILES:
        path = text_of(root, f"os/{tag}")
        if path:
            kind = "loader" if tag == "loader" else "file"
            yield Need("", kind, path, f"what the machine starts from ({tag})", HOST)


def _tpm(root: Element) -> Iterator[Need]:
    backend = root.find("devices/tpm/backend[@type='emulator']")
    if backend is None:
        return
    yield Need("tpm:0", "emulated_tpm", "", "the emulated TPM", DEVICES)
    secret = backend.find("encryption")
    if secret is not None:
        words = "the state of the TPM is encrypted with a secret of libvirt"
        yield Need("", "secret", secret.get("secret", ""), words, HOST)
