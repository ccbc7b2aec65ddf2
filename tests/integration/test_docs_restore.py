# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook that restores from a repository on another host is run as it stands in the documentation."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import typing as t

import pytest
from integration.controller import Sshd
from integration.playbook import SETTINGS
from integration.protection import Protection
from integration.virt_kit import SOCKETS
from lab.disks import MIB, Disk
from lab.domains import Domains, LabDomain
from lab.tools import call, content_hash, virsh

PAGE = pathlib.Path(__file__).parents[2] / "docs/restore-elsewhere.md"
MACHINE, REPOSITORY, FOLDER = "web", pathlib.Path("/srv/backup"), pathlib.Path("/var/lib/libvirt/images")
INVENTORY = """\
hv1
backup1
[all:vars]
ansible_connection=local
ansible_python_interpreter=/usr/bin/python3
"""
SSH = """\
Host backup1
  HostName 127.0.0.1
  User root
  IdentityFile {key}
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""


@pytest.fixture
def domain(domains: Domains) -> t.Iterator[LabDomain]:
    """Return a domain with the name that the page uses; what is at the places that it uses is removed."""
    yield domains(Disk("vda", size=8 * MIB), Disk("vdb", size=4 * MIB, format="raw"), name=MACHINE)
    call("rm", "-r", REPOSITORY, *FOLDER.iterdir())


@pytest.fixture
def backup1(workdir: pathlib.Path) -> t.Iterator[None]:
    """Let ``ssh backup1`` come to this very host, of which /etc is the lab's own."""
    sshd, config = Sshd(workdir), pathlib.Path("/etc/ssh/ssh_config.d/backup1.conf")
    sshd.start()
    config.write_text(SSH.format(key=workdir / "id_ed25519"), encoding="ascii")
    try:
        yield
    finally:
        config.unlink()
        sshd.cut()


def play(folder: pathlib.Path) -> str:
    """Run the page's playbook; return what it printed, which begins with the error if there was one."""
    found = re.search(r"<!-- far:begin -->\n```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    (folder / "far.yml").write_text(found[1], encoding="utf-8")
    (folder / "inventory").write_text(INVENTORY, encoding="utf-8")
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    argv = [str(program), "-i", str(folder / "inventory"), str(folder / "far.yml")]
    environment = {**os.environ, **SETTINGS, "HOME": str(folder), "ANSIBLE_BECOME": "false"}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=200, env=environment)
    return done.stdout + done.stderr if done.returncode else f"ok\n{done.stdout}"


@pytest.mark.usefixtures("backup1")
def test_over_ssh(domain: LabDomain, workdir: pathlib.Path) -> None:
    """The machine runs with what it had, and what led to it is gone."""
    protection = Protection(domain, REPOSITORY)
    for number in range(2):
        domain.write("vda", number * MIB, 2 * MIB, pattern=0x10 + number)
        domain.write("vdb", number * MIB, MIB, pattern=0x20 + number)
        point = protection.backup()
    domain.destroy()
    virsh("undefine", MACHINE, "--checkpoints-metadata")
    call("rm", *(disk.image for disk in domain.disks.values()))

    said = play(workdir)
    assert said.startswith("ok"), said
    assert domain.state == "running"
    assert os.listdir(SOCKETS) == []
    domain.destroy()
    for name in domain.disks:
        assert content_hash(FOLDER / f"{MACHINE}-{name}.qcow2") == point.truth[name]
