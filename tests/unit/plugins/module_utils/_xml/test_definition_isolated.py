# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An isolated copy reaches nothing outside of it: each tie that a definition can have, and what becomes of it."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.definition import NewDisk, Rewrite
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_isolated import bridge_of, leads_out, lines_of
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._xml.definition_kit import (
    COPY,
    domain,
    rewritten,
    same,
)

DISK = "<disk type='file' device='{0}'>{1}<source file='{2}'/><target dev='{3}' bus='virtio'/></disk>"
PCI = "<address domain='0' bus='1' slot='0' function='0'/>"
QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"

REMOVED = [
    "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/></interface>",
    "<interface type='user'/>",
    f"<interface type='hostdev' managed='yes'><source>{PCI}</source></interface>",
    f"<hostdev mode='subsystem' type='pci'><source>{PCI}</source></hostdev>",
    "<redirdev bus='usb' type='tcp'><source mode='connect' host='10.0.0.1' service='4000'/></redirdev>",
    "<filesystem type='mount'><source dir='/srv/web'/><target dir='web'/></filesystem>",
    "<shmem name='shared'/>",
    "<vsock model='virtio'><cid auto='yes'/></vsock>",
    "<smartcard mode='host'/>",
    "<lease><lockspace>a</lockspace><key>b</key><target path='/srv/lease'/></lease>",
    "<input type='evdev'><source dev='/dev/input/event1'/></input>",
    "<rng model='virtio'><backend model='egd' type='udp'><source mode='connect' host='a' service='1'/></backend></rng>",
    "<memory model='nvdimm'><source><path>/srv/nvdimm</path></source><target/></memory>",
    "<tpm model='tpm-crb'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
    DISK.format("disk", "<shareable/>", "/srv/cluster", "vdc"),
    DISK.format("disk", "", "/srv/other", "vdd"),
]

KEPT = [
    DISK.format("disk", "<readonly/>", "/srv/base", "vde"),
    DISK.format("cdrom", "", "/srv/install.iso", "sda"),
    "<serial type='pty'><target port='0'/></serial>",
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "<video><model type='vga'/></video>",
]

CHANGED = [
    (
        "<serial type='tcp'><source mode='connect' host='10.0.0.1' service='23'/><protocol type='telnet'/></serial>",
        "<serial type='pty'/>",
    ),
    ("<console type='unix'><source mode='bind' path='/run/web'/><target type='serial'/></console>",
     "<console type='pty'><target type='serial'/></console>"),
    ("<serial type='file'><source path='/var/log/web'/><log file='/a'/></serial>", "<serial type='pty'/>"),
    ("<parallel type='dev'><source path='/dev/parport0'/></parallel>", "<parallel type='null'/>"),
    (
        "<channel type='unix'><source mode='bind' path='/run/web.agent'/><target type='virtio' name='a'/></channel>",
        "<channel type='unix'><target type='virtio' name='a'/></channel>",
    ),
    (
        "<channel type='tcp'><source mode='connect' host='a' service='1'/><target type='virtio' name='a'/></channel>",
        "<channel type='null'><target type='virtio' name='a'/></channel>",
    ),
    (
        "<graphics type='vnc' port='5999' autoport='no' listen='0.0.0.0'><listen type='network' network='lan'/></graphics>",
        "<graphics type='vnc' autoport='yes'><listen type='address' address='127.0.0.1'/></graphics>",
    ),
    (
        "<disk type='file' device='floppy'><source file='/srv/floppy'/><target dev='fda'/></disk>",
        "<disk type='file' device='floppy'><target dev='fda'/></disk>",
    ),
]  # fmt: skip


def isolated(devices: str, **options: str) -> str:
    """Return the definition of an isolated copy of a domain with these devices."""
    wanted = Rewrite(copy=COPY, disks=(NewDisk("vda", "/srv/overlay"),), isolated=True, **options)
    return rewritten(domain(OWN + devices), wanted).xml


OWN = DISK.format("disk", "", "/srv/web", "vda")


def base() -> str:
    return isolated("")


@pytest.mark.parametrize("device", REMOVED)
def test_what_only_reaches_elsewhere_goes_and_is_told(device: str) -> None:
    assert same(isolated(device), base())
    notes = rewritten(domain(device), Rewrite(copy=COPY, isolated=True)).notes
    assert [note for note in notes if note.endswith("was removed, since the copy is isolated")]


@pytest.mark.parametrize("device", KEPT)
def test_what_reaches_nothing_stays(device: str) -> None:
    assert same(isolated(device), base().replace("</devices>", f"{device}</devices>"))


@pytest.mark.parametrize(("device", "becomes"), CHANGED)
def test_what_talks_is_cut_off_and_stays_for_the_guest(device: str, becomes: str) -> None:
    assert same(isolated(device), base().replace("</devices>", f"{becomes}</devices>"))


def test_arguments_of_qemu_go() -> None:
    xml = domain(attributes=QEMU).replace(
        "</domain>", "<qemu:commandline><qemu:arg value='-nic'/></qemu:commandline></domain>"
    )
    assert "-nic" not in rewritten(xml, Rewrite(copy=COPY, isolated=True)).xml
    assert "-nic" in rewritten(xml, Rewrite(copy=COPY)).xml


def test_cards_stay_on_the_network_they_were_moved_to() -> None:
    cards = "".join(REMOVED[:3])
    assert lines_of(isolated(cards)) == frozenset()
    assert lines_of(isolated(cards, network="drills")) == {"drills"}
    assert lines_of(isolated(cards, network="drills", network_cards="remove")) == frozenset()
    assert lines_of(domain(REMOVED[0] + "<interface type='direct'><source dev='eno1'/></interface>")) == {"br0", "eno1"}


@pytest.mark.parametrize(
    ("inner", "mode", "bridge"),
    [
        ("<bridge name='virbr9'/>", "", "virbr9"),
        ("<forward/><bridge name='virbr0'/>", "nat", "virbr0"),
        ("<forward mode='route'/>", "route", ""),
    ],
)
def test_which_network_leads_out_of_the_host(inner: str, mode: str, bridge: str) -> None:
    xml = f"<network><name>a</name>{inner}</network>"
    assert (leads_out(xml), bridge_of(xml)) == (mode, bridge)
