# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions of any shape: rewritten or refused in a sentence, and rewritten again to the very same."""

from __future__ import annotations

import contextlib
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.virt.backup.plugins.module_utils._model.definition import Identity, NewDisk, Rewrite
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._xml.definition import rewrite, without_passwords
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_needs import (
    holds_of,
    macs_of,
    needs_of,
    without_parts,
    writes_of,
)
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_record import (
    Record,
    read_record,
    with_record,
    without_record,
)
from ansible_collections.virt.backup.plugins.module_utils._xml.host import parse_asked


def words(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split())


# Every element and attribute that the code looks for, put together as nobody would.
TAGS = words(
    "os type loader nvram cpu model feature genid metadata seclabel label imagelabel resource partition sysinfo system "
    "entry devices emulator disk driver source target serial encryption auth backingStore mirror readonly shareable "
    "interface mac virtualport parameters link hostdev vendor product address filesystem input memory path tpm backend "
    "device secret lease key console channel log graphics listen vsock cid alias cookies reservations kernel"
)
NAMES = words(
    "type device name uuid file dev dir pool volume protocol socket mode path network bridge portid index bus slot "
    "function domain id address auto autoport port listen relabel labelskip model state tty passwd template service"
)
VALUES = words(
    "file block volume network nvme disk cdrom lun hostdev pci usb mdev unix pty tcp file bind yes no static dynamic "
    "vda vnet0 emulator passthrough nvdimm 0x0 zz /srv/web 52:54:00:00:00:01 -1"
)


@st.composite
def elements(draw: st.DrawFn, depth: int = 4) -> ElementTree.Element:
    element = ElementTree.Element(draw(TAGS), draw(st.dictionaries(NAMES, VALUES, max_size=4)))
    element.text = draw(st.sampled_from((None, "/srv/web.fd", "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11")))
    if depth:
        element.extend(draw(st.lists(elements(depth=depth - 1), max_size=3)))
    return element


@st.composite
def definitions(draw: st.DrawFn) -> str:
    root = ElementTree.Element("domain", {"type": "kvm", "id": "3"})
    root.extend(draw(st.lists(elements(depth=2), max_size=4)))
    devices = ElementTree.SubElement(root, "devices")
    devices.extend(draw(st.lists(elements(depth=3), max_size=6)))
    return ElementTree.tostring(root, encoding="unicode")


COPY = Rewrite(
    copy=Identity("copy", "11111111-2222-5333-8444-555555555555", ("52:54:00:aa:aa:01",)), secmodels=frozenset()
)
WISHES = st.sampled_from(
    (
        Rewrite(),
        COPY,
        Rewrite(network="n", machine="pc", cpu="host-model", loader="/l", choose_firmware=True),
        Rewrite(network_cards="remove", cpu="default", pools={"/srv/web": "p"}, networks={"vda": "n"}),
        Rewrite(network_cards="disconnect", disks=(NewDisk("vda", "nbd://h/x", "network", "raw"),)),
    )
)


@given(definitions(), WISHES)
def test_any_definition_is_rewritten_or_refused(xml: str, wanted: Rewrite) -> None:
    with contextlib.suppress(BackupError):
        once = rewrite(xml, wanted, lambda path: f"{path}-copy").xml
        assert rewrite(once, Rewrite(), str).xml == rewrite(rewrite(once, Rewrite(), str).xml, Rewrite(), str).xml
        parse_asked(once)
        assert len(macs_of(once)) >= 0
        assert {claim.value for claim in writes_of(once)} <= {claim.value for claim in holds_of(once)}
        needs = needs_of(once, ["vda"], copy=wanted.copy is not None)
        parts = {need.part for need in needs if need.part}
        left = needs_of(without_parts(once, parts, ()), ["vda"], copy=wanted.copy is not None)
        assert [need for need in left if need.kind not in ("loader", "file", "secret") and need.part == ""] == []
        without_passwords(once)
        marked = with_record(once, Record("id", "sha256:1"))
        assert read_record(marked) == Record("id", "sha256:1")
        assert read_record(without_record(marked)) is None
