# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Capabilities of hosts, as libvirt 9.0 and 11.3 write them."""

from __future__ import annotations

from ansible_collections.virt.backup.plugins.module_utils._model.host import Abilities, Guest, Host
from ansible_collections.virt.backup.plugins.module_utils._xml.host import parse_abilities, parse_asked, parse_host
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._xml.definition_kit import domain

CAPABILITIES = """<capabilities><host><uuid>e9f9e962-6477-4e75-ba92-1a6b7dfc3264</uuid><cpu><arch>x86_64</arch></cpu>
<secmodel><model>apparmor</model><doi>0</doi></secmodel><secmodel><model>dac</model></secmodel></host>
<guest><os_type>xen</os_type><arch name='x86_64'><emulator>/xen</emulator></arch></guest>
<guest><os_type>hvm</os_type><arch name='x86_64'><wordsize>64</wordsize><emulator>/usr/bin/qemu-system-x86_64</emulator>
<machine maxCpus='255'>pc-i440fx-7.2</machine><machine canonical='pc-i440fx-7.2' maxCpus='255'>pc</machine>
<domain type='qemu'/><domain type='kvm'><machine>pc-q35-7.2</machine></domain></arch></guest></capabilities>"""

ABILITIES = """<domainCapabilities><path>/usr/bin/qemu-system-x86_64</path><domain>kvm</domain>
<os supported='yes'><loader supported='yes'><value>/usr/share/OVMF/OVMF_CODE_4M.fd</value></loader></os>
<cpu><mode name='host-passthrough' supported='yes'/><mode name='maximum' supported='no'/>
<mode name='host-model' supported='yes'><model>EPYC</model></mode>
<mode name='custom' supported='yes'><model usable='yes' vendor='unknown'>qemu64</model>
<model usable='no' vendor='Intel'>Nehalem</model><blockers model='Nehalem'><feature name='a'/><feature name='b'/></blockers>
</mode></cpu><devices>{tpm}</devices></domainCapabilities>"""
TPM = "<tpm supported='yes'><enum name='backendModel'><value>passthrough</value>{0}</enum></tpm>"


def test_capabilities() -> None:
    machines = {"qemu": ("pc-i440fx-7.2", "pc"), "kvm": ("pc-q35-7.2",)}
    assert parse_host(CAPABILITIES) == Host(
        "e9f9e962-6477-4e75-ba92-1a6b7dfc3264",
        frozenset({"apparmor", "dac"}),
        {"x86_64": Guest("/usr/bin/qemu-system-x86_64", machines)},
    )


def test_domain_capabilities() -> None:
    found = parse_abilities(ABILITIES.format(tpm=TPM.format("<value>emulator</value>")))
    assert found == Abilities(
        "/usr/bin/qemu-system-x86_64",
        frozenset({"host-passthrough", "host-model", "custom"}),
        {"qemu64": ("yes", ()), "Nehalem": ("no", ("a", "b"))},
        ("/usr/share/OVMF/OVMF_CODE_4M.fd",),
        frozenset({"passthrough", "emulator"}),
    )
    assert parse_abilities(ABILITIES.format(tpm=TPM.format(""))).tpm == frozenset({"passthrough"})
    assert parse_abilities(ABILITIES.format(tpm="")).tpm is None


def test_what_a_definition_asks_for() -> None:
    cpu = "<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>EPYC</model></cpu>"
    asked = parse_asked(
        domain("<interface type='user'/>", top=cpu, os="<loader>/l</loader>", os_attributes="firmware='efi'")
    )
    assert (asked.name, asked.arch, asked.machine, asked.virt_type) == ("web", "x86_64", "pc-q35-7.2", "kvm")
    assert (asked.cpu_mode, asked.cpu_model, asked.cpu_check) == ("custom", "EPYC", "partial")
    assert (asked.loader, asked.firmware, asked.cards) == ("/l", "efi", 1)
    assert parse_asked(domain(top="<cpu><model>EPYC</model></cpu>")).cpu_mode == "custom"
    assert parse_asked(domain(top="<cpu mode='host-passthrough'/>")).cpu_mode == "host-passthrough"
    assert (parse_asked(domain()).cpu, parse_asked(domain(top="<cpu><topology/></cpu>")).cpu_mode) == ("", "")
