# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domain XML as libvirt writes it, for the tests of what a restore makes of it."""

from __future__ import annotations

from xml.etree import ElementTree

from ansible_collections.virt.backup.plugins.module_utils._decide.copy_names import path_of_copy
from ansible_collections.virt.backup.plugins.module_utils._model.definition import Identity, Rewrite, Rewritten
from ansible_collections.virt.backup.plugins.module_utils._xml.definition import rewrite

UUID = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"
COPY = Identity("drill", "11111111-2222-5333-8444-555555555555", ("52:54:00:aa:aa:01", "52:54:00:aa:aa:02"))

DOMAIN = (
    "<domain type='kvm'{attributes}><name>web</name><uuid>{uuid}</uuid>{top}<memory unit='KiB'>1048576</memory>"
    "<os{os_attributes}><type arch='x86_64' machine='{machine}'>hvm</type>{os}</os>"
    "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{devices}</devices></domain>"
)


def domain(
    devices: str = "",
    *,
    top: str = "",
    os: str = "",
    machine: str = "pc-q35-7.2",
    attributes: str = "",
    os_attributes: str = "",
) -> str:
    """Return the XML of a domain with these parts."""
    return DOMAIN.format(
        uuid=UUID,
        devices=devices,
        top=top,
        os=os,
        machine=machine,
        attributes=attributes and f" {attributes}",
        os_attributes=os_attributes and f" {os_attributes}",
    )


def rewritten(xml: str, wanted: Rewrite | None = None) -> Rewritten:
    """Rewrite with the names that a copy really gets."""
    wanted = wanted or Rewrite()
    copy = wanted.copy or Identity("web", UUID)
    return rewrite(xml, wanted, lambda path: path_of_copy(path, "web", copy.name, UUID, copy.uuid))


def same(one: str, other: str) -> bool:
    """Whether two documents are equal but for the blanks between elements."""
    return canonical(one) == canonical(other)


def canonical(xml: str) -> str:
    """Return a document in the one form that equal documents have."""
    return ElementTree.canonicalize(xml, strip_text=True)
