# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role ``backup`` with encryption: turned on, an increment, and the lines of the README that read such a chain."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess

import pytest
from demo.readme import block
from integration import virt_kit as kit
from integration.modes import open_to_others, umask
from integration.playbook import Ended, play, play_one
from integration.protection import FULL, INCREMENTAL
from integration.watch import Watch
from lab.disks import KIB, MIB, Disk
from lab.domains import Domains
from lab.tools import same_content

SECRET = "Kq9x0x7-winter"
PASSWORD = "pw7Lq2zz"


@pytest.mark.timeout(900)
def test_the_role_encrypts_and_the_lines_of_the_readme_restore(domains: Domains, workdir: pathlib.Path) -> None:
    """Nobody else sees the secret, nor a password in the domain's definition, however talkative Ansible is."""
    graphics = f"<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1' passwd='{PASSWORD}'/>"
    domain = domains(Disk("vda", size=16 * MIB), devices=graphics)
    kit.run("backup_repository", path=str(workdir / "repository"))
    secret = workdir / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    options = {"backup_domain": domain.name, "backup_repository": str(workdir / "repository")}
    encrypted = {**options, "backup_encryption_secret_file": str(secret), "backup_encryption_iter_time": 10}
    by_variable = {**options, "backup_encryption_secret": SECRET, "backup_encryption_iter_time": 10}

    def back_up(number: int, **variables: object) -> tuple[Ended, pathlib.Path]:
        domain.write("vda", number * MIB, 256 * KIB, pattern=number)
        return play_one(workdir, "-vvvv", "--diff", **variables), domain.frozen_copy("vda", name=str(number))

    with Watch(SECRET, PASSWORD) as watch, umask(0):
        clear, full = back_up(1, **options)[0], back_up(2, **encrypted)[0]
        increment, truth = back_up(3, **by_variable)
    assert watch.found == set()
    assert {b"qemu-img", b"qemu-nbd"} <= watch.programs
    assert [ended.levels["vda"] for ended in (clear, full, increment)] == [FULL, FULL, INCREMENTAL]
    assert full.result["disks"][0]["reason"] == "the encryption of the images changed from none to luks"
    for ended, kind in ((clear, "none"), (full, "luks"), (increment, "luks")):
        manifest = pathlib.Path(ended.result["path"]) / "manifest.json"
        assert [disk["encryption"] for disk in json.loads(manifest.read_text())["disks"]] == [kind]
        assert SECRET not in ended.output
        assert PASSWORD not in ended.output
    assert holders(workdir / "repository", SECRET) == set()
    assert holders(workdir / "repository", PASSWORD) == {"domain.xml"}
    assert open_to_others(workdir / "repository") == {}
    restored = workdir / "restored.qcow2"
    script = restore_script(pathlib.Path(increment.result["path"]), full.result["restore_point"], secret, restored)
    subprocess.run(["sh", "-eu"], input=script, check=True, text=True)
    assert same_content(restored, truth) == ""


@pytest.mark.parametrize(
    ("mode", "beside", "sentence"),
    [
        (["--check"], {"backup_compression": "zstd"}, "QEMU stores compressed clusters unencrypted"),
        (["--check"], {"backup_direct": True}, "backup_direct: 'true' can't be used together with encryption"),
        ([], {"backup_encryption_secret_file": "/none"}, "encryption: 'both secret_file and secret' is not one secret"),
    ],
    ids=["compression", "direct", "both"],
)
def test_what_a_secret_excludes_is_refused_before_anything_begins(
    domains: Domains, workdir: pathlib.Path, mode: list[str], beside: dict[str, str | bool], sentence: str
) -> None:
    """Check mode ends before the job would begin, so what it refuses never begins."""
    domain = domains(Disk("vda", size=16 * MIB))
    repository = workdir / "repository"
    kit.run("backup_repository", path=str(repository))
    options = {"backup_domain": domain.name, "backup_repository": str(repository), "backup_encryption_secret": SECRET}
    refused = play(workdir, "-vvv", *mode, hv={**options, **beside})["hv"]
    assert refused.failed
    assert sentence in refused.result["reason"]
    assert SECRET not in refused.output
    assert not domain.has_job()
    assert domain.checkpoints() == []
    assert not list(repository.glob("*/*"))


def test_another_secret_is_refused_before_anything_begins(domains: Domains, workdir: pathlib.Path) -> None:
    """An increment under it would be readable with neither of the two; a full of its own is what one has to ask for."""
    domain = domains(Disk("vda", size=16 * MIB), Disk("vdb", size=16 * MIB))
    repository = workdir / "repository"
    kit.run("backup_repository", path=str(repository))
    options = {
        "backup_domain": domain.name,
        "backup_repository": str(repository),
        "backup_encryption_iter_time": 10,
        "backup_encryption_secret": SECRET,
    }
    full = play_one(workdir, **options)
    before = (domain.checkpoints(), sorted(path for path in repository.rglob("*") if path.name != "lock.guard"))
    changed = {**options, "backup_encryption_secret": f"{SECRET} "}
    for mode in (["--check"], []):
        refused = play(workdir, "-vvv", *mode, hv=changed)["hv"]
        assert refused.failed
        assert refused.result["reason"] == (
            f"encryption: '(hidden)' does not open '{full.result['path']}/vda.qcow2', on which the increment of disk 'vda' "
            "would build; give the secret with which that image was made, or ask for a full of every disk to change it."
        )
        assert SECRET not in refused.output
    assert not domain.has_job()
    assert before == (
        domain.checkpoints(),
        sorted(path for path in repository.rglob("*") if path.name != "lock.guard"),
    )
    assert set(play_one(workdir, **options).levels.values()) == {INCREMENTAL}
    assert set(play_one(workdir, **changed, backup_full=True).levels.values()) == {FULL}


def holders(top: pathlib.Path, text: str) -> set[str]:
    """Return the names of the files below a directory that hold a text."""
    return {path.name for path in top.rglob("*") if path.is_file() and text.encode() in path.read_bytes()}


def restore_script(point: pathlib.Path, base: str, secret: pathlib.Path, restored: pathlib.Path) -> str:
    """Return the README's lines with the ids, the secret and the target of this test in the place of its own."""
    ids = {"20261124T021500Z-51c2": point.name, "20261123T135836Z-9f42": base}
    text = "\n".join(block("restore-encrypted"))
    text = re.sub("|".join(ids), lambda found: ids[found.group()], text)
    text = text.replace("/srv/backup/by-name/web", str(point.parent)).replace("/etc/virt-backup/secret", str(secret))
    return text.replace("/var/lib/libvirt/images/web.qcow2", str(restored))
