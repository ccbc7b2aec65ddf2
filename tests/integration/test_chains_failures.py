# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A chain after runs that failed or died, after lost checkpoints and after a crash: no gap, and nothing left behind."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from integration import virt_kit as kit
from integration.protection import FULL, INCREMENTAL, Protection, Run, attempt_while
from integration.virt_kit import SCRATCH, SOCKETS, Result
from lab import services
from lab.disks import KIB, MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import call, virsh
from lab.wait import until

SLOWLY = {"rate_limit": 512 * KIB, "connections": 1}


@pytest.fixture
def domain(domains: Domains) -> t.Iterator[LabDomain]:
    """Return a domain with a checkpoint of somebody else that stays as it is."""
    domain = domains(Disk("vda", size=16 * MIB))
    domain.make_checkpoint("foreign", "vda")
    domain.write("vda", 0, 4 * MIB, pattern=0xA0)
    yield domain
    assert "foreign" in domain.checkpoints()


@pytest.fixture
def protection(domain: LabDomain, workdir: pathlib.Path) -> t.Iterator[Protection]:
    """Return its protection, begun with a full backup; at the end nothing but restore points may be there."""
    protection = Protection(domain, workdir / "repository")
    protection.backup()
    yield protection
    protection.check_all()
    nothing_else(protection)


def nothing_else(protection: Protection) -> None:
    """Assert that domain and repository hold what the last restore point needs, and no trace of any other run."""
    look = protection.look()
    assert (look["lock"], look["stagings"], look["problems"]) == (None, [], [])
    assert protection.domain.checkpoints() == ["foreign", protection.points[-1].checkpoint]
    assert not protection.domain.has_job()
    assert [*SOCKETS.iterdir(), *SCRATCH.iterdir()] == []


def incremental_from(protection: Protection, expected: str) -> None:
    """Make a restore point whose increment starts at this checkpoint."""
    point = protection.backup()
    assert point.levels == {"vda": INCREMENTAL}
    assert point.disk("vda")["incremental"] == expected


def cut_off(protection: Protection, run: Run, cut: t.Callable[[], None]) -> Result:
    """Do something fatal to the copy as soon as it has begun to write; return what nbd_extract said."""
    staging = pathlib.Path(run.plan["staging"])
    done: list[bool] = []

    def meanwhile() -> None:
        if not done and any(path.suffix != ".json" for path in staging.iterdir()):
            cut()
            done.append(True)

    result = attempt_while("nbd_extract", meanwhile, **protection.extraction(run, **SLOWLY))
    assert done
    assert result["failed"]
    return result


def abort(protection: Protection) -> t.Callable[[], None]:
    """Return what ends the job behind our back."""

    def end() -> None:
        virsh("domjobabort", protection.domain.name)

    return end


def test_a_job_that_ends_during_the_copy_is_no_base(domain: LabDomain, protection: Protection) -> None:
    base = protection.points[0].checkpoint
    domain.write("vda", MIB, 4 * MIB, pattern=0x01)
    run = protection.stage()
    protection.start(run)

    result = cut_off(protection, run, abort(protection))
    assert "Traceback" not in result["msg"]
    protection.undo(run)
    nothing_else(protection)
    domain.write("vda", 2 * MIB, MIB, pattern=0x02)
    incremental_from(protection, base)


def test_a_full_repository_is_no_base(domain: LabDomain, workdir: pathlib.Path) -> None:
    folder = workdir / "small"
    folder.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", folder)
    try:
        protection = Protection(domain, folder)
        base = protection.backup().checkpoint
        domain.write("vda", 0, 6 * MIB, pattern=0x03)
        run = protection.stage()
        protection.start(run)
        result = attempt_while("nbd_extract", **protection.extraction(run))
        assert result["failed"]
        assert "No space left on device" in result["msg"]
        protection.undo(run)
        nothing_else(protection)
        call("mount", "-o", "remount,size=32M", folder)
        incremental_from(protection, base)
        protection.check_all()
    finally:
        call("umount", folder)


def dies_staged(protection: Protection, run: Run) -> None:
    """The lock and an empty staging."""


def dies_started(protection: Protection, run: Run) -> None:
    """A job that nobody reads, too."""
    protection.start(run)


def dies_during_the_copy(protection: Protection, run: Run) -> None:
    """Temporary files in the staging, too."""
    protection.start(run)
    cut_off(protection, run, abort(protection))


def dies_copied(protection: Protection, run: Run) -> None:
    """All images, not published, the job still there."""
    protection.start(run)
    protection.copy(run)


def dies_stopped(protection: Protection, run: Run) -> None:
    """All images, not published."""
    dies_copied(protection, run)
    protection.stop()


def dies_with_the_power(protection: Protection, run: Run) -> None:
    """The domain lost its power afterwards: the job is gone, its checkpoint is not."""
    dies_started(protection, run)
    protection.domain.power_cycle()


DEATHS = (dies_staged, dies_started, dies_during_the_copy, dies_copied, dies_stopped, dies_with_the_power)


@pytest.mark.parametrize("dies", DEATHS, ids=lambda dies: dies.__name__)
def test_the_next_run_cleans_up_after_a_dead_one(
    domain: LabDomain, protection: Protection, dies: t.Callable[[Protection, Run], None]
) -> None:
    base = protection.points[0].checkpoint
    domain.write("vda", MIB, 4 * MIB, pattern=0x04)
    dead = protection.stage(lease=1)
    dies(protection, dead)
    domain.write("vda", 3 * MIB, 64 * KIB, pattern=0x05)
    until("the lease has ended", lambda: protection.look()["lock"]["expired"])
    incremental_from(protection, base)
    nothing_else(protection)


def test_a_run_that_may_live_keeps_others_out_until_its_lock_is_broken(
    domain: LabDomain, protection: Protection
) -> None:
    base = protection.points[0].checkpoint
    domain.write("vda", MIB, MIB, pattern=0x06)
    dead = protection.stage()
    protection.start(dead)
    with pytest.raises(AssertionError, match="lock"):
        protection.stage()
    assert domain.has_job()
    assert dead.checkpoint in domain.checkpoints()
    protection.break_lock()
    incremental_from(protection, base)


def test_a_run_that_meets_the_job_of_another_leaves_it_alone(
    domain: LabDomain, protection: Protection, workdir: pathlib.Path
) -> None:
    other = Protection(domain, workdir / "other")
    run = protection.stage()
    protection.start(run)
    late = other.stage()
    with pytest.raises(AssertionError, match="has another backup job active"):
        other.begin(late)
    other.undo(late)
    assert domain.has_job()
    protection.copy(run)
    protection.stop()
    assert protection.publish(run).levels == {"vda": INCREMENTAL}
    assert other.look()["restore_points"] == []


def test_a_restart_of_libvirtd_during_the_copy_changes_nothing(domain: LabDomain, protection: Protection) -> None:
    domain.write("vda", MIB, 3 * MIB, pattern=0x0D)
    restarts: list[int] = []

    def restart() -> None:
        if not restarts:
            services.restart("libvirtd")
            restarts.append(services.pid_of("libvirtd"))

    point = protection.backup(meanwhile=restart, extract=SLOWLY)
    assert restarts
    assert point.levels == {"vda": INCREMENTAL}


def test_power_lost_during_the_copy_is_no_gap(domain: LabDomain, protection: Protection) -> None:
    base = protection.points[0].checkpoint
    domain.write("vda", MIB, 4 * MIB, pattern=0x0E)
    run = protection.stage()
    protection.start(run)
    cut_off(protection, run, domain.destroy)
    domain.start()
    protection.undo(run)
    incremental_from(protection, base)


def test_a_lost_checkpoint_is_redefined_from_the_repository(domain: LabDomain, protection: Protection) -> None:
    base = protection.points[0].checkpoint
    domain.write("vda", MIB, MIB, pattern=0x07)
    virsh("checkpoint-delete", domain.name, base, "--metadata")
    assert domain.checkpoints() == ["foreign"]
    incremental_from(protection, base)


def test_after_a_crash_of_qemu_the_spoilt_disk_is_full_once(domain: LabDomain, protection: Protection) -> None:
    base = protection.points[0].checkpoint
    domain.write("vda", MIB, MIB, pattern=0x08)
    domain.kill()
    domain.start()
    domain.write("vda", 2 * MIB, MIB, pattern=0x09)
    crashed = protection.backup()
    assert crashed.levels == {"vda": FULL}
    assert crashed.reason("vda").startswith(f"the bitmap of {base} can't be used: ")
    domain.write("vda", 3 * MIB, MIB, pattern=0x0A)
    incremental_from(protection, crashed.checkpoint)


def test_a_broken_bitmap_of_a_disk_that_came_back_goes_with_its_checkpoint(
    domain: LabDomain, protection: Protection
) -> None:
    """Its checkpoint was superseded while the disk was away; the bitmap of the other disk went then."""
    plugged = domain.attach(Disk("vdb", size=2 * MIB))
    protection.backup()
    domain.detach("vdb")
    protection.backup()
    domain.attach(Disk("vdb", size=2 * MIB, image=plugged.image))
    domain.kill()
    domain.start()
    domain.write("vdb", MIB, 64 * KIB, pattern=0x0F)
    point = protection.backup()
    assert point.levels == {"vda": FULL, "vdb": FULL}
    assert kit.bitmaps_of(domain, "vdb") == [point.checkpoint]
    domain.resize("vdb", 3 * MIB)


def test_a_power_cut_costs_no_full(domain: LabDomain, protection: Protection) -> None:
    domain.write("vda", MIB, MIB, pattern=0x0B)
    domain.power_cycle()
    domain.write("vda", 3 * MIB, 64 * KIB, pattern=0x0C)
    incremental_from(protection, protection.points[0].checkpoint)


def test_a_domain_that_is_off_is_refused_in_words(domain: LabDomain, protection: Protection) -> None:
    domain.destroy()
    run = protection.stage()
    with pytest.raises(AssertionError, match=f"'{domain.name}' is not running"):
        protection.begin(run)
    protection.undo(run)
    domain.start()
