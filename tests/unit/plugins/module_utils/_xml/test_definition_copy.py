# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of a domain has nothing that two domains can't share."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.definition import Rewrite, Rewritten
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._xml.definition_kit import (
    COPY,
    UUID,
    domain,
    rewritten,
)


def copied(*arguments: str, **options: str) -> Rewritten:
    return rewritten(domain(*arguments, **options), Rewrite(copy=COPY))


def test_name_uuid_and_what_repeats_them() -> None:
    sysinfo = f"<sysinfo type='smbios'><system><entry name='uuid'>{UUID}</entry></system></sysinfo>"
    xml = copied(top=f"<title>Web</title>{sysinfo}").xml
    assert UUID not in xml
    assert xml.count(COPY.uuid) == 2
    assert "<name>drill</name>" in xml
    assert "<title>Web</title>" in xml


def test_each_card_has_an_address_of_its_own() -> None:
    port = "<virtualport type='openvswitch'><parameters interfaceid='a' profileid='p'/></virtualport>"
    card = "<interface type='bridge'>{0}<source bridge='br0'/>{1}<target dev='tap-web'/></interface>"
    xml = copied(card.format("<mac address='52:54:00:00:00:01'/>", port) + card.format("", "")).xml
    assert [mac in xml for mac in (*COPY.macs, "52:54:00:00:00:01")] == [True, True, False]
    assert "interfaceid" not in xml
    assert "profileid" in xml
    assert "tap-web" not in xml


@pytest.mark.parametrize(
    ("os", "path"),
    [
        ("<nvram>/n/web_VARS.fd</nvram>", "/n/drill_VARS.fd"),
        ("<nvram template='/t.fd'>/n/vars.fd</nvram>", "/n/vars-drill.fd"),
        ("<nvram type='file'><source file='/n/web_VARS.fd'/></nvram>", "/n/drill_VARS.fd"),
        (f"<nvram>/n/{UUID}/webmail.fd</nvram>", f"/n/{COPY.uuid}/webmail.fd"),
    ],
)
def test_the_nvram_is_at_a_path_of_its_own(os: str, path: str) -> None:
    assert path in copied(os=f"<loader>/code.fd</loader>{os}").xml


@pytest.mark.parametrize(
    ("source", "words"), [("type='dir' path='/t/web'", "/t/drill"), ("type='file' path='/t/s'", "/t/s-drill")]
)
def test_the_state_of_a_tpm_is_at_a_path_of_its_own(source: str, words: str) -> None:
    tpm = f"<tpm model='tpm-crb'><backend type='emulator' version='2.0'><source {source}/></backend></tpm>"
    assert f'"{words}"' in copied(tpm).xml


def test_ports_sockets_and_logs_are_its_own() -> None:
    result = copied(
        "<serial type='unix'><source mode='bind' path='/run/web.sock'/></serial>"
        "<serial type='unix'><source mode='connect' path='/run/logger.sock'/></serial>"
        "<serial type='file'><source path='/var/log/console'/></serial>"
        "<serial type='pty'><log file='/var/log/web.log'/></serial>"
        "<serial type='tcp'><source mode='bind' host='::' service='4555'/></serial>"
        "<graphics type='vnc' port='5999' autoport='no' websocket='5700'/>"
        "<graphics type='spice'><listen type='socket' socket='/run/web-spice.sock'/></graphics>"
        "<vsock model='virtio'><cid auto='no' address='7'/></vsock>"
    )
    for text in (
        'path="/run/drill.sock"',
        'path="/run/logger.sock"',
        'path="/var/log/console-drill"',
        'file="/var/log/drill.log"',
        '<graphics type="vnc" autoport="yes"/>',
        'socket="/run/drill-spice.sock"',
        '<cid auto="yes"/>',
    ):
        assert text in result.xml, text
    assert result.notes == (
        "/run/web.sock of the original is /run/drill.sock of the copy",
        "/var/log/console of the original is /var/log/console-drill of the copy",
        "/var/log/web.log of the original is /var/log/drill.log of the copy",
        "the display (vnc) of the copy gets a port of its own",
    )
    assert result.warnings == ("the copy's serial listens on port 4555 as the original's does.",)


def test_a_static_label_made_for_the_original_goes_and_another_is_told() -> None:
    label = "<seclabel type='static' model='{0}'><label>{1}</label></seclabel>"
    result = copied(top=label.format("apparmor", f"libvirt-{UUID}") + label.format("selinux", "s0:c1,c2"))
    assert "apparmor" not in result.xml
    assert "s0:c1,c2" in result.xml
    assert result.notes == ("the static label of apparmor was left out: it is made for the original",)
    assert result.warnings == ("the copy runs under the static label s0:c1,c2 of the original: they share its rights.",)


def test_a_domain_that_stays_itself_keeps_all_of_it() -> None:
    kept = domain(
        "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='b'/><target dev='tap-web'/></interface>"
        "<vsock model='virtio'><cid auto='no' address='7'/></vsock><graphics type='vnc' port='5999' autoport='no'/>",
        top=f"<seclabel type='static' model='apparmor'><label>libvirt-{UUID}</label></seclabel>",
        os="<nvram>/n/web_VARS.fd</nvram>",
    )
    result = rewritten(kept)
    assert rewritten(result.xml).xml == result.xml
    for text in (UUID, "52:54:00:00:00:01", "tap-web", 'address="7"', "5999", f"libvirt-{UUID}", "/n/web_VARS.fd"):
        assert text in result.xml
    assert (result.notes, result.warnings) == ((), ())
