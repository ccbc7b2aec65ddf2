# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What belongs to one run of a domain goes; what a guest sees stays."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.tests.unit.plugins.module_utils._xml.definition_kit import domain, rewritten, same

# What it is, as the running domain has it, and as it is defined.
PAIRS = [
    (
        "a disk of a running domain",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' io='native'/>"
        "<source file='/srv/a.qcow2' index='2'/><backingStore type='file' index='3'><format type='raw'/>"
        "<source file='/srv/base.raw' index='3'/><backingStore/></backingStore><target dev='vda' bus='virtio'/>"
        "<serial>S</serial><boot order='1'/><alias name='virtio-disk0'/>"
        "<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></disk>",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' io='native'/>"
        "<source file='/srv/a.qcow2'/><target dev='vda' bus='virtio'/><serial>S</serial><boot order='1'/>"
        "<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></disk>",
    ),
    (
        "a chain that somebody wrote into the definition",
        "<disk type='file' device='disk'><source file='/srv/a'/><backingStore type='file'><format type='raw'/>"
        "<source file='/srv/b'/></backingStore><target dev='vda' bus='virtio'/></disk>",
        "<disk type='file' device='disk'><source file='/srv/a'/><target dev='vda' bus='virtio'/></disk>",
    ),
    (
        "a disk that was being copied",
        "<disk type='file' device='disk'><source file='/srv/a' index='1'/><mirror type='file' job='copy'>"
        "<source file='/srv/b' index='4'/></mirror><target dev='vda' bus='virtio'/></disk>",
        "<disk type='file' device='disk'><source file='/srv/a'/><target dev='vda' bus='virtio'/></disk>",
    ),
    (
        "a network card of a network",
        "<interface type='network'><mac address='52:54:00:00:00:01'/>"
        "<source network='lan' portid='5b7f' bridge='virbr0'/><target dev='vnet7'/><model type='virtio'/>"
        "<alias name='net0'/></interface>",
        "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='lan'/><model type='virtio'/>"
        "</interface>",
    ),
    (
        "a bridge and a name that somebody chose",
        "<interface type='bridge'><source bridge='br0'/><target dev='tap-web'/></interface>",
        "<interface type='bridge'><source bridge='br0'/><target dev='tap-web'/></interface>",
    ),
    (
        "macvtap",
        "<interface type='direct'><source dev='eno1' mode='bridge'/><target dev='macvtap3'/></interface>",
        "<interface type='direct'><source dev='eno1' mode='bridge'/></interface>",
    ),
    (
        "a console",
        "<serial type='pty'><source path='/dev/pts/3'/><target type='isa-serial' port='0'/></serial>"
        "<console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/><target type='serial' port='0'/></console>",
        "<serial type='pty'><target type='isa-serial' port='0'/></serial>"
        "<console type='pty'><target type='serial' port='0'/></console>",
    ),
    (
        "the channel of the agent",
        "<channel type='unix'><source mode='bind' "
        "path='/var/lib/libvirt/qemu/channel/target/domain-5-web/org.qemu.guest_agent.0'/>"
        "<target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>",
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    ),
    (
        "a channel with a path that somebody chose",
        "<channel type='unix'><source mode='bind' path='/run/web.sock'/><target type='virtio' name='x'/></channel>",
        "<channel type='unix'><source mode='bind' path='/run/web.sock'/><target type='virtio' name='x'/></channel>",
    ),
    (
        "a display whose port libvirt chose",
        "<graphics type='vnc' port='5903' autoport='yes' listen='127.0.0.1'>"
        "<listen type='address' address='127.0.0.1'/></graphics>",
        "<graphics type='vnc' autoport='yes' listen='127.0.0.1'><listen type='address' address='127.0.0.1'/></graphics>",
    ),
    (
        "a display on a network",
        "<graphics type='spice' port='5901' tlsPort='5902' autoport='yes' listen='10.0.0.1'>"
        "<listen type='network' network='lan' address='10.0.0.1'/></graphics>",
        "<graphics type='spice' autoport='yes'><listen type='network' network='lan'/></graphics>",
    ),
    (
        "a display with a port of its own",
        "<graphics type='vnc' port='5999' autoport='no'/>",
        "<graphics type='vnc' port='5999' autoport='no'/>",
    ),
    (
        "a vsock",
        "<vsock model='virtio'><cid auto='yes' address='3'/></vsock>",
        "<vsock model='virtio'><cid auto='yes'/></vsock>",
    ),
    (
        "a name that a user gave to a device",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend><alias name='ua-dice'/></rng>",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend><alias name='ua-dice'/></rng>",
    ),
    (
        "the labels of a disk",
        "<disk type='file' device='disk'><source file='/srv/a'><seclabel model='selinux' labelskip='yes'/>"
        "<seclabel model='dac' relabel='no'/></source><target dev='vda' bus='virtio'/></disk>",
        "<disk type='file' device='disk'><source file='/srv/a'><seclabel model='dac' relabel='no'/></source>"
        "<target dev='vda' bus='virtio'/></disk>",
    ),
    ("balloon and drives", "<memballoon model='virtio'/><input type='tablet' bus='usb'/>", None),
]


@pytest.mark.parametrize(("kind", "running", "defined"), PAIRS, ids=[row[0] for row in PAIRS])
def test_a_device_without_its_run(kind: str, running: str, defined: str | None) -> None:
    assert same(rewritten(domain(running)).xml, domain(running if defined is None else defined)), kind


# The same for what is not below <devices>.
TOPS = [
    ("", ""),
    ("<title>The web server</title><description>x</description>", None),
    ("<resource><partition>/machine</partition></resource>", ""),
    ("<resource><partition>/machine/gold</partition></resource>", None),
    ("<genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid>", "<genid/>"),
    ("<seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+109</label></seclabel>", ""),
    (
        "<seclabel type='dynamic' model='selinux' relabel='yes'><label>a</label><imagelabel>b</imagelabel>"
        "<baselabel>c</baselabel></seclabel>",
        "<seclabel type='dynamic' model='selinux' relabel='yes'><baselabel>c</baselabel></seclabel>",
    ),
    ("<seclabel type='dynamic' model='apparmor' relabel='no'/>", None),
    ("<seclabel type='none' model='selinux'/>", None),
    ("<seclabel type='static' model='selinux' relabel='yes'><label>s0:c1,c2</label></seclabel>", None),
    ("<metadata><a:x xmlns:a='urn:a'>kept</a:x></metadata>", None),
]


@pytest.mark.parametrize(("running", "defined"), TOPS)
def test_the_rest_of_the_definition(running: str, defined: str | None) -> None:
    xml = rewritten(domain(top=running, attributes="id='7'")).xml
    assert same(xml, domain(top=running if defined is None else defined))


def test_cleaning_twice_changes_nothing_more() -> None:
    everything = domain("".join(row[1] for row in PAIRS), top="".join(row[0] for row in TOPS[:4]))
    once = rewritten(everything).xml
    assert rewritten(once).xml == once
