# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a hypervisor can run, as its capabilities tell it, and what a stored definition asks of it."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Guest:
    """What the host can run of one architecture. ``machines`` by type of virtualisation (``kvm``, ``qemu``)."""

    emulator: str
    machines: t.Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Host:
    """The host's capabilities. ``uuid`` is the host's own; ``secmodels`` its security models, such as ``apparmor``."""

    uuid: str
    secmodels: frozenset[str]
    guests: t.Mapping[str, Guest]


@dataclasses.dataclass(frozen=True)
class Abilities:
    """The domain capabilities of one emulator, machine and type of virtualisation.

    ``models`` maps each CPU model to whether it is usable (``yes``, ``no``, ``unknown``) and the features that are in
    its way (where libvirt tells them); ``tpm`` are the backends there are, empty where libvirt does not tell.
    """

    emulator: str = ""
    modes: frozenset[str] = frozenset()
    models: t.Mapping[str, tuple[str, tuple[str, ...]]] = dataclasses.field(default_factory=dict)
    loaders: tuple[str, ...] = ()
    tpm: frozenset[str] | None = None


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a definition asks of its host. ``cpu`` is the XML of the element, empty without one."""

    name: str
    uuid: str
    arch: str
    machine: str
    virt_type: str
    emulator: str = ""
    cpu: str = ""
    cpu_mode: str = ""
    cpu_model: str = ""
    cpu_check: str = ""
    loader: str = ""
    firmware: str = ""
    cards: int = 0
