# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The README's play of the role ``restore`` is run as it stands there."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import typing as t

import pytest
from demo import backups
from demo.readme import DOMAIN, IMAGES, REPOSITORY, block
from lab.disks import MIB, Disk, create_image
from lab.domains import Domains
from lab.tools import content_hash, file_hash, virsh, virsh_names

COPY = "web-before"


@pytest.fixture
def image() -> t.Iterator[pathlib.Path]:
    """Return the image that the README protects; what its plays make is removed as well."""
    path = IMAGES / "web.qcow2"
    create_image(Disk(size=16 * MIB), path)
    backups.prepare()
    yield path
    if COPY in virsh_names("list", "--all", "--name"):
        virsh("destroy", COPY, check=False)
        virsh("undefine", COPY)
    for made in (path, *IMAGES.glob(f"{COPY}-*"), *IMAGES.glob(f".{COPY}-*")):
        made.unlink(missing_ok=True)
    for folder in (REPOSITORY, backups.FOLDER):
        shutil.rmtree(folder)


def play() -> str:
    """Run the README's play and return what it says."""
    (backups.FOLDER / "restore.yml").write_text("\n".join(block("restore-role")) + "\n", encoding="utf-8")
    argv = ["ansible-playbook", "-i", "inventory", "restore.yml"]
    done = subprocess.run(
        argv, cwd=backups.FOLDER, env=backups.environment(), check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_runs_at_once_beside_the_original_and_again_nothing_changes(domains: Domains, image: pathlib.Path) -> None:
    domain = domains(Disk("vda", image=image), name=DOMAIN)
    domain.write("vda", MIB, 8 * MIB, pattern=0x21)
    truth = file_hash(domain.frozen_copy("vda"))
    point = backups.back_up()
    repository = {path: file_hash(path) for path in point.iterdir()}
    domain.write("vda", 2 * MIB, MIB, pattern=0x22)

    output = play()
    assert re.search(rf"{COPY} is running, as of \S+ \({point.name}\)", output), output
    assert "changed=0" in play()
    assert domain.state == "paused"
    (place,) = re.findall(r"^ *vda +(\S+)$", virsh("domblklist", COPY), re.MULTILINE)
    virsh("destroy", COPY)
    assert content_hash(place) == truth
    assert {path: file_hash(path) for path in point.iterdir()} == repository
