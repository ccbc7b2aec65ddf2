# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domains and disks with every name that libvirt admits: names are names to us, to Ansible, to QEMU and to the shell."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t
import uuid
from xml.sax.saxutils import escape, quoteattr

import libvirt
import pytest
from integration import virt_kit as kit
from integration.playbook import EVERYWHERE, SETTINGS
from lab.disks import MIB
from lab.tools import URI, call, same_content

NAMES = (
    "{{ lookup('pipe', 'touch pwned') }}",
    "{% include 'x' %} $(touch pwned) `touch pwned`;touch pwned",
    "-rf --all",
    "日本 ü 'it''s' \"quoted\" <a>&amp;",
    "all:!web*,[0:9],&x~#%s@hv:22",
    ".hidden ...",
)
FILE = "x,y:z 'q' \"d\" {{ 7 * 7 }} $(touch pwned),if=none,json:{} ü.qcow2"
XML = """\
<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file={path}/>
      <target dev='vda' bus='virtio'/><serial>a b.c+1-2_3</serial></disk>
  </devices></domain>"""


class Odd(t.NamedTuple):
    """A running domain with an odd name, and the odd file of its only disk."""

    name: str
    uuid: str
    image: pathlib.Path


@pytest.fixture
def odd(workdir: pathlib.Path) -> t.Iterator[list[Odd]]:
    """Yield the domains, all of them started and paused."""
    connection = libvirt.open(URI)
    defined: list[libvirt.virDomain] = []
    made = []
    try:
        for number, name in enumerate(NAMES):
            folder = workdir / f"{number}, a:b"
            folder.mkdir()
            made.append(Odd(name, str(uuid.uuid4()), folder / FILE))
            call("qemu-img", "create", "-q", "-f", "qcow2", made[-1].image, str(4 * MIB))
            call("qemu-io", "-f", "qcow2", "-c", f"write -P {number + 1} 0 1M", made[-1].image)
            path = quoteattr(str(made[-1].image))
            defined.append(connection.defineXML(XML.format(name=escape(name), uuid=made[-1].uuid, path=path)))
            defined[-1].createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        yield made
    finally:
        for domain in defined:
            if domain.isActive():
                domain.destroy()
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
        connection.close()


def nobody_was_fooled(workdir: pathlib.Path) -> bool:
    """Whether no command in a name was run, in any of the folders in which it might have been."""
    places = (workdir, pathlib.Path.cwd(), pathlib.Path("/"), pathlib.Path("/srv/images"))
    return not [place for place in places if (place / "pwned").exists()] and not list(workdir.rglob("pwned"))


def test_modules(odd: list[Odd], workdir: pathlib.Path) -> None:
    """By name and by UUID, the same domain; with a whole job, whose image is that of the disk."""
    listed = kit.run("virt_backup_info")["domains"]
    assert {entry["name"] for entry in listed} >= set(NAMES)
    for domain in odd:
        by_name = kit.run("virt_backup_info", domain=domain.name)
        assert by_name["domain"]["uuid"] == domain.uuid
        assert kit.run("virt_backup_info", domain=domain.uuid)["domain"]["name"] == domain.name
        assert [disk["source"] for disk in by_name["disks"]] == [str(domain.image)]
        for check in (True, False):
            made = kit.run("virt_checkpoint", domain=domain.name, name="one", description=domain.name, check=check)
            assert made["changed"]
        job = kit.run("virt_backup", domain=domain.name, checkpoint={"name": "two"})
        dest = workdir / f"{domain.uuid}.qcow2"
        image = {"uri": job["disks"][0]["uri"], "dest": str(dest), "source_id": domain.name}
        assert kit.run("nbd_extract", images=[image])["changed"]
        assert not kit.run("nbd_extract", images=[image])["changed"]
        assert kit.run("virt_backup", domain=domain.name, state="stopped")["changed"]
        assert same_content(dest, f"file:{domain.image}") == ""
        found = kit.run("virt_checkpoint_info", domain=domain.name)["checkpoints"]
        assert [entry["name"] for entry in found] == ["one", "two"]
        assert found[0]["description"] == domain.name
    assert nobody_was_fooled(workdir)


@pytest.mark.timeout(600)
def test_the_playbook_protects_them_all(odd: list[Odd], workdir: pathlib.Path) -> None:
    """Each becomes a host of Ansible's with its name, which no template, pattern or address is made of."""
    repository = workdir / "repository"
    kit.run("backup_repository", path=str(repository))
    hypervisor = {**EVERYWHERE, "ansible_become": False, "backup_repository": str(repository)}
    inventory = {"hypervisors": {"hosts": {"hv": hypervisor}}, "all": {"vars": {**EVERYWHERE, "ansible_become": False}}}
    (workdir / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")
    output = run_playbook(workdir)
    looked = kit.run("restore_point_info", repository=str(repository))["domains"]
    assert {(entry["uuid"], entry["name"]) for entry in looked} == {(one.uuid, one.name) for one in odd}, output
    for domain in odd:
        point = kit.run("restore_point_info", repository=str(repository), domain_uuid=domain.uuid)["latest"]
        assert point["complete"]
        assert [disk["source"] for disk in point["disks"]] == [str(domain.image)]
        assert same_content(pathlib.Path(point["path"], "vda.qcow2"), f"file:{domain.image}") == ""
    links = {os.readlink(path) for path in (repository / "by-name").iterdir()}
    assert links == {f"../{domain.uuid}" for domain in odd}
    assert all(f"{name}@hv" in output for name in NAMES)
    assert nobody_was_fooled(workdir)


def run_playbook(workdir: pathlib.Path) -> str:
    """Run the collection's playbook over all domains; it has to succeed."""
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    environment = {**os.environ, **SETTINGS, "HOME": str(workdir), "ANSIBLE_LOCAL_TEMP": str(workdir / "tmp")}
    argv = [str(program), "-vv", "-i", str(workdir / "inventory.json"), "virt.backup.backup"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=500, env=environment, cwd=workdir)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
