# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which machines a host can run, and what it says of the others."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.host_fit import (
    HostFacts,
    emulator_here,
    family_of,
    why_not_here,
)
from ansible_collections.virt.backup.plugins.module_utils._model.host import Abilities, Asked, Guest, Host

MACHINES = ("pc-i440fx-7.2", "pc", "pc-i440fx-7.1", "pc-q35-7.2", "q35", "none")
HOST = Host("u", frozenset(), {"x86_64": Guest("/e", {"qemu": MACHINES, "kvm": MACHINES})})
MODELS = {"EPYC": ("yes", ()), "Nehalem": ("no", ("vmx", "x2apic"))}
FACTS = HostFacts(HOST, Abilities("/e", frozenset({"custom", "host-model"}), MODELS), "")
ASKED = Asked("web", "u", "x86_64", "pc-q35-7.2", "kvm", "/e")
CUSTOM = dataclasses.replace(ASKED, cpu="<cpu/>", cpu_mode="custom", cpu_model="EPYC")
TCG = dataclasses.replace(FACTS, host=Host("u", frozenset(), {"x86_64": Guest("/e", {"qemu": MACHINES})}))
LACKS = dataclasses.replace(FACTS, cpu_complaint="the CPU is incompatible: avx512f")
UNKNOWN = dataclasses.replace(FACTS, cpu_complaint=None)

# What is asked, of which host, and what the answer has in it.
ROWS = [
    (ASKED, FACTS, ""),
    (dataclasses.replace(ASKED, machine="q35"), FACTS, ""),
    (dataclasses.replace(ASKED, machine=""), FACTS, ""),
    (dataclasses.replace(ASKED, arch="aarch64"), FACTS, "no emulator for aarch64 (it has: x86_64); install"),
    (ASKED, TCG, "cannot run x86_64 domains of type kvm (it can: qemu)"),
    (
        dataclasses.replace(ASKED, machine="pc-q35-9.2"),
        FACTS,
        "machine type pc-q35-9.2 is unknown to this host's QEMU (it has pc-q35-7.2, q35); set machine to q35, or update",
    ),
    (dataclasses.replace(ASKED, machine="pc-i440fx-rhel7.6.0"), FACTS, "set machine to pc, or update QEMU"),
    (
        dataclasses.replace(ASKED, machine="virt-9.0"),
        FACTS,
        "(it has none of the family virt); set machine to pc-i440fx",
    ),
    (
        dataclasses.replace(ASKED, cpu_mode="host-passthrough"),
        FACTS,
        "is not possible here (possible: custom, host-model)",
    ),
    (dataclasses.replace(ASKED, cpu_mode="host-model"), FACTS, ""),
    (CUSTOM, FACTS, ""),
    (dataclasses.replace(CUSTOM, cpu_model="Future"), FACTS, "CPU model Future is unknown to this host's libvirt"),
    (CUSTOM, LACKS, "can't be a EPYC (the CPU is incompatible: avx512f); set cpu to host-model"),
    (dataclasses.replace(CUSTOM, cpu_check="none"), LACKS, ""),
    # Turned off features make a model usable that is listed as unusable: libvirt's comparison knows.
    (dataclasses.replace(CUSTOM, cpu_model="Nehalem"), FACTS, ""),
    (dataclasses.replace(CUSTOM, cpu_model="Nehalem"), UNKNOWN, "can't be a Nehalem (missing: vmx, x2apic)"),
    (CUSTOM, UNKNOWN, ""),
    (dataclasses.replace(CUSTOM, cpu_mode="custom"), dataclasses.replace(FACTS, abilities=Abilities("/e")), ""),
]


@pytest.mark.parametrize(("asked", "facts", "words"), ROWS)
def test_whether_it_can_run_here(asked: Asked, facts: HostFacts, words: str) -> None:
    problems = why_not_here(asked, facts)
    assert len(problems) == bool(words), problems
    assert words in "".join(problems)


@pytest.mark.parametrize(
    ("emulator", "exists", "wanted"),
    [
        ("/e", True, ""),
        ("/other", True, ""),
        ("/gone", False, "/e"),
        ("/e", None, ""),
        ("/far", None, "/e"),
        ("", False, ""),
    ],
)
def test_the_emulator_of_the_host(emulator: str, exists: bool | None, wanted: str) -> None:
    assert emulator_here(dataclasses.replace(ASKED, emulator=emulator), FACTS, exists=exists) == wanted


def test_families() -> None:
    assert [family_of(name) for name in ("pc-q35-rhel9.4.0", "pc-i440fx-2.1", "pc", "virt-8.2", "s390-ccw-virtio")] == [
        "q35",
        "pc",
        "pc",
        "virt",
        "s390",
    ]
