# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the README shows to fetch one file is run as it stands there."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest
from demo import backups
from demo.readme import DOMAIN, REPOSITORY, block
from integration.protection import Protection
from integration.virt_kit import SOCKETS
from lab.disks import MIB, Disk
from lab.domains import Domains
from lab.tools import call

FILES = {"etc/motd": "as it was\n", "home/large": "0123456789abcdef" * 65536}


@pytest.fixture
def image(workdir: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Return a disk with an ext4 file system; what the README's lines make is removed as well."""
    tree = workdir / "tree"
    for name, content in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
    call("/sbin/mke2fs", "-q", "-t", "ext4", "-d", tree, workdir / "plain", "16M")
    call("qemu-img", "convert", "-O", "qcow2", workdir / "plain", workdir / "web.qcow2")
    backups.prepare()
    yield workdir / "web.qcow2"
    for made in (REPOSITORY, backups.FOLDER):
        shutil.rmtree(made)


def shell(name: str) -> None:
    """Run a block of the README where the inventory is."""
    lines = "\n".join(block(name))
    done = subprocess.run(
        ["sh", "-e"],
        input=lines,
        cwd=backups.FOLDER,
        env=backups.environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{lines}\n{done.stdout}\n{done.stderr}"


def test_a_file_is_fetched_from_a_disk_as_it_was(domains: Domains, image: pathlib.Path) -> None:
    domain = domains(Disk("vda", image=image), name=DOMAIN)
    protection = Protection(domain, REPOSITORY)
    protection.backup()
    domain.write("vda", 8 * MIB, MIB, pattern=0x11)
    protection.backup()
    shell("export")
    try:
        shell("fetch")
        assert (backups.FOLDER / "motd").read_text() == FILES["etc/motd"]
        disk = backups.FOLDER / "vda.raw"
        call("/usr/sbin/debugfs", "-R", f"dump /home/large {backups.FOLDER}/large", disk)
        assert (backups.FOLDER / "large").read_text() == FILES["home/large"]
    finally:
        shell("unexport")
    assert os.listdir(SOCKETS) == []
