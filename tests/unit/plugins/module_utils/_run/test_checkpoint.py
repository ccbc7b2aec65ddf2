# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checkpoints on libvirt's own test driver, which keeps them as a real daemon does, without a QEMU."""

from __future__ import annotations

import typing as t

import libvirt
import pytest
import yaml

from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint_goal import CheckpointGoal
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.checkpoint import ensure_checkpoint
from ansible_collections.virt.backup.plugins.module_utils._run.info import checkpoint_info
from ansible_collections.virt.backup.plugins.modules import virt_checkpoint, virt_checkpoint_info

URI = "test:///default"
DOMAIN = """\
<domain type='test'><name>web</name><memory>32768</memory><os><type>hvm</type></os><devices>
<disk type='file' device='disk'><driver type='qcow2'/><source file='/a'/><target dev='vda' bus='virtio'/></disk>
<disk type='file' device='disk'><driver type='qcow2'/><source file='/b'/><target dev='vdb' bus='virtio'/></disk>
<disk type='file' device='disk'><driver type='raw'/><source file='/c'/><target dev='vdc' bus='virtio'/></disk>
</devices></domain>"""


@pytest.fixture
def domain() -> t.Iterator[libvirt.virDomain]:
    """A running domain; what the test driver knows lives as long as a connection does."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open(URI)
    made = connection.defineXML(DOMAIN)
    made.create()
    yield made
    for found in made.listAllCheckpoints():
        found.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    if made.isActive():
        made.destroy()
    made.undefine()
    connection.close()


def ensure(name: str = "ck1", *, check: bool = False, **options: t.Any) -> Outcome:
    return ensure_checkpoint(CheckpointGoal(**{"uri": URI, "domain": "web", "name": name, **options}), check=check)


def refusal(name: str = "ck1", **options: t.Any) -> str:
    """Return the one sentence, which check mode says as well."""
    sentences = []
    for check in (True, False):
        with pytest.raises(BackupError) as caught:
            ensure(name, check=check, **options)
        assert caught.value.message.isprintable()
        sentences.append(caught.value.message)
    assert sentences[0] == sentences[1]
    return sentences[0]


def names(domain: libvirt.virDomain) -> list[str]:
    return [found.getName() for found in domain.listAllCheckpoints(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL)]


def bitmaps(outcome: Outcome) -> dict[str, str]:
    return {disk["name"]: disk["checkpoint"] for disk in outcome.result["checkpoint"]["disks"]}


def test_present_check_run_check_run(domain: libvirt.virDomain) -> None:
    outcomes = [ensure(check=check) for check in (True, False, True, False)]
    assert [outcome.changed for outcome in outcomes] == [True, True, False, False]
    assert names(domain) == ["ck1"]
    for outcome in outcomes:
        assert bitmaps(outcome) == {"vda": "bitmap", "vdb": "bitmap", "vdc": "no"}
    assert outcomes[0].before == outcomes[1].before == {"checkpoint": None}
    assert outcomes[0].after == outcomes[1].after == outcomes[2].before


@pytest.mark.parametrize("description", ["plain", "a <b> & \"c\" 'ü'", "  blanks at the ends "])
def test_a_description_is_the_same_when_asked_again(domain: libvirt.virDomain, description: str) -> None:
    assert ensure(description=description).changed
    assert not ensure(description=description).changed
    assert "description is" in refusal(description="another")


def test_only_listed_disks(domain: libvirt.virDomain) -> None:
    assert bitmaps(ensure(disks=(("vdb", True),))) == {"vda": "no", "vdb": "bitmap", "vdc": "no"}
    assert not ensure(disks=(("vdb", True), ("vda", False))).changed
    assert not ensure().changed
    assert "disk 'vda' has no bitmap in it" in refusal(disks=(("vda", True),))


def test_absent_check_run_check_run(domain: libvirt.virDomain) -> None:
    ensure()
    outcomes = [ensure(state="absent", check=check) for check in (True, False, True, False)]
    assert [outcome.changed for outcome in outcomes] == [True, True, False, False]
    assert names(domain) == []
    assert outcomes[0].after == {"checkpoint": None}


def test_absent_leaves_children_unless_asked(domain: libvirt.virDomain) -> None:
    for name in ("one", "two", "three"):
        ensure(name)
    ensure("two", state="absent")
    assert names(domain) == ["one", "three"]
    ensure("one", state="absent", children=True)
    assert names(domain) == []


def test_a_domain_that_is_off(domain: libvirt.virDomain) -> None:
    ensure()
    domain.destroy()
    assert not ensure().changed
    assert "is not running" in refusal("ck2")
    assert "metadata_only: true" in refusal(state="absent")
    assert ensure(state="absent", metadata_only=True).changed
    assert names(domain) == []


def saved(name: str = "ck1") -> str:
    """Return the XML of a checkpoint that the domain had, and has no more."""
    (found,) = checkpoint_info(URI, "web", name=name, size=False).result["checkpoints"]
    ensure(name, state="absent", metadata_only=True)
    return str(found["xml"])


def test_redefined_check_run_check_run(domain: libvirt.virDomain) -> None:
    ensure(description="why")
    xml = saved()
    outcomes = [ensure(redefine_xml=xml, check=check) for check in (True, False, True, False)]
    assert [outcome.changed for outcome in outcomes] == [True, True, False, False]
    assert names(domain) == ["ck1"]
    assert outcomes[0].result["checkpoint"] == outcomes[1].result["checkpoint"]
    assert outcomes[1].result["checkpoint"]["description"] == "why"


def test_redefined_without_what_the_domain_has_no_more(domain: libvirt.virDomain) -> None:
    ensure("one")
    ensure("two", disks=(("vda", True), ("vdb", True)))
    xml = saved("two")
    ensure("one", state="absent")
    outcome = ensure("two", redefine_xml=xml.replace("vdb", "vdz"))
    assert bitmaps(outcome)["vda"] == "bitmap"
    assert outcome.warnings == (
        "Left out of checkpoint 'two', since the domain has it no more: disk 'vdz', parent 'one'.",
    )


XML = """<domaincheckpoint><name>ck1</name><creationTime>1795400100</creationTime>{}\
<disks><disk name='vda' checkpoint='bitmap' bitmap='ck1'/></disks></domaincheckpoint>"""


@pytest.mark.parametrize(
    ("xml", "start", "word"),
    [
        ("<domaincheckpoint>", "redefine_xml: '<domaincheckpoint>' is no checkpoint: ", "not well-formed"),
        ("ck1", "redefine_xml: 'ck1' is no checkpoint", "not well-formed"),
        (XML.format("").replace("ck1", "ck2"), "name: 'ck1' is not the name in redefine_xml, which is 'ck2'", "ck2"),
        (XML.format("").replace("1795400100", "soon"), "redefine_xml: ", "creationTime is 'soon', which is no number"),
        (XML.format("").replace("1795400100", ""), "redefine_xml: ", "has no creationTime"),
        (
            XML.format("").replace("vda", "vdz"),
            "redefine_xml: ",
            "covers no disk of domain 'web' (it has no disk 'vdz')",
        ),
        (XML.format("").replace("'bitmap' bitmap='ck1'", "'no'"), "redefine_xml: ", "covers no disk"),
        (XML.format("<new/>"), "redefine_xml: ", "is not what this host's libvirt takes"),
        (
            XML.format("<domain><uuid>7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11</uuid></domain>"),
            "redefine_xml: ",
            "is of the domain with UUID 7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11",
        ),
    ],
)
def test_a_definition_that_is_none(domain: libvirt.virDomain, xml: str, start: str, word: str) -> None:
    message = refusal(redefine_xml=xml)
    assert message.startswith(start)
    assert word in message
    assert names(domain) == []


def test_a_redefinition_that_differs(domain: libvirt.virDomain) -> None:
    ensure(disks=(("vdb", True),))
    with pytest.raises(StateError, match="disk 'vda' has no bitmap in it"):
        ensure(redefine_xml=XML.format(""))


def test_an_unknown_domain(domain: libvirt.virDomain) -> None:
    with pytest.raises(InputError, match="domain: 'nobody' is no domain of test:///default; it has: test, web"):
        ensure(domain="nobody")


def test_by_uuid(domain: libvirt.virDomain) -> None:
    assert ensure(domain=domain.UUIDString()).changed


def test_a_uri_that_leads_nowhere() -> None:
    with pytest.raises(InputError, match=r"uri: 'test:///nowhere' cannot be reached \(libvirt error"):
        ensure(uri="test:///nowhere")


def test_info_is_parents_first_and_one_when_named(domain: libvirt.virDomain) -> None:
    for name in ("b", "a", "c"):
        ensure(name)
    found = checkpoint_info(URI, "web", name="", size=False).result["checkpoints"]
    assert [(entry["name"], entry["parent"]) for entry in found] == [("b", ""), ("a", "b"), ("c", "a")]
    assert [entry["name"] for entry in checkpoint_info(URI, "web", name="a", size=False).result["checkpoints"]] == ["a"]
    assert checkpoint_info(URI, "web", name="d", size=False).result["checkpoints"] == []


def test_results_have_what_is_documented(domain: libvirt.virDomain) -> None:
    made = ensure().result
    documented = yaml.safe_load(virt_checkpoint.RETURN)
    assert made.keys() <= documented.keys()
    assert made["checkpoint"].keys() == documented["checkpoint"]["contains"].keys()
    (found,) = checkpoint_info(URI, "web", name="", size=False).result["checkpoints"]
    entry = yaml.safe_load(virt_checkpoint_info.RETURN)["checkpoints"]["contains"]
    assert found.keys() == entry.keys()
    measured = {"dirty_bytes", "usable", "reason"}
    assert {key for disk in found["disks"] for key in disk} == entry["disks"]["contains"].keys() - measured
