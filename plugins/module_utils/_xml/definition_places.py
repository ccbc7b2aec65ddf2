# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Point a domain's disks, network cards and machine to what there is on the host it comes to."""

from __future__ import annotations

import typing as t
import urllib.parse

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import child, element

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.definition import NewDisk, Rewrite
    from ansible_collections.virt.backup.plugins.module_utils._xml.tree import Element

    Notes = list[str]

_OF_THE_OLD_IMAGE = ("source", "backingStore", "mirror", "encryption", "auth")
_OF_QCOW2 = "metadata_cache"
_PATH_ATTRIBUTE = {"file": "file", "block": "dev"}
_MAPPED = {"network": ("network", "networks"), "bridge": ("bridge", "bridges"), "direct": ("dev", "interfaces")}
# What a network card may keep that is moved to a network of libvirt: all that the guest sees, and what limits it.
_OF_THE_CARD = {
    "mac",
    "model",
    "address",
    "boot",
    "link",
    "mtu",
    "alias",
    "rom",
    "driver",
    "bandwidth",
    "acpi",
    "teaming",
}


def replace_disks(root: Element, disks: t.Sequence[NewDisk], warnings: Notes) -> None:
    """Point the disks to where their content is now.

    :raises InputError: the domain has no such disk, or a disk or a place is named twice.
    """
    nodes = {target.get("dev", ""): node for node in root.iterfind("devices/disk") for target in node.findall("target")}
    seen: dict[str, str] = {}
    for disk in disks:
        if disk.name not in nodes:
            raise InputError("disks", disk.name, "is no disk of the domain", f"it has: {', '.join(nodes) or 'none'}")
        if disk.name in seen.values() or disk.source in seen:
            raise InputError("disks", disk.name, "is named twice, or has the source of another", "name each disk once")
        seen[disk.source] = disk.name
        _replace(nodes[disk.name], disk, warnings)


def _replace(node: Element, disk: NewDisk, warnings: Notes) -> None:
    if node.find("encryption") is not None or node.find("source/encryption") is not None:
        warnings.append(f"disk {disk.name} was encrypted by libvirt where it was; what is restored is not.")
    for tag in _OF_THE_OLD_IMAGE:
        for old in node.findall(tag):
            node.remove(old)
    node.set("type", disk.type)
    _lun_to_disk(node, disk, warnings)
    driver = node.find("driver")
    if driver is None:
        driver = element("driver", name="qemu")
        node.insert(0, driver)
    driver.set("type", disk.format)
    if disk.format != "qcow2":
        driver.attrib.pop("discard_no_unref", "")
        for cache in driver.findall(_OF_QCOW2):
            driver.remove(cache)
    node.insert(node.index(driver) + 1, source_element(disk))


def _lun_to_disk(node: Element, disk: NewDisk, warnings: Notes) -> None:
    """A LUN passes SCSI commands through to a device, which no file can take."""
    if node.get("device") != "lun" or disk.type == "block":
        return
    node.set("device", "disk")
    for name in ("rawio", "sgio"):
        node.attrib.pop(name, "")
    for old in node.findall("reservations"):
        node.remove(old)
    warnings.append(f"disk {disk.name} was a LUN that takes the guest's SCSI commands; it is an ordinary disk now.")


def source_element(disk: NewDisk) -> Element:
    """Return the source of a disk that is at its new place."""
    if disk.type == "network":
        return _network_source(disk)
    if disk.type == "volume":
        pool, slash, volume = disk.source.partition("/")
        if not (pool and slash and volume):
            raise InputError("disks", disk.source, "is not of the form pool/volume", "give both")
        return element("source", pool=pool, volume=volume)
    return element("source", **{_PATH_ATTRIBUTE[disk.type]: disk.source})


def _network_source(disk: NewDisk) -> Element:
    """Read ``protocol://host:port/name``, or the form of a UNIX socket: ``protocol+unix:///name?socket=path``."""
    try:
        url = urllib.parse.urlsplit(disk.source)
        port = url.port
    except ValueError as error:
        remedy = "give protocol://host:port/name"
        raise InputError("disks", disk.source, f"is no URI of a network disk ({error})", remedy) from error
    protocol, _plus, transport = url.scheme.partition("+")
    name = urllib.parse.unquote(url.path.lstrip("/"))
    tls = {"tls": "yes"} if protocol == "nbds" else {}
    source = element("source", protocol=protocol.replace("nbds", "nbd"), name=name, **tls)
    if transport == "unix":
        socket = urllib.parse.parse_qs(url.query).get("socket", [""])[0]
        child(source, "host", transport="unix", socket=socket)
    elif url.hostname:
        child(source, "host", name=url.hostname, **({"port": str(port)} if port else {}))
    if not protocol or not len(source) or not name:
        raise InputError("disks", disk.source, "is no URI of a network disk", "give protocol://host:port/name")
    return source


def map_pools(root: Element, pools: t.Mapping[str, str]) -> None:
    """Rename the pools of disks that are volumes."""
    for source in root.iterfind("devices/disk[@type='volume']/source"):
        pool = source.get("pool", "")
        source.set("pool", pools.get(pool, pool))


def map_cards(root: Element, rewrite: Rewrite, notes: Notes) -> None:
    """Move, unplug or remove the network cards, or rename what they are on."""
    devices = root.find("devices")
    for card in root.findall("devices/interface"):
        if rewrite.network_cards == "remove" and devices is not None:
            devices.remove(card)
            notes.append(f"{card_words(card)} was removed")
        elif rewrite.network:
            _move(card, rewrite.network)
        else:
            _rename(card, rewrite)
        if rewrite.network_cards == "disconnect":
            _disconnect(card)


def card_words(card: Element) -> str:
    """Return a network card in words."""
    mac = card.find("mac")
    return f"network card {'' if mac is None else mac.get('address', '')}".strip()


def _move(card: Element, network: str) -> None:
    driver_is_of_host = card.get("type") in ("hostdev", "vdpa", "vhostuser")
    for node in list(card):
        if node.tag not in _OF_THE_CARD or (node.tag == "driver" and driver_is_of_host):
            card.remove(node)
    card.set("type", "network")
    card.attrib.pop("managed", "")
    card.insert(0, element("source", network=network))


def _rename(card: Element, rewrite: Rewrite) -> None:
    attribute, option = _MAPPED.get(card.get("type", ""), ("", ""))
    source = card.find("source")
    if source is None or not attribute:
        return
    names: t.Mapping[str, str] = getattr(rewrite, option)
    old = source.get(attribute, "")
    source.set(attribute, names.get(old, old))


def _disconnect(card: Element) -> None:
    for link in card.findall("link"):
        card.remove(link)
    child(card, "link", state="down")


def set_machine(root: Element, rewrite: Rewrite) -> None:
    """Set what the definition says of the machine to what the parameters and the host say."""
    if rewrite.virt_type:
        root.set("type", rewrite.virt_type)
    for node, text in ((root.find("devices/emulator"), rewrite.emulator), (root.find("os/loader"), rewrite.loader)):
        if node is not None and text:
            node.text = text
    if rewrite.choose_firmware:
        _choose_firmware(root)
    kind = root.find("os/type")
    if kind is not None and rewrite.machine:
        kind.set("machine", rewrite.machine)
    if rewrite.cpu != "keep":
        _set_cpu(root, rewrite.cpu)


def _choose_firmware(root: Element) -> None:
    """Leave what the firmware must be able to do, and drop where one was found: the paths differ between systems."""
    for loader in root.iterfind("os/loader"):
        loader.text = None
    for nvram in root.iterfind("os/nvram"):
        for name in ("template", "templateFormat"):
            nvram.attrib.pop(name, "")


def _set_cpu(root: Element, mode: str) -> None:
    """Change the model and leave what the guest sees of its topology."""
    cpu = root.find("cpu")
    if cpu is None:
        cpu = child(root, "cpu")
    for name in ("mode", "match", "check", "migratable", "deprecated_features"):
        cpu.attrib.pop(name, "")
    for tag in ("model", "vendor", "feature"):
        for node in cpu.findall(tag):
            cpu.remove(node)
    if mode != "default":
        cpu.set("mode", mode)
    elif not len(cpu):
        root.remove(cpu)


def drop_foreign_labels(root: Element, models: frozenset[str], notes: Notes) -> None:
    """Drop the labels of security models that the host does not have: with one of them no domain starts."""
    for node in [*root.findall("seclabel"), *root.findall("devices//seclabel")]:
        model = node.get("model", "")
        parent = node.getparent()
        if model and model not in (*models, "none") and parent is not None:
            parent.remove(node)
            notes.append(f"the label of the security model {model} was left out, which this host doesn't have")
