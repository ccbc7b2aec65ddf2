# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Push mode: QEMU writes the images itself, to files and to block devices."""

from __future__ import annotations

import os
import pathlib
import signal
import typing as t

import pytest
from lab import services
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import call, image_info, same_content
from lab.wait import until

from ansible_collections.virt.backup.plugins.module_utils import _libvirt
from ansible_collections.virt.backup.tests.integration import virt_kit as kit
from ansible_collections.virt.backup.tests.integration.virt_kit import FULL, KIB64, incremental


@pytest.fixture
def domain(domains: Domains) -> LabDomain:
    """Return a domain with some content on two disks."""
    domain = domains(Disk("vda"), Disk("vdb", size=16 * MIB + 512))
    domain.write("vda", MIB, 3 * MIB, 0x11)
    domain.write("vdb", 0, MIB, 0x22)
    return domain


def into(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Return a new folder for the targets of one push."""
    path = folder / name
    path.mkdir(mode=0o755)
    return path


def pushed(domain: LabDomain, folder: pathlib.Path, checkpoint: str, **options: t.Any) -> kit.Result:
    """Push all disks into a folder and wait for the end."""
    job = kit.backup(domain, mode="push", target_dir=str(folder), checkpoint={"name": checkpoint}, **options)
    ending = {name: options[name] for name in ("disks",) if name in options}
    kit.end(domain, mode="push", target_dir=str(folder), **ending)
    return job


def on_top_of(folder: str, *disks: str) -> list[kit.Result]:
    """Return the option disks for an increment upon the images in a sibling folder."""
    return [{"name": disk, "backing_file": f"../{folder}/{disk}.qcow2"} for disk in disks]


def test_full_then_incremental_chain_equals_the_disks_of_each_moment(domain: LabDomain, workdir: pathlib.Path) -> None:
    frozen = {name: domain.frozen_copy(name, "first") for name in ("vda", "vdb")}
    first = into(workdir, "first")
    job = pushed(domain, first, "ck1")
    assert kit.levels(job) == {"vda": FULL, "vdb": FULL}
    assert [disk["target"] for disk in job["disks"]] == [str(first / "vda.qcow2"), str(first / "vdb.qcow2")]
    assert (job["server"], kit.disk_of(job, "vda")["uri"]) == (None, "")
    for name, copy in frozen.items():
        assert same_content(first / f"{name}.qcow2", copy) == ""

    domain.write("vda", 0, 2 * MIB, 0x33)
    domain.zero("vda", 3 * MIB, KIB64, unmap=True)
    domain.write("vdb", 16 * MIB, 512, 0x44)
    frozen = {name: domain.frozen_copy(name, "second") for name in ("vda", "vdb")}
    second = into(workdir, "second")
    job = pushed(domain, second, "ck2", incremental="ck1", disks=on_top_of("first", "vda", "vdb"))
    assert kit.levels(job) == {"vda": incremental("ck1"), "vdb": incremental("ck1")}
    domain.write("vda", 0, 64 * MIB, 0x55)  # nothing that happens later on the live disk may show through
    for name, copy in frozen.items():
        assert image_info(second / f"{name}.qcow2")["backing-filename"] == f"../first/{name}.qcow2"
        assert same_content(second / f"{name}.qcow2", copy) == ""


def test_stopped_waits_rebases_once_and_says_how_it_ended_again(domain: LabDomain, workdir: pathlib.Path) -> None:
    pushed(domain, into(workdir, "first"), "ck1")
    second = into(workdir, "second")
    disks = on_top_of("first", "vda", "vdb")
    kit.backup(domain, mode="push", target_dir=str(second), incremental="ck1", disks=disks)
    until("the job is over", lambda: not domain.has_job())
    stop = {"mode": "push", "target_dir": str(second), "disks": disks}
    foreseen = kit.end(domain, check=True, **stop)
    assert image_info(second / "vda.qcow2")["backing-filename"] == str(domain.disks["vda"].image)
    done = kit.end(domain, **stop)
    again = kit.end(domain, **stop)
    assert (foreseen["changed"], done["changed"], again["changed"]) == (True, True, False)
    assert (foreseen["rebased"], done["rebased"], again["rebased"]) == (["vda", "vdb"], ["vda", "vdb"], [])
    assert done["ended"] == again["ended"] == "the job completed"


@pytest.fixture
def slow(domains: Domains, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[LabDomain]:
    """Return a domain whose jobs get nothing to read until :func:`full_speed` is called: its NBD server is stopped."""
    domain = domains(Disk("vda"), Disk("vdb", kind="nbd"))
    domain.write("vdb", 0, 8 * MIB)
    begin = _libvirt.DomainHandle.begin_backup

    def stalled(self: _libvirt.DomainHandle, *arguments: t.Any, **options: t.Any) -> None:
        os.kill(domain.disks["vdb"].pid, signal.SIGSTOP)
        begin(self, *arguments, **options)

    monkeypatch.setattr(_libvirt.DomainHandle, "begin_backup", stalled)
    yield domain
    os.kill(domain.disks["vdb"].pid, signal.SIGCONT)


def full_speed(domain: LabDomain) -> None:
    """Let the stalled push run on, and wait for its end."""
    os.kill(domain.disks["vdb"].pid, signal.SIGCONT)
    until("the push is over", lambda: not domain.has_job())


def test_started_twice_is_one_job(slow: LabDomain, workdir: pathlib.Path) -> None:
    options = {"mode": "push", "target_dir": str(workdir)}
    foreseen = kit.backup(slow, check=True, **options)
    assert list(workdir.iterdir()) == []
    first = kit.backup(slow, **options)
    again = kit.backup(slow, **options)
    assert (foreseen["changed"], first["changed"], again["changed"]) == (True, True, False)
    assert foreseen["xml"] == first["xml"] == again["xml"]
    full_speed(slow)
    assert kit.end(slow, mode="push", target_dir=str(workdir))["ended"] == "the job completed"


def test_raw_target_and_block_devices(domain: LabDomain, domains: Domains, workdir: pathlib.Path) -> None:
    spare = domains(
        Disk("vda", kind="block", format="raw", size=72 * MIB),
        Disk("vdb", kind="block", format="raw", size=64 * MIB),
        start=False,
    )
    qcow2_device, raw_device = spare.disks["vda"].loop, spare.disks["vdb"].loop
    frozen = domain.frozen_copy("vda")
    for disk in (
        {"name": "vda", "type": "block", "target": qcow2_device},
        {"name": "vda", "type": "block", "target": raw_device, "driver": "raw"},
        {"name": "vda", "target": str(workdir / "vda.raw"), "driver": "raw"},
    ):
        job = kit.backup(domain, mode="push", disks=[disk])
        assert kit.levels(job) == {"vda": FULL}
        assert kit.end(domain, mode="push", disks=[disk])["ended"] == "the job completed"
        call("qemu-img", "compare", "-f", disk.get("driver", "qcow2"), "-F", "raw", disk["target"], frozen)


def test_incremental_to_a_block_device_is_rebased_too(
    domain: LabDomain, domains: Domains, workdir: pathlib.Path
) -> None:
    first = into(workdir, "first")
    pushed(domain, first, "ck1")
    domain.write("vda", 8 * MIB, MIB, 0x66)
    frozen = domain.frozen_copy("vda")
    spare = domains(Disk("vda", kind="block", format="raw", size=72 * MIB), start=False)
    disk = {"name": "vda", "type": "block", "target": spare.disks["vda"].loop}
    options = {"mode": "push", "disks": [{**disk, "backing_file": str(first / "vda.qcow2")}]}
    assert kit.levels(kit.backup(domain, incremental="ck1", **options)) == {"vda": incremental("ck1")}
    assert kit.end(domain, **options)["rebased"] == ["vda"]
    call("qemu-img", "compare", "-f", "qcow2", "-F", "raw", disk["target"], frozen)


def test_a_network_disks_increment_never_keeps_the_live_disk_below_it(domains: Domains, workdir: pathlib.Path) -> None:
    domain = domains(Disk("vda", kind="nbd"))
    pushed(domain, into(workdir, "first"), "ck1")
    domain.write("vda", 0, MIB, 0x66)
    frozen = domain.frozen_copy("vda")
    second = into(workdir, "second")
    disks = on_top_of("first", "vda")
    assert kit.levels(pushed(domain, second, "ck2", incremental="ck1", disks=disks)) == {"vda": incremental("ck1")}
    assert image_info(second / "vda.qcow2")["backing-filename"] == "../first/vda.qcow2"
    assert same_content(second / "vda.qcow2", frozen) == ""


def test_an_increment_without_its_backing_file_is_refused_before_it_starts(
    domain: LabDomain, workdir: pathlib.Path
) -> None:
    pushed(domain, into(workdir, "first"), "ck1")
    options = {"domain": domain.name, "mode": "push", "incremental": "ck1"}
    sentence = kit.refusal("virt_backup", **options, target_dir=str(into(workdir, "second")))
    assert sentence.startswith("disks[].backing_file: ''")
    assert "push of disk 'vda' is incremental" in sentence
    assert kit.nothing_left(domain, "ck1")


def test_an_increment_into_raw_needs_a_copy_of_the_previous_backup(domain: LabDomain, workdir: pathlib.Path) -> None:
    first, second = workdir / "first.raw", workdir / "second.raw"
    disk = {"name": "vda", "driver": "raw"}
    kit.backup(domain, mode="push", disks=[{**disk, "target": str(first)}], checkpoint={"name": "ck1"})
    kit.end(domain, mode="push", disks=[{**disk, "target": str(first)}])
    domain.write("vda", 2 * MIB, 3 * MIB, 0x77)
    frozen = domain.frozen_copy("vda")
    options = {"mode": "push", "disks": [{**disk, "target": str(second)}], "incremental": "ck1"}
    sentence = kit.refusal("virt_backup", domain=domain.name, **options)
    assert sentence.startswith("disks[].driver: 'raw' cannot hold an increment of disk 'vda' by itself")
    assert kit.nothing_left(domain, "ck1")
    call("cp", "--sparse=always", first, second)
    assert kit.levels(kit.backup(domain, **options, reuse_external=True)) == {"vda": incremental("ck1")}
    kit.end(domain, **options)
    call("qemu-img", "compare", "-f", "raw", "-F", "raw", second, frozen)


@pytest.fixture
def small(workdir: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Return a file system of 4 MiB."""
    folder = into(workdir, "small")
    call("mount", "-t", "tmpfs", "-o", "size=4m,mode=0777", "none", folder)
    yield folder
    call("umount", folder)


def test_a_full_target_fails_with_the_jobs_own_message(domain: LabDomain, small: pathlib.Path) -> None:
    domain.write("vda", 0, 32 * MIB)
    kit.backup(domain, mode="push", target_dir=str(small), disks=[{"name": "vda"}], checkpoint={"name": "ck1"})
    for _again in range(2):
        sentence = kit.refusal(
            "virt_backup",
            domain=domain.name,
            state="stopped",
            mode="push",
            target_dir=str(small),
            disks=[{"name": "vda"}],
        )
        assert "did not complete: No space left on device; its targets hold no backup." in sentence
    assert list(small.iterdir()) == []
    assert domain.state == "paused"


def test_a_target_that_exists_is_refused_and_kept(domain: LabDomain, workdir: pathlib.Path) -> None:
    target = workdir / "vdb.qcow2"
    target.write_text("precious", encoding="utf-8")
    options = {"domain": domain.name, "mode": "push", "target_dir": str(workdir), "checkpoint": {"name": "ck1"}}
    sentence = kit.refusal("virt_backup", **options)
    assert sentence.startswith(f"target_dir: '{target}' exists already")
    assert target.read_text(encoding="utf-8") == "precious"
    assert kit.nothing_left(domain)


def test_reuse_external_writes_into_images_that_are_there(domain: LabDomain, workdir: pathlib.Path) -> None:
    target = workdir / "vda.qcow2"
    options = {"mode": "push", "disks": [{"name": "vda", "target": str(target)}]}
    sentence = kit.refusal("virt_backup", domain=domain.name, **options, reuse_external=True)
    assert "does not exist; create it first, or drop reuse_external" in sentence
    call("qemu-img", "create", "-q", "-f", "qcow2", target, str(64 * MIB))
    target.chmod(0o666)
    frozen = domain.frozen_copy("vda")
    kit.backup(domain, **options, reuse_external=True)
    kit.end(domain, **options)
    assert same_content(target, frozen) == ""


def test_reuse_external_never_takes_a_disk_of_the_domain_for_a_target(domain: LabDomain) -> None:
    live = domain.disks["vda"].image
    options = {"domain": domain.name, "mode": "push", "reuse_external": True}
    sentence = kit.refusal("virt_backup", **options, target_dir=str(live.parent))
    assert f"'{live}' is the source of disk 'vda' of the domain itself" in sentence
    assert not domain.has_job()


@pytest.fixture
def over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every job be over before the module can look at it."""
    begin = _libvirt.DomainHandle.begin_backup

    def at_once(self: _libvirt.DomainHandle, *arguments: t.Any, **options: t.Any) -> None:
        begin(self, *arguments, **options)
        assert self.wait_until_job_ended(20)

    monkeypatch.setattr(_libvirt.DomainHandle, "begin_backup", at_once)


@pytest.mark.usefixtures("over_at_once")
def test_a_push_that_is_over_before_it_can_be_looked_at_succeeded(domain: LabDomain, workdir: pathlib.Path) -> None:
    job = kit.backup(domain, mode="push", target_dir=str(workdir), checkpoint={"name": "ck1"})
    assert job["changed"]
    assert kit.levels(job) == {"vda": FULL, "vdb": FULL}
    assert domain.checkpoints() == ["ck1"]
    assert kit.end(domain, mode="push", target_dir=str(workdir))["ended"] == "the job completed"


@pytest.mark.usefixtures("over_at_once")
def test_a_push_that_failed_before_it_can_be_looked_at_leaves_nothing(domain: LabDomain, small: pathlib.Path) -> None:
    domain.write("vda", 0, 32 * MIB)
    options = {"domain": domain.name, "mode": "push", "target_dir": str(small), "checkpoint": {"name": "ck1"}}
    sentence = kit.refusal("virt_backup", **options)
    assert "ended as soon as it had begun: No space left on device" in sentence
    assert kit.nothing_left(domain)


def test_cancel_ends_a_push_that_could_take_long(
    slow: LabDomain, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abort = _libvirt.DomainHandle.abort_job

    def then_let_go(self: _libvirt.DomainHandle) -> None:
        abort(self)
        os.kill(slow.disks["vdb"].pid, signal.SIGCONT)

    monkeypatch.setattr(_libvirt.DomainHandle, "abort_job", then_let_go)
    options = {"mode": "push", "target_dir": str(workdir)}
    kit.backup(slow, **options)
    waiting = kit.refusal("virt_backup", domain=slow.name, state="stopped", timeout=1, **options)
    assert "still runs after 1 seconds; call again to go on waiting, or set cancel: true" in waiting
    assert kit.end(slow, check=True, cancel=True, **options)["changed"]
    assert slow.has_job()
    done = kit.end(slow, cancel=True, **options)
    assert done["changed"]
    assert done["ended"] == "the job was cancelled; its targets hold no backup"
    assert not slow.has_job()
    assert not kit.end(slow, cancel=True, **options)["changed"]
    sentence = kit.refusal("virt_backup", domain=slow.name, state="stopped", **options)
    assert "did not complete" in sentence


def test_a_push_whose_record_is_gone_is_not_trusted(domain: LabDomain, workdir: pathlib.Path) -> None:
    pushed(domain, workdir, "ck1")
    services.restart()
    options = {"domain": domain.name, "state": "stopped", "mode": "push", "target_dir": str(workdir)}
    sentence = kit.refusal("virt_backup", **options)
    assert "libvirt has no record of how it ended" in sentence
    assert "make the backup again" in sentence


def test_stopped_with_another_folder_claims_nothing(domain: LabDomain, workdir: pathlib.Path) -> None:
    pushed(domain, into(workdir, "first"), "ck1")
    done = kit.end(domain, mode="push", target_dir=str(into(workdir, "other")))
    assert not done["changed"]
    assert done["ended"] == "no backup job was active, and no target is there"


def test_stopped_checks_every_target_of_the_job_that_it_waited_for(
    slow: LabDomain, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = _libvirt.DomainHandle.wait_until_job_ended

    def let_go_first(self: _libvirt.DomainHandle, timeout: float) -> bool:
        os.kill(slow.disks["vdb"].pid, signal.SIGCONT)
        return wait(self, timeout)

    monkeypatch.setattr(_libvirt.DomainHandle, "wait_until_job_ended", let_go_first)
    options = {"mode": "push", "target_dir": str(workdir)}
    kit.backup(slow, **options)
    (workdir / "vda.qcow2").unlink()
    sentence = kit.refusal("virt_backup", domain=slow.name, state="stopped", **options)
    assert f"the target '{workdir}/vda.qcow2' of disk 'vda' does not exist" in sentence


def test_stopped_without_a_job_or_a_record_is_unchanged(domain: LabDomain, workdir: pathlib.Path) -> None:
    done = kit.end(domain, mode="push", target_dir=str(workdir))
    assert not done["changed"]
    assert done["ended"] == "no backup job was active, and none is on record"
