# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each part of a definition needs of the host, and the definition without a part."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.definition import Claim, Need
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_needs import (
    holds_of,
    macs_of,
    needs_of,
    without_parts,
    writes_of,
)
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._xml.definition_kit import domain, same


def disk(source: str, name: str = "vda", kind: str = "file", device: str = "disk", more: str = "") -> str:
    return f"<disk type='{kind}' device='{device}'><source {source}/><target dev='{name}' bus='virtio'/>{more}</disk>"


def brief(needs: tuple[Need, ...]) -> list[tuple[str, str, str, str]]:
    return [(need.part, need.kind, need.value, need.group) for need in needs]


PCI = "<address domain='0x0000' bus='0x{0}' slot='0x00' function='0x1'/>"

# The device; what it needs where the domain stays itself, and as a copy beside the original.
DEVICES = [
    (disk("file='/a'"), [("disk:vda", "file", "/a", "missing_disks")], "never"),
    (disk("dev='/dev/vg/a'", kind="block"), [("disk:vda", "file", "/dev/vg/a", "missing_disks")], "never"),
    (disk("pool='p' volume='v'", kind="volume"), [("disk:vda", "volume", "p/v", "missing_disks")], "never"),
    (disk("protocol='rbd' name='p/i'", kind="network"), [], "never"),
    (disk("file='/a'", more="<readonly/>"), [("disk:vda", "file", "/a", "missing_disks")], None),
    (disk("file='/a'", more="<shareable/>"), [("disk:vda", "file", "/a", "missing_disks")], None),
    (disk("file='/a.iso'", "sda", device="cdrom"), [("disk:sda", "file", "/a.iso", "eject")], None),
    (disk("file='/a.img'", "fda", device="floppy"), [("disk:fda", "file", "/a.img", "eject")], None),
    ("<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>", [], None),
    (
        "<disk type='nvme' device='disk'><source type='pci' managed='yes' namespace='1'>"
        + PCI.format("05")
        + "</source><target dev='vda' bus='virtio'/></disk>",
        [("disk:vda", "pci", "0000:05:00.1", "missing_disks")],
        "never",
    ),
    (
        "<interface type='network'><source network='n'/></interface><interface type='bridge'><source bridge='b'/></interface>",
        [("interface:0", "network", "n", "missing_networks"), ("interface:1", "link", "b", "missing_networks")],
        None,
    ),
    (
        "<interface type='direct'><source dev='eno1'/></interface><interface type='user'/>",
        [("interface:0", "link", "eno1", "missing_networks")],
        None,
    ),
    (
        f"<interface type='hostdev'><source>{PCI.format('a0')}</source></interface>",
        [("interface:0", "pci", "0000:a0:00.1", "missing_networks")],
        "never",
    ),
    (
        f"<hostdev mode='subsystem' type='pci' managed='yes'><source>{PCI.format('03')}</source></hostdev>",
        [("hostdev:0", "pci", "0000:03:00.1", "missing_devices")],
        "never",
    ),
    (
        "<hostdev type='usb'><source><vendor id='0x46d'/><product id='0x0a'/></source></hostdev>",
        [("hostdev:0", "usb", "046d:000a", "missing_devices")],
        "never",
    ),
    (
        "<hostdev type='mdev' model='vfio-pci'><source><address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>",
        [("hostdev:0", "mdev", "c2177883-f1bb-47f0-914d-32a22e3a8804", "missing_devices")],
        "never",
    ),
    ("<hostdev type='scsi'><source><adapter name='scsi_host0'/></source></hostdev>", [], "never"),
    (
        "<filesystem type='mount'><source dir='/srv/x'/><target dir='t'/></filesystem>",
        [("filesystem:0", "file", "/srv/x", "missing_devices")],
        None,
    ),
    (
        "<input type='mouse' bus='ps2'/><input type='evdev'><source dev='/dev/input/event1'/></input>",
        [("input:1", "file", "/dev/input/event1", "missing_devices")],
        None,
    ),
    (
        "<memory model='nvdimm'><source><path>/srv/nv</path></source></memory>",
        [("memory:0", "file", "/srv/nv", "missing_devices")],
        "never",
    ),
    (
        "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
        [("tpm:0", "file", "/dev/tpm0", "missing_devices")],
        "never",
    ),
    (
        "<tpm model='tpm-tis'><backend type='emulator'><encryption secret='s1'/></backend></tpm>",
        [("tpm:0", "emulated_tpm", "", "missing_devices"), ("", "secret", "s1", "host")],
        None,
    ),
    ("<lease><lockspace>l</lockspace><key>k</key><target path='/l'/></lease>", [], "never"),
    ("<vsock model='virtio'><cid auto='yes'/></vsock><memballoon model='virtio'/><sound model='ich9'/>", [], None),
]


@pytest.mark.parametrize(("devices", "wanted", "copy"), DEVICES, ids=range(len(DEVICES)))
def test_what_a_device_needs(devices: str, wanted: list[tuple[str, str, str, str]], copy: str | None) -> None:
    assert brief(needs_of(domain(devices), (), copy=False)) == wanted
    as_copy = needs_of(domain(devices), (), copy=True)
    assert brief(as_copy) == wanted if copy is None else [need.kind for need in as_copy] == [copy]
    for need in as_copy:
        assert need.words


def test_a_restored_disk_must_be_there_and_is_no_ones() -> None:
    needs = needs_of(domain(disk("file='/a'") + disk("file='/b'", "vdb")), ["vda"], copy=True)
    assert brief(needs) == [("disk:vda", "file", "/a", "restored"), ("disk:vdb", "never", "", "missing_disks")]


def test_what_the_machine_starts_from_cannot_go() -> None:
    os = "<loader type='pflash'>/code.fd</loader><nvram>/vars.fd</nvram><kernel>/k</kernel><initrd>/i</initrd>"
    assert brief(needs_of(domain(os=os), (), copy=True)) == [
        ("", "loader", "/code.fd", "host"),
        ("", "file", "/k", "host"),
        ("", "file", "/i", "host"),
    ]


def test_parts_go_and_drives_are_emptied_each_where_it_was() -> None:
    card = "<interface type='network'><source network='{0}'/></interface>"
    devices = (
        disk("file='/a'")
        + card.format("a")
        + card.format("b")
        + disk("dev='/c'", "sda", "block", "cdrom")
        + card.format("c")
    )
    drive = "<disk type='file' device='cdrom'><target dev='sda' bus='virtio'/></disk>"
    changed = without_parts(domain(devices), ["interface:0", "disk:vda", "interface:2"], ["disk:sda"])
    assert same(changed, domain(card.format("b") + drive))


def test_what_it_writes_and_what_it_holds() -> None:
    chain = (
        "<disk type='file' device='disk'><source file='/a'/><backingStore type='file'><source file='/b'/>"
        "<backingStore type='block'><source dev='/c'/></backingStore></backingStore><target dev='vda' bus='virtio'/></disk>"
    )
    devices = (
        chain
        + disk("file='/ro'", "vdb", more="<readonly/>")
        + disk("file='/both'", "vdc", more="<shareable/>")
        + disk("file='/iso'", "sda", device="cdrom")
        + disk("pool='p' volume='v'", "vdd", "volume")
    )
    xml = domain(devices, os="<nvram>/n</nvram>")
    nvram, volume = Claim("file", "/n", "the NVRAM"), Claim("volume", "p/v", "disk vdd")
    assert writes_of(xml) == (Claim("file", "/a", "disk vda"), volume, nvram)
    held = [claim.value for claim in holds_of(xml)]
    assert held == ["/a", "/b", "/c", "/ro", "/both", "/iso", "p/v", "/n"]


def test_addresses_are_compared_in_one_case() -> None:
    card = "<interface type='user'><mac address='52:54:00:AB:00:01'/></interface>"
    assert macs_of(domain(card)) == ("52:54:00:ab:00:01",)


def test_a_number_that_is_none_is_said() -> None:
    hostdev = "<hostdev type='pci'><source><address domain='0' bus='0x{0}' slot='0' function='0'/></source></hostdev>"
    with pytest.raises(BackupError, match="has bus='0xzz' in <address>, which is no number"):
        needs_of(domain(hostdev.format("zz")), (), copy=False)
