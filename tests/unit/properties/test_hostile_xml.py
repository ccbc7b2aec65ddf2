# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""XML that is not what libvirt writes: it is read, or refused in one sentence; nothing else comes of it."""

from __future__ import annotations

import pathlib
import time
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._xml.backup import parse_backup
from ansible_collections.virt.backup.plugins.module_utils._xml.checkpoint import (
    build_checkpoint,
    domain_uuid,
    for_redefinition,
    parse_checkpoint,
    without_bitmaps,
)
from ansible_collections.virt.backup.plugins.module_utils._xml.definition import without_passwords
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_needs import (
    holds_of,
    macs_of,
    needs_of,
    without_parts,
    writes_of,
)
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_record import read_record, without_record
from ansible_collections.virt.backup.plugins.module_utils._xml.domain import parse_domain
from ansible_collections.virt.backup.plugins.module_utils._xml.mirror import parse_mirrors
from ansible_collections.virt.backup.tests.unit.properties import hostile

DOMAIN = """\
<domain type='qemu' id='3'>
  <name>web</name><uuid>7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11</uuid>
  <os><type arch='x86_64' machine='q35'>hvm</type><nvram template='/usr/share/OVMF/VARS.fd'>/var/lib/nvram/web.fd</nvram></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/srv/a.qcow2' index='2'/>
      <target dev='vda' bus='virtio'/><serial>A-1</serial></disk>
    <disk type='network' device='disk'><driver type='raw'/><source protocol='rbd' name='pool/image' index='1'>
      <host name='mon1' port='6789'/><host name='mon2' port='6790'/><auth username='u'/></source>
      <target dev='vdb' bus='virtio'/></disk>
    <disk type='volume'><source pool='default' volume='web.qcow2'/><target dev='vdc'/><readonly/></disk>
    <disk type='nvme' device='disk'><source type='pci' managed='yes' namespace='1' index='1'>
      <address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source><target dev='vdd'/></disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><transient/></disk>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>
    <hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>
    <graphics type='vnc' passwd='x' port='-1'><listen type='network' network='default'/></graphics>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'><source type='file' path='/x'/>
      <encryption secret='a'/></backend></tpm>
  </devices>
  <seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+109</label></seclabel>
</domain>"""

CHECKPOINT = """\
<domaincheckpoint>
  <name>two</name><description>a &lt;b&gt;</description><parent><name>one</name></parent>
  <creationTime>1795400100</creationTime>
  <disks>
    <disk name='vda' checkpoint='bitmap' bitmap='two' size='65536'/>
    <disk name='sda' checkpoint='no'/>
  </disks>
  <domain><uuid>7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11</uuid></domain>
</domaincheckpoint>"""

BACKUP = """\
<domainbackup mode='pull'>
  <incremental>one</incremental>
  <server transport='tcp' name='127.0.0.1' port='10809' tls='yes'/>
  <disks>
    <disk name='vda' backup='yes' type='file' backupmode='incremental' incremental='one' exportname='vda' exportbitmap='b'>
      <driver type='qcow2'/><scratch file='/scratch/vda'/></disk>
    <disk name='vdb' backup='yes' type='block' index='1'><driver type='raw'/><target dev='/dev/loop0'/></disk>
    <disk name='vdc' backup='no'/>
  </disks>
</domainbackup>"""


def _redefine(xml: str) -> object:
    parse_checkpoint(xml, measured=True)
    return domain_uuid(xml), without_bitmaps(xml, ["vda"]), for_redefinition(xml, ["vda"], ["one"])


def _definition(xml: str) -> object:
    """All that a restore reads of a stored definition, which lies in the repository for anybody to change."""
    needs = [need for copy in (True, False) for need in needs_of(xml, ["vda"], copy=copy)]
    parts = sorted({need.part for need in needs} - {""})
    rest = [without_parts(xml, parts, []), without_parts(xml, [], parts), without_passwords(xml), without_record(xml)]
    return needs, rest, writes_of(xml), holds_of(xml), macs_of(xml), read_record(xml), parse_mirrors(xml)


READERS: dict[str, tuple[str, t.Callable[[str], object]]] = {
    "domain": (DOMAIN, lambda xml: parse_domain(xml, {"vda": 1})),
    "definition": (DOMAIN, _definition),
    "checkpoint": (CHECKPOINT, _redefine),
    "backup": (BACKUP, parse_backup),
}


def read_or_refused(read: t.Callable[[str], object], xml: str) -> None:
    began = time.thread_time()
    refused = hostile.refusal(lambda: read(xml))
    assert refused is None or hostile.is_clear(refused), refused
    assert time.thread_time() - began < 10


@pytest.mark.parametrize("kind", READERS)
def test_what_libvirt_writes_is_read(kind: str) -> None:
    """Otherwise nothing below would prove anything."""
    document, read = READERS[kind]
    read(document)


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_other_elements_and_other_values(kind: str, data: st.DataObject) -> None:
    document, read = READERS[kind]
    read_or_refused(read, data.draw(hostile.xml_like(document)))


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_other_text(kind: str, data: st.DataObject) -> None:
    document, read = READERS[kind]
    read_or_refused(read, data.draw(hostile.text_like(document)))


LEVELS = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 12))
DECLARATIONS = {
    "laughs in text": (f"<!DOCTYPE d [<!ENTITY e0 'ha'>{LEVELS}]>", "&e11;"),
    "laughs that are fewer": (f"<!DOCTYPE d [<!ENTITY e0 'ha'>{LEVELS}]>", "&e2;"),
    "a file": ("<!DOCTYPE d [<!ENTITY e SYSTEM 'file://{file}'>]>", "&e;"),
    "a parameter of a file": ("<!DOCTYPE d [<!ENTITY % p SYSTEM 'file://{file}'> %p;]>", "x"),
    "a server": ("<!DOCTYPE d [<!ENTITY e SYSTEM 'http://127.0.0.1:9/x'>]>", "&e;"),
    "a definition elsewhere": ("<!DOCTYPE d SYSTEM 'file://{file}'>", "x"),
    "another encoding": ("<?xml version='1.0' encoding='utf-16'?>", "x"),
    "no such encoding": ("<?xml version='1.0' encoding='nothing'?>", "x"),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("declaration", DECLARATIONS)
def test_entities_lead_nowhere(kind: str, declaration: str, tmp_path: pathlib.Path) -> None:
    """Neither in text nor in attributes, where they are always expanded."""
    document, read = READERS[kind]
    head, text = DECLARATIONS[declaration]
    (tmp_path / "secret").write_text("sesame", encoding="utf-8")
    head = head.replace("{file}", str(tmp_path / "secret"))
    for changed in (
        document.replace(">web<", f">{text}<").replace(">two<", f">{text}<"),
        document.replace("'vda'", f"'{text}'"),
    ):
        with_entity = head + changed
        read_or_refused(read, with_entity)
        try:
            found = repr(read(with_entity))
        except BackupError:
            continue
        assert "sesame" not in found
        assert len(found) < 100_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    "piece",
    ["<a>" * 100_000, "x" * 11_000_000, "<disk/>" * 100_000, "<a " + "b='c' " * 20_000 + "/>", "<!-- " + "-" * 99],
)
def test_very_much_of_it(kind: str, piece: str) -> None:
    document, read = READERS[kind]
    read_or_refused(read, document.replace("</disks>", f"{piece}</disks>").replace("</devices>", f"{piece}</devices>"))


@given(name=hostile.names, description=hostile.names)
def test_what_we_write_is_read_as_it_was_meant(name: str, description: str) -> None:
    """Characters that XML has no place for are refused before it comes to that, by every module."""
    try:
        xml = build_checkpoint(name, {name: True}, description)
    except ValueError:
        return
    found = parse_checkpoint(xml)
    assert [disk.name for disk in found.disks] == [name]
