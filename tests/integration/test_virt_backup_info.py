# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The XML that goes into a restore point brings back every disk that is in it."""

from __future__ import annotations

import pathlib
import typing as t
from xml.etree import ElementTree

from lab.disks import MIB, Disk
from lab.domains import Domains
from lab.tools import virsh

Run = t.Callable[..., t.Any]


def targets(xml: str) -> list[str | None]:
    return sorted(str(target.get("dev")) for target in ElementTree.fromstring(xml).iterfind("devices/disk/target"))


def test_the_definition_is_what_is_kept_while_the_disks_agree(domains: Domains, run_ok: Run) -> None:
    domain = domains(Disk("vda", size=8 * MIB))
    found = run_ok("virt_backup_info", {"domain": domain.name})
    assert found["xml_is"] == "definition"
    assert targets(found["xml"]) == ["vda"]


def test_a_disk_attached_to_the_running_domain_only_is_in_the_xml_that_virsh_takes(
    domains: Domains, run_ok: Run, workdir: pathlib.Path
) -> None:
    domain = domains(Disk("vda", size=8 * MIB))
    domain.attach(Disk("vdb", size=8 * MIB), live_only=True)
    found = run_ok("virt_backup_info", {"domain": domain.name, "secure": True})
    assert found["xml_is"] == "running"
    assert targets(found["xml"]) == ["vda", "vdb"]

    domain.destroy()
    saved = workdir / "domain.xml"
    saved.write_text(found["xml"], encoding="utf-8")
    virsh("define", str(saved))
    domain.start()
    assert targets(virsh("dumpxml", domain.name)) == ["vda", "vdb"]
