# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domain XML of every kind of disk, read into the model."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk, Domain
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._model.state_file import Nvram, Tpm
from ansible_collections.virt.backup.plugins.module_utils._xml.domain import parse_domain

UUID = "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"
DOMAIN = "<domain type='qemu'><name>web</name><uuid>{uuid}</uuid>{os}<devices>{devices}</devices></domain>"


def domain_of(devices: str = "", os: str = "", sizes: dict[str, int] | None = None) -> Domain:
    return parse_domain(DOMAIN.format(uuid=UUID, os=os, devices=devices), sizes)


def disk_of(xml: str) -> Disk:
    (disk,) = domain_of(xml).disks
    return disk


# Each row: what it is, the element, and what the model says.
KINDS = [
    (
        "a file",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/srv/a.qcow2' index='2'/>"
        "<target dev='vda' bus='virtio'/><serial>A-1</serial></disk>",
        Disk("vda", source="/srv/a.qcow2", format="qcow2", serial="A-1"),
    ),
    (
        "a file with metacharacters in its name",
        "<disk type='file'><driver type='raw'/><source file='/srv/&lt;a&gt; &amp; &quot;b&quot; &apos;ü&apos;.img'/>"
        "<target dev='vda' bus='virtio'/></disk>",
        Disk("vda", source="/srv/<a> & \"b\" 'ü'.img"),
    ),
    (
        "a block device",
        "<disk type='block' device='disk'><driver type='raw'/><source dev='/dev/vg/web' index='1'/>"
        "<target dev='sda' bus='scsi'/></disk>",
        Disk("sda", bus="scsi", source_type="block", source="/dev/vg/web"),
    ),
    (
        "no driver element",
        "<disk type='file'><source file='/srv/a'/><target dev='vda' bus='virtio'/></disk>",
        Disk("vda", source="/srv/a"),
    ),
    (
        "Ceph with several hosts",
        "<disk type='network' device='disk'><driver type='raw'/><source protocol='rbd' name='pool/image' index='1'>"
        "<host name='mon1' port='6789'/><host name='mon2' port='6790'/><auth username='u'/></source>"
        "<target dev='vda' bus='virtio'/></disk>",
        Disk("vda", source_type="network", source="rbd://mon1:6789,mon2:6790/pool/image"),
    ),
    (
        "NBD over a UNIX socket, the default export",
        "<disk type='network'><driver type='qcow2'/><source protocol='nbd'>"
        "<host transport='unix' socket='/run/nbd.sock'/></source><target dev='vda' bus='virtio'/></disk>",
        Disk("vda", source_type="network", source="nbd:///run/nbd.sock/", format="qcow2"),
    ),
    (
        "NBD over TCP without a port",
        "<disk type='network'><driver type='raw'/><source protocol='nbd' name='x'><host name='store'/></source>"
        "<target dev='vda' bus='virtio'/></disk>",
        Disk("vda", source_type="network", source="nbd://store/x"),
    ),
    (
        "a volume",
        "<disk type='volume'><driver type='qcow2'/><source pool='default' volume='web.qcow2' index='1'/>"
        "<target dev='vda' bus='virtio'/></disk>",
        Disk("vda", source_type="volume", source="default/web.qcow2", format="qcow2"),
    ),
    (
        "an NVMe controller",
        "<disk type='nvme' device='disk'><driver type='raw'/><source type='pci' managed='yes' namespace='1'>"
        "<address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source><target dev='vda' bus='virtio'/></disk>",
        Disk(
            "vda",
            source_type="nvme",
            source="managed=yes,namespace=1,type=pci,bus=0x01,domain=0x0000,function=0x0,slot=0x00",
        ),
    ),
    (
        "vhost-user",
        "<disk type='vhostuser' device='disk'><driver type='raw'/><source type='unix' path='/run/vhost.sock'>"
        "<reconnect enabled='yes' timeout='10'/></source><target dev='vda' bus='virtio'/></disk>",
        Disk("vda", source_type="vhostuser", source="path=/run/vhost.sock,type=unix,enabled=yes,timeout=10"),
    ),
    (
        "a directory shown as FAT",
        "<disk type='dir'><driver type='fat'/><source dir='/srv/files'/><target dev='vda' bus='virtio'/><readonly/></disk>",
        Disk("vda", source_type="dir", source="/srv/files", format="fat", readonly=True),
    ),
    (
        "an empty CD drive",
        "<disk type='file' device='cdrom'><driver type='raw'/><target dev='sda' bus='sata'/><readonly/></disk>",
        Disk("sda", device="cdrom", bus="sata", readonly=True),
    ),
    (
        "a CD drive whose file was taken out",
        "<disk type='file' device='cdrom'><source startupPolicy='optional'/><target dev='sda' bus='sata'/></disk>",
        Disk("sda", device="cdrom", bus="sata", readonly=True),
    ),
    (
        "a CD",
        "<disk type='file' device='cdrom'><driver type='raw'/><source file='/srv/cd.iso'/>"
        "<target dev='sda' bus='sata'/><readonly/></disk>",
        Disk("sda", device="cdrom", bus="sata", source="/srv/cd.iso", readonly=True),
    ),
    (
        "an empty floppy drive",
        "<disk type='file' device='floppy'><target dev='fda' bus='fdc'/></disk>",
        Disk("fda", device="floppy", bus="fdc"),
    ),
    (
        "a floppy",
        "<disk type='file' device='floppy'><driver type='raw'/><source file='/srv/f.img'/><target dev='fda' bus='fdc'/></disk>",
        Disk("fda", device="floppy", bus="fdc", source="/srv/f.img"),
    ),
    (
        "a transient disk",
        "<disk type='file'><driver type='qcow2'/><source file='/srv/t'/><target dev='vdb' bus='virtio'/><transient/></disk>",
        Disk("vdb", source="/srv/t", format="qcow2", transient=True),
    ),
    (
        "a disk with its backing chain: the names below the top are not the disk's",
        "<disk type='file'><driver type='qcow2'/><source file='/srv/top'/><backingStore type='file'>"
        "<format type='raw'/><source file='/srv/base'/></backingStore><target dev='vda' bus='virtio'/></disk>",
        Disk("vda", source="/srv/top", format="qcow2"),
    ),
]


@pytest.mark.parametrize(("xml", "wanted"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS])
def test_disk(xml: str, wanted: Disk) -> None:
    assert disk_of(xml) == wanted


@pytest.mark.parametrize("xml", [row[1] for row in KINDS], ids=[row[0] for row in KINDS])
def test_the_source_does_not_depend_on_what_libvirt_numbers_at_run_time(xml: str) -> None:
    """``index`` counts the images that QEMU has open: after a hot-plug or a power cycle the same disk has another."""
    plain = xml.replace(" index='2'", "").replace(" index='1'", "")
    assert disk_of(plain.replace("<source ", "<source index='17' ", 1)).source == disk_of(plain).source


def test_has_media_is_what_tells_an_empty_drive() -> None:
    by_kind = {kind: disk_of(xml) for kind, xml, _wanted in KINDS}
    without = {kind for kind, disk in by_kind.items() if not disk.has_media}
    assert without == {"an empty CD drive", "a CD drive whose file was taken out", "an empty floppy drive"}


def test_sizes_come_from_beside_the_xml_and_order_from_it() -> None:
    disks = "".join(f"<disk><source file='/{name}'/><target dev='{name}'/></disk>" for name in ("vdb", "vda"))
    domain = domain_of(disks, sizes={"vda": 7, "gone": 9})
    assert [(disk.name, disk.virtual_size) for disk in domain.disks] == [("vdb", 0), ("vda", 7)]
    assert domain.disk("vda") == domain.disks[1]
    assert domain.disk("gone") is None


def test_a_disk_without_target_is_none() -> None:
    assert domain_of("<disk type='file'><source file='/a'/></disk>").disks == ()


AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'{}/></channel>"


@pytest.mark.parametrize(
    ("devices", "channel", "connected"),
    [
        ("", False, False),
        (AGENT.format(""), True, False),
        (AGENT.format(" state='disconnected'"), True, False),
        (AGENT.format(" state='connected'"), True, True),
        (AGENT.format(" state='connected'").replace("guest_agent.0", "other"), False, False),
        (AGENT.format(" state='connected'").replace("guest_agent.0", "other") + AGENT.format(""), True, False),
    ],
)
def test_agent(devices: str, channel: bool, connected: bool) -> None:
    domain = domain_of(devices)
    assert (domain.has_agent_channel, domain.agent_connected) == (channel, connected)


@pytest.mark.parametrize(
    ("os", "path"),
    [
        (
            "<os><nvram template='/usr/share/t.fd'>/var/lib/libvirt/qemu/nvram/web.fd</nvram></os>",
            "/var/lib/libvirt/qemu/nvram/web.fd",
        ),
        ("<os><nvram>\n  /srv/a &amp; b.fd\n</nvram></os>", "/srv/a & b.fd"),
        ("<os>\n<nvram type='file'>\n  <source file='/srv/web.fd'/>\n</nvram>\n</os>", "/srv/web.fd"),
        ("<os><nvram type='block'><source dev='/dev/vg/nvram'/></nvram></os>", "/dev/vg/nvram"),
    ],
)
def test_nvram(os: str, path: str) -> None:
    nvram = domain_of(os=os).nvram
    assert nvram is not None
    assert nvram.path == path


def test_a_domain_without_nvram() -> None:
    assert domain_of(os="<os><nvram/></os>").nvram is None
    assert domain_of(os="<os><type>hvm</type></os>").nvram is None
    assert domain_of().nvram is None


def test_an_nvram_on_a_block_device_says_so() -> None:
    assert domain_of(os="<os><nvram type='block'><source dev='/dev/v/n'/></nvram></os>").nvram == Nvram(
        "/dev/v/n", "block"
    )


@pytest.mark.parametrize(
    ("backend", "tpm"),
    [
        ("<backend type='emulator' version='2.0'/>", Tpm()),
        ("<backend type='emulator' version='1.2' persistent_state='yes'/>", Tpm(version="1.2")),
        ("<backend type='passthrough'><device path='/dev/tpm0'/></backend>", Tpm("passthrough")),
        (
            "<backend type='external'><source type='unix' mode='connect' path='/s'/></backend>",
            Tpm("external", "2.0", "unix", "/s"),
        ),
        (
            "<backend type='emulator' version='2.0'><encryption secret='6dd3e4a5'/><source type='dir' path='/srv/t'/></backend>",
            Tpm("emulator", "2.0", "dir", "/srv/t", "6dd3e4a5"),
        ),
    ],
)
def test_tpm(backend: str, tpm: Tpm) -> None:
    assert domain_of(f"<tpm model='tpm-crb'>{backend}</tpm>").tpm == tpm


def test_a_domain_without_tpm() -> None:
    assert domain_of().tpm is None


@pytest.mark.parametrize(
    ("labels", "ids"),
    [
        ("", None),
        ("<seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+109</label></seclabel>", (64055, 109)),
        ("<seclabel type='static' model='dac'><label>107:0</label></seclabel>", (107, 0)),
        ("<seclabel type='static' model='dac'><label>qemu:kvm</label></seclabel>", None),
        ("<seclabel type='none' model='dac'/>", None),
        (
            "<seclabel model='apparmor'><label>1:2</label></seclabel><seclabel model='dac'><label>+3:+4</label></seclabel>",
            (3, 4),
        ),
    ],
)
def test_the_user_that_qemu_runs_as(labels: str, ids: tuple[int, int] | None) -> None:
    assert domain_of(os=labels).qemu_ids == ids


def test_name_and_uuid() -> None:
    domain = domain_of()
    assert (domain.name, domain.uuid) == ("web", UUID)


def test_no_xml() -> None:
    with pytest.raises(BackupError, match="not well-formed XML"):
        parse_domain("<domain>")
