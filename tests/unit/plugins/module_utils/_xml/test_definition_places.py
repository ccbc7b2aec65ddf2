# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks, network cards and machine of a definition, pointed to what another host has."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.definition import NewDisk, Rewrite
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._xml.definition_kit import domain, rewritten, same

TARGET = "<target dev='vda' bus='virtio'/>"
QCOW2 = "<driver name='qemu' type='qcow2'/>"
RAW = "<driver name='qemu' type='raw'/>"

# What it was, where it is now, and what the definition says then.
DISKS = [
    (
        f"<disk type='file' device='disk'>{QCOW2}<source file='/old'/>{TARGET}</disk>",
        NewDisk("vda", "/new & <x>.qcow2"),
        f"<disk type='file' device='disk'>{QCOW2}<source file='/new &amp; &lt;x&gt;.qcow2'/>{TARGET}</disk>",
    ),
    (
        f"<disk type='block' device='disk'>{RAW}<source dev='/dev/vg/web'/>{TARGET}</disk>",
        NewDisk("vda", "/new"),
        f"<disk type='file' device='disk'>{QCOW2}<source file='/new'/>{TARGET}</disk>",
    ),
    (
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap' discard_no_unref='on'>"
        f"<metadata_cache><max_size unit='bytes'>1</max_size></metadata_cache></driver><source file='/old'/>{TARGET}</disk>",
        NewDisk("vda", "/dev/vg/new", "block", "raw"),
        "<disk type='block' device='disk'><driver name='qemu' type='raw' discard='unmap'/>"
        f"<source dev='/dev/vg/new'/>{TARGET}</disk>",
    ),
    (
        f"<disk type='network' device='disk'>{RAW}<auth username='u'><secret type='ceph' uuid='x'/></auth>"
        f"<source protocol='rbd' name='p/i'><host name='mon'/></source>{TARGET}</disk>",
        NewDisk("vda", "default/web", "volume"),
        f"<disk type='volume' device='disk'>{QCOW2}<source pool='default' volume='web'/>{TARGET}</disk>",
    ),
    (
        f"<disk type='file' device='disk'><source file='/old'/><backingStore/>{TARGET}</disk>",
        NewDisk("vda", "nbd+unix:///vda?socket=/run/a%20b.sock", "network", "raw"),
        f"<disk type='network' device='disk'>{RAW}<source protocol='nbd' name='vda'>"
        f"<host transport='unix' socket='/run/a b.sock'/></source>{TARGET}</disk>",
    ),
    (
        f"<disk type='file' device='disk'>{QCOW2}<source file='/old'/>{TARGET}</disk>",
        NewDisk("vda", "nbds://[::1]:10809/x", "network"),
        f"<disk type='network' device='disk'>{QCOW2}<source protocol='nbd' name='x' tls='yes'>"
        f"<host name='::1' port='10809'/></source>{TARGET}</disk>",
    ),
    (
        f"<disk type='volume' device='disk'>{QCOW2}<source pool='a' volume='v'/>{TARGET}</disk>",
        NewDisk("vda", "rbd://mon/pool/image", "network", "raw"),
        f"<disk type='network' device='disk'>{RAW}<source protocol='rbd' name='pool/image'><host name='mon'/></source>"
        f"{TARGET}</disk>",
    ),
]


@pytest.mark.parametrize(("old", "disk", "new"), DISKS, ids=[row[1].source for row in DISKS])
def test_a_disk_at_its_new_place(old: str, disk: NewDisk, new: str) -> None:
    result = rewritten(domain(old), Rewrite(disks=(disk,)))
    assert same(result.xml, domain(new))
    assert (result.notes, result.warnings) == ((), ())


def test_what_a_new_place_cannot_give_is_told() -> None:
    lun = (
        f"<disk type='block' device='lun' rawio='yes' sgio='unfiltered'>{RAW}<source dev='/dev/sdx'>"
        "<encryption format='luks'/></source><target dev='sda' bus='scsi'/></disk>"
    )
    result = rewritten(domain(lun), Rewrite(disks=(NewDisk("sda", "/new"),)))
    assert 'device="disk"' in result.xml
    assert not {"rawio", "sgio", "encryption"} & set(result.xml.replace("=", " ").replace("<", " ").split())
    assert [sentence.partition(" ")[2].split()[1] for sentence in result.warnings] == ["was", "was"]
    assert "was encrypted by libvirt" in result.warnings[0]
    assert "was a LUN" in result.warnings[1]


@pytest.mark.parametrize(
    ("disks", "words"),
    [
        ((NewDisk("vdz", "/a"),), "is no disk of the domain; it has: vda"),
        ((NewDisk("vda", "/a"), NewDisk("vda", "/b")), "is named twice"),
        ((NewDisk("vda", "pool", "volume"),), "is not of the form pool/volume"),
        ((NewDisk("vda", "nbd://host", "network"),), "is no URI of a network disk"),
        ((NewDisk("vda", "/a/path", "network"),), "is no URI of a network disk"),
        ((NewDisk("vda", "nbd://host:99999/x", "network"),), "is no URI of a network disk"),
        ((NewDisk("vda", "nbd://[::1/x", "network"),), "is no URI of a network disk"),
    ],
)
def test_a_place_that_cannot_be_meant(disks: tuple[NewDisk, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        rewritten(domain(DISKS[0][0]), Rewrite(disks=disks))


def card(kind: str, source: str, more: str = "") -> str:
    return f"<interface type='{kind}'><mac address='52:54:00:00:00:01'/><source {source}/>{more}</interface>"


def test_networks_bridges_and_interfaces_are_renamed_each_in_its_own_map() -> None:
    names = {"a": "b"}
    cards = [card("network", "network='a'"), card("bridge", "bridge='a'"), card("direct", "dev='a' mode='vepa'")]
    renamed = [card("network", "network='b'"), card("bridge", "bridge='b'"), card("direct", "dev='b' mode='vepa'")]
    for index, option in enumerate(("networks", "bridges", "interfaces")):
        wanted = [renamed[place] if place == index else text for place, text in enumerate(cards)]
        assert same(rewritten(domain("".join(cards)), Rewrite(**{option: names})).xml, domain("".join(wanted)))


def test_all_cards_go_to_one_network_and_keep_what_the_guest_sees() -> None:
    seen = "<model type='virtio'/><boot order='2'/><address type='pci' slot='0x03'/>"
    host = "<virtualport type='openvswitch'/><target dev='x'/><vlan><tag id='4'/></vlan>"
    old = card("bridge", "bridge='a'", host + seen) + card("direct", "dev='a'", seen)
    new = f"<interface type='network'><source network='n'/><mac address='52:54:00:00:00:01'/>{seen}</interface>"
    assert same(rewritten(domain(old), Rewrite(network="n")).xml, domain(new * 2))


def test_a_card_of_the_host_becomes_an_ordinary_one() -> None:
    old = (
        "<interface type='hostdev' managed='yes'><mac address='52:54:00:00:00:01'/><driver name='vfio'/>"
        "<source><address type='pci' domain='0' bus='3' slot='0' function='0'/></source></interface>"
    )
    new = "<interface type='network'><source network='n'/><mac address='52:54:00:00:00:01'/></interface>"
    assert same(rewritten(domain(old), Rewrite(network="n")).xml, domain(new))


def test_cards_are_removed_or_unplugged() -> None:
    old = domain(card("network", "network='a'", "<link state='up'/>"))
    removed = rewritten(old, Rewrite(network_cards="remove"))
    assert same(removed.xml, domain())
    assert removed.notes == ("network card 52:54:00:00:00:01 was removed",)
    unplugged = rewritten(old, Rewrite(network_cards="disconnect")).xml
    assert same(unplugged, domain(card("network", "network='a'", "<link state='down'/>")))


CPU = "<cpu mode='custom' match='exact' check='partial'>{0}<topology sockets='1' cores='2' threads='1'/></cpu>"
MODEL = "<model fallback='forbid'>EPYC</model><vendor>AMD</vendor><feature policy='require' name='x'/>"


@pytest.mark.parametrize(
    ("cpu", "attributes"),
    [("host-model", " mode='host-model'"), ("maximum", " mode='maximum'"), ("default", "")],
)
def test_another_processor_keeps_its_topology(cpu: str, attributes: str) -> None:
    new = f"<cpu{attributes}><topology sockets='1' cores='2' threads='1'/></cpu>"
    assert same(rewritten(domain(top=CPU.format(MODEL)), Rewrite(cpu=cpu)).xml, domain(top=new))
    assert rewritten(domain(top=CPU.format(MODEL))).xml.count("EPYC") == 1


def test_a_processor_where_there_was_none() -> None:
    assert same(rewritten(domain(), Rewrite(cpu="default")).xml, domain())
    assert '<cpu mode="host-model"/>' in rewritten(domain(), Rewrite(cpu="host-model")).xml


def test_machine_type_emulator_and_firmware() -> None:
    os = "<loader readonly='yes' type='pflash'>/old.fd</loader><nvram template='/old_VARS.fd'>/n/web_VARS.fd</nvram>"
    wanted = Rewrite(machine="pc", virt_type="qemu", emulator="/e", loader="/new.fd")
    xml = rewritten(domain(os=os), wanted).xml
    assert [text in xml for text in ('type="qemu"', 'machine="pc"', "<emulator>/e<", ">/new.fd<")] == [True] * 4
    chosen = rewritten(domain(os=os, os_attributes="firmware='efi'"), Rewrite(choose_firmware=True)).xml
    bare = "<loader readonly='yes' type='pflash'/><nvram>/n/web_VARS.fd</nvram>"
    assert same(chosen, domain(os=bare, os_attributes="firmware='efi'"))


def test_labels_of_other_security_models_go() -> None:
    top = "<seclabel type='static' model='selinux'><label>s0</label></seclabel><seclabel type='none' model='apparmor'/>"
    result = rewritten(domain(top=top), Rewrite(secmodels=frozenset({"apparmor", "dac"})))
    assert same(result.xml, domain(top="<seclabel type='none' model='apparmor'/>"))
    assert result.notes == ("the label of the security model selinux was left out, which this host doesn't have",)


def test_pools_are_renamed_for_media_too() -> None:
    drive = (
        "<disk type='volume' device='cdrom'><source pool='{0}' volume='v.iso'/><target dev='sda' bus='sata'/></disk>"
    )
    assert same(rewritten(domain(drive.format("a")), Rewrite(pools={"a": "b"})).xml, domain(drive.format("b")))
