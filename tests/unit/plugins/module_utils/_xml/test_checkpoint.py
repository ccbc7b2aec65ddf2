# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checkpoint XML, both ways."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint, CheckpointDisk
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._xml.checkpoint import (
    build_checkpoint,
    domain_uuid,
    for_redefinition,
    parse_checkpoint,
    without_bitmaps,
)

FROM_LIBVIRT = """\
<domaincheckpoint>
  <name>two</name>
  <description>a &lt;b&gt; &amp; "c" 'ü'</description>
  <parent>
    <name>one</name>
  </parent>
  <creationTime>1795400100</creationTime>
  <disks>
    <disk name='vda' checkpoint='bitmap' bitmap='two' size='65536'/>
    <disk name='vdb' checkpoint='bitmap' bitmap='two'/>
    <disk name='sda' checkpoint='no'/>
  </disks>
</domaincheckpoint>
"""


def test_parse_what_libvirt_prints() -> None:
    assert parse_checkpoint(FROM_LIBVIRT, measured=True) == Checkpoint(
        name="two",
        parent="one",
        creation_time=1795400100,
        description="a <b> & \"c\" 'ü'",
        disks=(CheckpointDisk("vda", True, 65536), CheckpointDisk("vdb", True, None), CheckpointDisk("sda", False)),
        measured=True,
    )


def test_parse_a_root_with_nothing_else() -> None:
    assert parse_checkpoint("<domaincheckpoint><name>one</name></domaincheckpoint>") == Checkpoint("one")


def test_a_size_of_zero_is_a_size() -> None:
    xml = "<domaincheckpoint><name>a</name><disks><disk name='vda' size='0'/></disks></domaincheckpoint>"
    assert parse_checkpoint(xml, measured=True).disks == (CheckpointDisk("vda", True, 0),)


@pytest.mark.parametrize(
    "description",
    ["", "plain", "a < b & \"c\" > 'd'", "]]>", "&amp;", "ümläut 日本 🙂", "  kept as it is  ", "<!-- no -->"],
)
def test_what_was_built_reads_back(description: str) -> None:
    disks = {"vda": True, "vdb": False}
    parsed = parse_checkpoint(build_checkpoint("a.b-c_1", disks, description))
    assert (parsed.name, parsed.description) == ("a.b-c_1", description)
    assert {disk.name: disk.bitmap for disk in parsed.disks} == disks


def test_exact_form() -> None:
    assert build_checkpoint("a", {"vda": True, "vdb": False}, "why <not>") == (
        "<domaincheckpoint>\n"
        "  <name>a</name>\n"
        "  <description>why &lt;not&gt;</description>\n"
        "  <disks>\n"
        '    <disk name="vda" checkpoint="bitmap"/>\n'
        '    <disk name="vdb" checkpoint="no"/>\n'
        "  </disks>\n"
        "</domaincheckpoint>\n"
    )


def test_no_description_no_element() -> None:
    assert "description" not in build_checkpoint("a", {"vda": True})


def test_lost_bitmaps_are_taken_out_and_the_rest_stays() -> None:
    parsed = parse_checkpoint(without_bitmaps(FROM_LIBVIRT, ["vdb"]))
    assert {disk.name: disk.bitmap for disk in parsed.disks} == {"vda": True, "vdb": False, "sda": False}
    assert (parsed.parent, parsed.creation_time) == ("one", 1795400100)
    assert 'name="vdb" checkpoint="no"/>' in without_bitmaps(FROM_LIBVIRT, ["vdb"])


@pytest.mark.parametrize(
    ("disks", "checkpoints", "left", "words"),
    [
        (["vda", "vdb", "sda"], ["one"], ("one", ["vda", "vdb", "sda"]), []),
        (["vda", "sda"], ["one"], ("one", ["vda", "sda"]), ["disk 'vdb'"]),
        (["vda", "vdb", "sda"], [], ("", ["vda", "vdb", "sda"]), ["parent 'one'"]),
        (["vda"], ["other"], ("", ["vda"]), ["disk 'vdb'", "disk 'sda'", "parent 'one'"]),
        ([], ["one"], ("one", []), ["disk 'vda'", "disk 'vdb'", "disk 'sda'"]),
    ],
)
def test_a_saved_checkpoint_is_fitted_to_the_domain(
    disks: list[str], checkpoints: list[str], left: tuple[str, list[str]], words: list[str]
) -> None:
    xml, left_out = for_redefinition(FROM_LIBVIRT, disks, checkpoints)
    parsed = parse_checkpoint(xml)
    assert (parsed.parent, [disk.name for disk in parsed.disks]) == left
    assert left_out == words


def test_a_comment_in_a_saved_checkpoint_is_no_disk() -> None:
    xml, left_out = for_redefinition(
        FROM_LIBVIRT.replace("<disks>", "<disks><!-- by hand -->"), ["vda", "vdb", "sda"], ["one"]
    )
    assert left_out == []
    assert [disk.name for disk in parse_checkpoint(xml).disks] == ["vda", "vdb", "sda"]


@pytest.mark.parametrize(
    "xml",
    [
        FROM_LIBVIRT.replace("1795400100", "yesterday"),
        FROM_LIBVIRT.replace("65536", "a lot"),
        FROM_LIBVIRT.replace("</disks>", ""),
        "",
        "two",
    ],
)
def test_what_is_no_checkpoint_is_an_error_of_ours(xml: str) -> None:
    with pytest.raises(BackupError):
        parse_checkpoint(xml)


@pytest.mark.parametrize(
    ("domain", "uuid"),
    [("", ""), ("<domain><uuid>7B1F</uuid></domain>", "7b1f"), ("<domain><name>a</name></domain>", "")],
)
def test_domain_uuid(domain: str, uuid: str) -> None:
    assert domain_uuid(f"<domaincheckpoint><name>a</name>{domain}</domaincheckpoint>") == uuid


def test_external_entities_are_not_read() -> None:
    xml = (
        "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><domaincheckpoint><name>a&e;</name></domaincheckpoint>"
    )
    assert parse_checkpoint(xml).name == "a"
