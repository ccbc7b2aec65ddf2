# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of a checkpoint: what makes no sense, which disks it covers, and how one that exists differs."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.checkpoint_goal import (
    check_goal,
    checkpoint_disks,
    differences,
    excerpt,
)
from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint, CheckpointDisk
from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint_goal import CheckpointGoal
from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk, Domain
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError

XML = "<domaincheckpoint><name>ck1</name></domaincheckpoint>"


def goal(**options: t.Any) -> CheckpointGoal:
    return CheckpointGoal(**{"uri": "qemu:///system", "domain": "web", "name": "ck1", **options})


@pytest.mark.parametrize(
    "wish",
    [
        goal(),
        goal(description="<why> & \"what\" 'ü'", quiesce="try"),
        goal(disks=(("vda", True), ("vdb", False))),
        goal(redefine_xml=XML),
        goal(redefine_xml=XML, validate=True),
        goal(state="absent"),
        goal(state="absent", children=True),
        goal(state="absent", metadata_only=True, children=True),
    ],
)
def test_taken(wish: CheckpointGoal) -> None:
    check_goal(wish)


@pytest.mark.parametrize(
    ("wish", "start"),
    [
        (goal(uri=""), "uri: '' is empty"),
        (goal(domain=""), "domain: '' is empty"),
        (goal(domain="a\nb"), r"domain: 'a\nb' holds a newline"),
        (goal(name=""), "name: '' is no valid checkpoint name"),
        (goal(name="a b"), "name: 'a b' is no valid checkpoint name"),
        (goal(description="a\nb"), r"description: 'a\nb' holds a newline"),
        (goal(state="absent", redefine_xml=XML), f"redefine_xml: '{XML}' has no meaning with state: absent"),
        (goal(validate=True), "validate: True has no meaning with state: present without redefine_xml"),
        (goal(children=True), "children: True has no meaning with state: present"),
        (goal(metadata_only=True), "metadata_only: True has no meaning with state: present"),
        (goal(state="absent", quiesce="try"), "quiesce: 'try' has no meaning with state: absent"),
        (goal(redefine_xml=XML, quiesce="try"), "quiesce: 'try' has no meaning"),
        (goal(redefine_xml=XML, disks=(("vda", True),)), "disks: ['vda'] is given together with redefine_xml"),
        (goal(redefine_xml=XML, description="a"), "description: 'a' is given together with redefine_xml"),
        (goal(disks=()), "disks: [] gives no disk a bitmap"),
        (goal(disks=(("vda", False),)), "disks: ['vda'] gives no disk a bitmap"),
        (goal(disks=(("vda", True), ("vda", True))), "disks[].name: 'vda' is given twice"),
    ],
)
def test_refused(wish: CheckpointGoal, start: str) -> None:
    with pytest.raises(InputError) as caught:
        check_goal(wish)
    assert caught.value.message.startswith(start)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(("text", "shown"), [("", ""), ("a" * 60, "a" * 60), ("a" * 61, "a" * 60 + "...")])
def test_excerpt(text: str, shown: str) -> None:
    assert excerpt(text) == shown


DOMAIN = Domain("web", "uuid", (Disk("vda", source="/a"), Disk("vdb", source="/b"), Disk("vdc", source="/c")))
UNTRACKABLE = {"vda": "", "vdb": "", "vdc": "it is raw"}


@pytest.mark.parametrize(
    ("disks", "chosen"),
    [
        (None, "vda vdb"),
        ((("vdb", True),), "vdb"),
        ((("vdb", False), ("vda", True)), "vda"),
        ((("vdc", False), ("vda", True)), "vda"),
    ],
)
def test_checkpoint_disks(disks: tuple[tuple[str, bool], ...] | None, chosen: str) -> None:
    found = checkpoint_disks(goal(disks=disks), DOMAIN, UNTRACKABLE)
    assert list(found) == ["vda", "vdb", "vdc"]
    assert [name for name, bitmap in found.items() if bitmap] == chosen.split()


@pytest.mark.parametrize(
    ("wish", "domain", "start"),
    [
        (
            goal(disks=(("vda", True), ("vdz", True))),
            DOMAIN,
            "disks[1].name: 'vdz' is not a disk of domain 'web'; it has: vda",
        ),
        (goal(disks=(("vdz", False), ("vda", True))), DOMAIN, "disks[0].name: 'vdz' is not a disk"),
        (goal(disks=(("vdc", True),)), DOMAIN, "disks[0].name: 'vdc' cannot carry a checkpoint: it is raw"),
        (
            goal(),
            Domain("web", "uuid", DOMAIN.disks[2:]),
            "domain: 'web' has no disk that can carry a checkpoint (vdc: it is raw)",
        ),
        (goal(), Domain("web", "uuid"), "domain: 'web' has no disk that can carry a checkpoint (it has no disks)"),
    ],
)
def test_no_checkpoint_disks(wish: CheckpointGoal, domain: Domain, start: str) -> None:
    untrackable = {disk.name: UNTRACKABLE[disk.name] for disk in domain.disks}
    with pytest.raises(InputError) as caught:
        checkpoint_disks(wish, domain, untrackable)
    assert caught.value.message.startswith(start)


FOUND = Checkpoint("ck1", description="why", disks=(CheckpointDisk("vda"), CheckpointDisk("vdb", False)))


@pytest.mark.parametrize(
    ("wish", "wanted", "words"),
    [
        (goal(), None, []),
        (goal(description="why"), None, []),
        (goal(description="what"), None, ["description is 'why', not 'what'"]),
        (goal(description="why "), None, ["description is 'why', not 'why '"]),
        (goal(), {"vda": True, "vdb": False}, []),
        (goal(), {"vda": True, "vdb": False, "vdc": False}, []),
        (goal(), {"vda": True, "vdb": True}, ["disk 'vdb' has no bitmap in it"]),
        (goal(), {"vda": True, "vdc": True}, ["disk 'vdc' has no bitmap in it"]),
        (goal(), {"vda": False}, ["disk 'vda' has a bitmap in it"]),
        (
            goal(description="what"),
            {"vda": False, "vdb": True},
            ["description is 'why', not 'what'", "disk 'vda' has a bitmap in it", "disk 'vdb' has no bitmap in it"],
        ),
    ],
)
def test_differences(wish: CheckpointGoal, wanted: dict[str, bool] | None, words: list[str]) -> None:
    assert differences(wish, wanted, FOUND) == words
