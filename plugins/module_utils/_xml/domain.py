# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Domain XML -> model (https://libvirt.org/formatdomain.html)."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk, Domain
from ansible_collections.virt.backup.plugins.module_utils._model.state_file import Nvram, Tpm
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import parse, text_of

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._xml.tree import Element

_AGENT = "devices/channel/target[@name='org.qemu.guest_agent.0']"

_DAC_LABEL = re.compile(r"\+?([0-9]{1,9}):\+?([0-9]{1,9})\Z")

# The attribute of <source> that says where the bytes are, by the type of the disk.
_SOURCE_ATTRIBUTE = {"file": "file", "block": "dev", "dir": "dir"}


def parse_domain(xml: str, sizes: t.Mapping[str, int] | None = None) -> Domain:
    """Read a domain. ``sizes`` gives the virtual size in bytes by target name, which the XML does not hold."""
    root = parse(xml)
    known = sizes or {}
    pairs = [(node, node.find("target")) for node in root.iterfind("devices/disk")]
    disks = [_disk(node, target, known) for node, target in pairs if target is not None]
    return Domain(
        name=text_of(root, "name"),
        uuid=text_of(root, "uuid"),
        disks=tuple(disks),
        has_agent_channel=root.find(_AGENT) is not None,
        agent_connected=root.find(f"{_AGENT}[@state='connected']") is not None,
        nvram=_nvram(root.find("os/nvram")),
        tpm=_tpm(root.find("devices/tpm/backend")),
        qemu_ids=_ids(text_of(root, "seclabel[@model='dac']/label")),
    )


def _ids(label: str) -> tuple[int, int] | None:
    """Read user and group of a DAC label; libvirt writes ``+64055:+109`` for a running domain, others may use names."""
    found = _DAC_LABEL.match(label)
    return (int(found[1]), int(found[2])) if found else None


def _nvram(node: Element | None) -> Nvram | None:
    """Read the NVRAM: its path as text, or as a source like a disk's (libvirt 8.5)."""
    if node is None:
        return None
    kind = node.get("type", "file")
    path = (node.text or "").strip() or _source(node, kind)
    return Nvram(path, kind) if path else None


def _tpm(node: Element | None) -> Tpm | None:
    """Read the TPM; a domain has one at most that holds anything (spapr's proxy holds nothing, and comes second)."""
    if node is None:
        return None
    source, secret = node.find("source"), node.find("encryption")
    return Tpm(
        backend=node.get("type", ""),
        version=node.get("version", "2.0"),
        source_type="" if source is None else source.get("type", ""),
        source="" if source is None else source.get("path", ""),
        secret="" if secret is None else secret.get("secret", ""),
    )


def _disk(node: Element, target: Element, sizes: t.Mapping[str, int]) -> Disk:
    name = target.get("dev", "")
    return Disk(
        name=name,
        device=node.get("device", "disk"),
        bus=target.get("bus", ""),
        source_type=node.get("type", "file"),
        source=_source(node, node.get("type", "file")),
        format=_format(node),
        serial=text_of(node, "serial"),
        readonly=node.find("readonly") is not None or node.get("device") == "cdrom",
        transient=node.find("transient") is not None,
        virtual_size=sizes.get(name, 0),
        node=_node(node),
    )


def _node(node: Element) -> str:
    """Return QEMU's node name of the top image, which libvirt derives from the index of the source."""
    source = node.find("source")
    index = "" if source is None else source.get("index", "")
    return f"libvirt-{index}-format" if index else ""


def _format(node: Element) -> str:
    driver = node.find("driver")
    return "raw" if driver is None else driver.get("type", "raw")


def _source(node: Element, kind: str) -> str:
    source = node.find("source")
    if source is None:
        return ""
    if kind == "network":
        return _network_source(source)
    if kind == "volume":
        pool, volume = source.get("pool", ""), source.get("volume", "")
        return f"{pool}/{volume}" if volume else ""
    if kind in _SOURCE_ATTRIBUTE:
        return t.cast(str, source.get(_SOURCE_ATTRIBUTE[kind], ""))
    # nvme, vhostuser, vhostvdpa: all attributes together are what tells two of them apart, but for the number that
    # libvirt gives an image while QEMU has it open: the same disk has another one after a power cycle.
    own = [item for item in sorted(source.attrib.items()) if item[0] != "index"]
    nested = [item for entry in source for item in sorted(entry.attrib.items())]
    return ",".join(f"{key!s}={value!s}" for key, value in [*own, *nested])


def _network_source(source: Element) -> str:
    hosts = []
    for host in source.iterfind("host"):
        port = f":{host.get('port')}" if host.get("port") else ""
        hosts.append(host.get("socket") or f"{host.get('name', '')}{port}")
    return f"{source.get('protocol', '')}://{','.join(hosts)}/{source.get('name', '')}"
