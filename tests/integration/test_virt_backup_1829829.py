# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Red Hat bug 1829829: full and incremental disks in one job, decided per disk.

Its first comment discusses options 1a to 1d and 2; each has a test named after it.
"""

from __future__ import annotations

import pytest
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain

from ansible_collections.virt.backup.plugins.module_utils import _libvirt
from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.virt_kit import FULL, KIB64, incremental


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    """Return a domain as in the bug: vda and vdb backed up with ck1, then written to, then vdc plugged in."""
    domain = domains(Disk("vda"), Disk("vdb"))
    kit.taken(domain, "ck1")
    domain.write("vda", 3 * MIB, 2 * KIB64)
    domain.write("vdb", 0, KIB64)
    domain.attach(Disk("vdc"))
    domain.write("vdc", 0, MIB)
    return domain


def test_incremental_demanded_for_a_new_disk_fails_in_one_sentence_and_leaves_nothing(domain: LabDomain) -> None:
    before = domain.live_xml()
    options = {"domain": domain.name, "incremental": "ck1", "backupmode": "incremental", "checkpoint": {"name": "ck2"}}
    sentence = kit.refusal("virt_backup", **options)
    assert "109" in sentence
    assert "disk 'vdc'" in sentence
    assert "checkpoint 'ck1'" in sentence
    assert "set backupmode of disk 'vdc' to auto or full" in sentence
    assert kit.refusal("virt_backup", check=True, **options) == sentence
    assert kit.nothing_left(domain, "ck1")
    assert len(list(domain.live_xml().iter())) == len(list(before.iter()))


def test_option_1a_auto_for_the_job(domain: LabDomain) -> None:
    frozen = {name: domain.frozen_copy(name) for name in ("vda", "vdb", "vdc")}
    job = kit.backup(domain, backupmode="auto", incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": incremental("ck1"), "vdc": FULL}
    assert kit.reason(job, "vdc") == (
        "checkpoint 'ck1' does not cover disk 'vdc': it was added later, or left out of the checkpoint"
    )
    assert kit.reason(job, "vda") == f"{2 * KIB64} bytes changed since checkpoint 'ck1'"
    assert kit.dirty_map(job, "vda") == [(3 * MIB, 2 * KIB64)]
    assert kit.dirty_map(job, "vdb") == [(0, KIB64)]
    domain.write("vda", 0, 8 * MIB, 0x77)  # while the job runs: the exports stay at their moment
    assert kit.dirty_map(job, "vda") == [(3 * MIB, 2 * KIB64)]
    assert all(kit.export_equals(job, name, copy) for name, copy in frozen.items())
    kit.end(domain)
    assert domain.dirty_bytes("ck2", "vda") == 8 * MIB
    assert domain.dirty_bytes("ck2", "vdc") == 0


def test_option_1b_auto_per_disk(domain: LabDomain) -> None:
    disks = [{"name": "vda", "backupmode": "incremental"}, {"name": "vdb"}, {"name": "vdc", "backupmode": "auto"}]
    job = kit.backup(domain, backupmode="incremental", incremental="ck1", disks=disks)
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": incremental("ck1"), "vdc": FULL}
    kit.end(domain)


def test_option_1c_full_per_disk(domain: LabDomain) -> None:
    disks = [{"name": "vda"}, {"name": "vdb"}, {"name": "vdc", "backupmode": "full"}]
    job = kit.backup(domain, backupmode="incremental", incremental="ck1", disks=disks)
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": incremental("ck1"), "vdc": FULL}
    assert kit.reason(job, "vdc") == "a full backup was asked for"
    kit.end(domain)


def test_option_1c_full_forced_on_a_disk_that_could_be_incremental(domain: LabDomain) -> None:
    disks = [{"name": "vda"}, {"name": "vdb", "backupmode": "full"}]
    job = kit.backup(domain, incremental="ck1", disks=disks)
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": FULL}
    assert kit.reason(job, "vdc") == "it is not listed under disks"
    kit.end(domain)


def test_option_1d_full_but_fail_if_incremental_possible(domain: LabDomain) -> None:
    careful = {"backupmode": "full", "fail_if_incremental_possible": True}
    sentence = kit.refusal("virt_backup", domain=domain.name, **careful, checkpoint={"name": "ck2"})
    assert "disk 'vda' could be incremental from checkpoint 'ck1'" in sentence
    assert kit.nothing_left(domain, "ck1")
    new_disk_only = {"disks": [{"name": "vdc"}], "checkpoint": {"name": "ck2"}, **careful}
    assert kit.levels(kit.backup(domain, **new_disk_only)) == {"vdc": FULL}
    again = kit.backup(domain, **new_disk_only)
    assert not again["changed"]
    kit.end(domain)


def test_option_2_a_checkpoint_per_disk(domain: LabDomain) -> None:
    kit.taken(domain, "ck2", incremental="ck1")
    domain.write("vda", 0, KIB64)
    disks = [{"name": "vda", "incremental": "ck2"}, {"name": "vdc", "incremental": "ck2"}]
    job = kit.backup(domain, disks=disks)
    assert kit.levels(job) == {"vda": incremental("ck2"), "vdc": incremental("ck2")}
    assert kit.dirty_map(job, "vda") == [(0, KIB64)]
    assert kit.dirty_map(job, "vdc") == []
    kit.end(domain)


def test_option_2_different_checkpoints_in_one_job(domain: LabDomain) -> None:
    kit.taken(domain, "ck2", incremental="ck1")
    domain.write("vda", 0, KIB64)
    domain.write("vdb", 8 * MIB, KIB64)
    disks = [{"name": "vda", "incremental": "ck2"}, {"name": "vdb", "incremental": "ck1"}, {"name": "vdc"}]
    job = kit.backup(domain, disks=disks, checkpoint={"name": "ck3"})
    assert kit.levels(job) == {"vda": incremental("ck2"), "vdb": incremental("ck1"), "vdc": FULL}
    assert kit.dirty_map(job, "vda") == [(0, KIB64)]
    assert kit.dirty_map(job, "vdb") == [(0, KIB64), (8 * MIB, KIB64)]
    kit.end(domain)


def test_a_disk_overrides_the_checkpoint_of_the_job(domain: LabDomain) -> None:
    kit.taken(domain, "ck2", incremental="ck1")
    disks = [{"name": "vda"}, {"name": "vdb", "incremental": "ck1"}]
    job = kit.backup(domain, incremental="ck2", disks=disks)
    assert kit.levels(job) == {"vda": incremental("ck2"), "vdb": incremental("ck1")}
    kit.end(domain)


def _lost_between_look_and_begin(domain: LabDomain, monkeypatch: pytest.MonkeyPatch, *disks: str) -> None:
    """Let bitmaps vanish after they were measured, so that libvirt is the one who finds out."""
    begin = _libvirt.DomainHandle.begin_backup
    losses = [*disks]

    def late(self: _libvirt.DomainHandle, *arguments: object, **options: object) -> None:
        while losses:
            kit.lose_bitmap(domain, losses.pop(), "ck1")
        begin(self, *arguments, **options)

    monkeypatch.setattr(_libvirt.DomainHandle, "begin_backup", late)


def test_libvirts_own_109_makes_only_that_disk_full(domain: LabDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    _lost_between_look_and_begin(domain, monkeypatch, "vdb")
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": FULL, "vdc": FULL}
    assert kit.reason(job, "vdb").startswith("libvirt refused the bitmap: ")
    assert "missing or broken bitmap 'ck1' for disk 'vdb'" in kit.reason(job, "vdb")
    assert kit.dirty_map(job, "vda") == [(3 * MIB, 2 * KIB64)]
    assert domain.checkpoints() == ["ck1", "ck2"]
    kit.end(domain)


def test_libvirts_109_for_every_disk_makes_all_full(domain: LabDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    _lost_between_look_and_begin(domain, monkeypatch, "vda", "vdb")
    job = kit.backup(domain, incremental="ck1", checkpoint={"name": "ck2"})
    assert kit.levels(job) == {"vda": FULL, "vdb": FULL, "vdc": FULL}
    kit.end(domain)


def test_libvirts_109_on_a_demand_fails_and_leaves_nothing(domain: LabDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    _lost_between_look_and_begin(domain, monkeypatch, "vdb")
    disks = [{"name": "vda"}, {"name": "vdb", "backupmode": "incremental"}]
    sentence = kit.refusal(
        "virt_backup", domain=domain.name, incremental="ck1", disks=disks, checkpoint={"name": "ck2"}
    )
    assert "(libvirt error 109)" in sentence
    assert "disk 'vdb'" in sentence
    assert kit.nothing_left(domain, "ck1")
