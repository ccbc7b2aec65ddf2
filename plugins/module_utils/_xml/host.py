# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The capabilities of a host -> model (https://libvirt.org/formatcaps.html, formatdomaincaps.html)."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.host import Abilities, Asked, Guest, Host
from ansible_collections.virt.backup.plugins.module_utils._xml.tree import parse, serialise, text_of

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._xml.tree import Element


def parse_host(xml: str) -> Host:
    """Read what ``virConnectGetCapabilities`` returns."""
    root = parse(xml)
    guests = {}
    for arch in root.iterfind("guest[os_type='hvm']/arch"):
        guests[arch.get("name", "")] = _guest(arch)
    models = (text_of(node, "model") for node in root.iterfind("host/secmodel"))
    return Host(text_of(root, "host/uuid"), frozenset(filter(None, models)), guests)


def _guest(arch: Element) -> Guest:
    """Read one architecture: a type of virtualisation without machines of its own has those of the architecture."""
    common = _machines(arch)
    kinds = {domain.get("type", ""): _machines(domain) or common for domain in arch.iterfind("domain")}
    return Guest(text_of(arch, "emulator"), kinds)


def _machines(node: Element) -> tuple[str, ...]:
    return tuple((machine.text or "").strip() for machine in node.iterfind("machine"))


def parse_abilities(xml: str) -> Abilities:
    """Read what ``virConnectGetDomainCapabilities`` returns."""
    root = parse(xml)
    modes = [mode for mode in root.iterfind("cpu/mode") if mode.get("supported") == "yes"]
    blockers = {
        node.get("model", ""): tuple(feature.get("name", "") for feature in node.iterfind("feature"))
        for node in root.iterfind("cpu/mode[@name='custom']/blockers")
    }
    models = {}
    for node in root.iterfind("cpu/mode[@name='custom']/model"):
        name = (node.text or "").strip()
        models[name] = (node.get("usable", "unknown"), blockers.get(name, ()))
    tpm = root.find("devices/tpm")
    return Abilities(
        emulator=text_of(root, "path"),
        modes=frozenset(mode.get("name", "") for mode in modes),
        models=models,
        loaders=tuple((node.text or "").strip() for node in root.iterfind("os/loader/value")),
        tpm=None if tpm is None else _values(tpm, "backendModel"),
    )


def _values(node: Element, name: str) -> frozenset[str]:
    return frozenset((value.text or "").strip() for value in node.iterfind(f"enum[@name='{name}']/value"))


def parse_asked(xml: str) -> Asked:
    """Read what a definition asks of its host."""
    root = parse(xml)
    kind, cpu, os = root.find("os/type"), root.find("cpu"), root.find("os")
    return Asked(
        name=text_of(root, "name"),
        uuid=text_of(root, "uuid").lower(),
        arch="" if kind is None else kind.get("arch", ""),
        machine="" if kind is None else kind.get("machine", ""),
        virt_type=root.get("type", ""),
        emulator=text_of(root, "devices/emulator"),
        cpu="" if cpu is None else serialise(cpu),
        cpu_mode="" if cpu is None else cpu.get("mode", "custom" if cpu.find("model") is not None else ""),
        cpu_model=text_of(root, "cpu/model"),
        cpu_check="" if cpu is None else cpu.get("check", ""),
        loader=text_of(root, "os/loader"),
        firmware="" if os is None else os.get("firmware", ""),
        cards=len(root.findall("devices/interface")),
    )
