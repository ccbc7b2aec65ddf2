# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From where each increment starts: its own disk's last image, and full with the reason wherever that is not sure."""

from __future__ import annotations

import datetime
import pathlib
import shutil
import typing as t

import pytest
from integration.protection import FULL, INCREMENTAL, Protection
from lab.disks import KIB, MIB, Attached, Disk, create_image
from lab.domains import Domains, LabDomain
from lab.tools import call

from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import utc_now

SIZE = 6 * MIB
RUN = "ansible_collections.virt.backup.plugins.module_utils._run"
BOTH_FULL = {"vda": FULL, "vdb": FULL}
BOTH_INCREMENTAL = {"vda": INCREMENTAL, "vdb": INCREMENTAL}
ONLY_VDB_INCREMENTAL = {"vda": FULL, "vdb": INCREMENTAL}


@pytest.fixture
def domain(domains: Domains) -> t.Iterator[LabDomain]:
    """Return a domain with two disks, and with a checkpoint of somebody else that stays as it is."""
    domain = domains(Disk("vda", size=SIZE), Disk("vdb", size=SIZE))
    domain.make_checkpoint("foreign", "vda", "vdb")
    yield domain
    assert "foreign" in domain.checkpoints()


@pytest.fixture
def protection(domain: LabDomain, workdir: pathlib.Path) -> t.Iterator[Protection]:
    """Return its protection, begun with a full backup; at the end every restore point still has to be right."""
    domain.write("vda", 0, 2 * MIB, pattern=0xA0)
    domain.write("vdb", 0, 2 * MIB, pattern=0xB0)
    protection = Protection(domain, workdir / "repository")
    assert protection.backup().levels == BOTH_FULL
    yield protection
    protection.check_all()


def write(domain: LabDomain, pattern: int) -> None:
    """Change both disks: new data over old, and a hole."""
    for target, difference in (("vda", 0), ("vdb", 64 * KIB)):
        domain.write(target, 512 * KIB + difference, 128 * KIB, pattern=pattern)
        domain.discard(target, MIB + difference, 64 * KIB)


def put(domain: LabDomain, target: str, image: pathlib.Path) -> None:
    """Give a disk of a domain that is off another image."""
    domain.disks[target] = Attached(Disk(target, size=SIZE, image=image), domain.folder)


def only_ours(protection: Protection) -> list[str]:
    """Return the checkpoints of the domain that are not foreign."""
    return [name for name in protection.domain.checkpoints() if name != "foreign"]


def test_a_disk_left_out_starts_at_its_own_last_image(domain: LabDomain, protection: Protection) -> None:
    first = protection.points[0]
    write(domain, 0x01)
    without = protection.backup(exclude=["vdb"])
    assert without.levels == {"vda": INCREMENTAL}
    assert without.reason("vdb") == "excluded by backup_exclude_disks"
    assert only_ours(protection) == [first.checkpoint, without.checkpoint]
    write(domain, 0x02)
    again = protection.backup()
    assert again.levels == BOTH_INCREMENTAL
    assert again.disk("vda")["incremental"] == without.checkpoint
    assert again.disk("vdb")["incremental"] == first.checkpoint
    assert again.disk("vdb")["parent"] == first.id
    assert only_ours(protection) == [again.checkpoint]


def test_swapped_targets_are_full(domain: LabDomain, protection: Protection) -> None:
    one, two = domain.disks["vda"].image, domain.disks["vdb"].image
    domain.destroy()
    put(domain, "vda", two)
    put(domain, "vdb", one)
    domain.define()
    domain.start()
    write(domain, 0x03)
    swapped = protection.backup()
    assert swapped.levels == BOTH_FULL
    assert swapped.reason("vda") == f"the disk's source changed from '{one}' (which is vdb now) to '{two}'"
    write(domain, 0x04)
    assert protection.backup().levels == BOTH_INCREMENTAL
    assert only_ours(protection) == [protection.points[-1].checkpoint]


def test_the_files_of_two_disks_swapped_under_their_paths_are_full(domain: LabDomain, protection: Protection) -> None:
    """Their bitmaps have one name, the checkpoint's, so libvirt would take each for the other's."""
    one, two = domain.disks["vda"].image, domain.disks["vdb"].image
    domain.destroy()
    aside = one.with_suffix(".aside")
    one.rename(aside)
    two.rename(one)
    aside.rename(two)
    domain.start()
    write(domain, 0x0D)
    swapped = protection.backup()
    assert swapped.levels == BOTH_FULL
    assert swapped.reason("vda") == f"there is another file at '{one}' now than when its last image was taken"
    write(domain, 0x0E)
    assert protection.backup().levels == BOTH_INCREMENTAL


def test_another_file_under_the_same_target_is_full(domain: LabDomain, protection: Protection) -> None:
    old, new = domain.disks["vda"].image, domain.folder / "replacement.qcow2"
    create_image(Disk("vda", size=SIZE), new)
    domain.destroy()
    put(domain, "vda", new)
    domain.define()
    domain.start()
    write(domain, 0x05)
    replaced = protection.backup()
    assert replaced.levels == ONLY_VDB_INCREMENTAL
    assert replaced.reason("vda") == f"the disk's source changed from '{old}' to '{new}'"
    assert only_ours(protection) == [replaced.checkpoint]
    assert protection.backup().levels == BOTH_INCREMENTAL


def test_another_image_copied_over_the_same_path_is_full(domain: LabDomain, protection: Protection) -> None:
    """As after a restore of one disk, which must not cost the others their increments either."""
    write(domain, 0x06)
    domain.destroy()
    call("qemu-img", "convert", "-O", "qcow2", protection.points[0].tip("vda"), domain.disks["vda"].image)
    domain.start()
    write(domain, 0x07)
    restored = protection.backup()
    assert restored.levels == ONLY_VDB_INCREMENTAL
    assert restored.reason("vda").startswith(f"the bitmap of {protection.points[0].checkpoint} can't be used: ")
    assert only_ours(protection) == [restored.checkpoint]
    assert protection.backup().levels == BOTH_INCREMENTAL


def test_a_disk_rolled_back_with_its_older_bitmaps_is_full(domain: LabDomain, protection: Protection) -> None:
    image, copy = domain.disks["vda"].image, domain.folder / "older.qcow2"
    domain.destroy()
    shutil.copy(image, copy)
    domain.start()
    write(domain, 0x08)
    second = protection.backup()
    write(domain, 0x09)
    domain.destroy()
    shutil.copy(copy, image)
    domain.start()
    rolled_back = protection.backup()
    assert rolled_back.levels == ONLY_VDB_INCREMENTAL
    assert rolled_back.reason("vda").startswith(f"the bitmap of {second.checkpoint} can't be used: ")
    write(domain, 0x0A)
    assert protection.backup().levels == BOTH_INCREMENTAL


def test_a_full_is_due_after_so_many_increments(domain: LabDomain, protection: Protection) -> None:
    for expected in (INCREMENTAL, INCREMENTAL, FULL, INCREMENTAL):
        write(domain, 0x0B)
        point = protection.backup(full_every_increments=2)
        assert set(point.levels.values()) == {expected}
        if expected == FULL:
            assert point.reason("vda") == "a full is due after 2 increments and the chain has 2"


def test_a_full_is_due_after_so_many_days(
    domain: LabDomain, protection: Protection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = utc_now()
    for days, expected in ((2, INCREMENTAL), (3, FULL), (5, INCREMENTAL)):
        write(domain, days)
        later = now + datetime.timedelta(days=days, minutes=1)
        monkeypatch.setattr(f"{RUN}.restore_point_staged.utc_now", lambda later=later: later)
        point = protection.backup(full_every_days=3)
        assert set(point.levels.values()) == {expected}
        if expected == FULL:
            first = protection.points[0].id
            assert point.reason("vda") == f"a full is due every 3 days and the last one ({first}) is 3 days old"


def test_two_repositories_do_not_disturb_each_other(
    domain: LabDomain, protection: Protection, workdir: pathlib.Path
) -> None:
    other = Protection(domain, workdir / "other")
    write(domain, 0x11)
    assert other.backup().levels == BOTH_FULL
    for number, place in enumerate((protection, other, other, protection, protection, other)):
        write(domain, 0x20 + number)
        before = place.points[-1]
        point = place.backup()
        assert point.levels == BOTH_INCREMENTAL
        assert {disk["incremental"] for disk in point.manifest["disks"]} == {before.checkpoint}
        assert sorted(only_ours(protection)) == sorted([protection.points[-1].checkpoint, other.points[-1].checkpoint])
    other.check_all()
