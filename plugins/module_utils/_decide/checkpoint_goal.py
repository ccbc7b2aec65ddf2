# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Whether a checkpoint that exists is the one that was asked for, and whether a request for one makes sense. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.names import (
    check_checkpoint_name,
    check_given,
    check_known,
    check_printable,
    check_unique,
)
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint
    from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint_goal import CheckpointGoal
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain

_EXCERPT = 60


def excerpt(text: str) -> str:
    """Return the beginning of a long text, for a message."""
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}..."


def check_goal(goal: CheckpointGoal) -> None:
    """Refuse options that contradict each other or can be seen to be wrong."""
    check_given("uri", goal.uri, "a connection URI such as qemu:///system")
    check_given("domain", goal.domain, "a name or UUID")
    check_checkpoint_name("name", goal.name)
    check_printable("description", goal.description)
    present = goal.state == "present"
    for option, value, fits in (
        ("redefine_xml", excerpt(goal.redefine_xml), present or not goal.redefine_xml),
        ("validate", True, bool(goal.redefine_xml) or not goal.validate),
        ("children", True, not present or not goal.children),
        ("metadata_only", True, not present or not goal.metadata_only),
        ("quiesce", goal.quiesce, (present and not goal.redefine_xml) or goal.quiesce == "never"),
    ):
        if not fits:
            where = "state: present" if present else f"state: {goal.state}"
            extra = " without redefine_xml" if option == "validate" else ""
            raise InputError(option, value, f"has no meaning with {where}{extra}", "remove it")
    if goal.redefine_xml and (goal.disks is not None or goal.description):
        names = None if goal.disks is None else [name for name, _bitmap in goal.disks]
        option, given = ("description", goal.description) if names is None else ("disks", names)
        raise InputError(option, given, "is given together with redefine_xml", "remove it: the XML says it all")
    if goal.disks is not None:
        if not any(bitmap for _name, bitmap in goal.disks):
            remedy = "list at least one disk with checkpoint: bitmap, or leave disks out"
            raise InputError("disks", [name for name, _bitmap in goal.disks], "gives no disk a bitmap", remedy)
        check_unique("disks[].name", (name for name, _bitmap in goal.disks), "a disk")


def checkpoint_disks(goal: CheckpointGoal, domain: Domain, untrackable: t.Mapping[str, str]) -> dict[str, bool]:
    """Return for every disk of the domain whether the new checkpoint gives it a bitmap.

    :raises InputError: a listed disk does not exist or cannot carry one, or no disk can.
    """
    known = [disk.name for disk in domain.disks]
    for index, (name, bitmap) in enumerate(goal.disks or ()):
        check_known(f"disks[{index}].name", name, known, f"a disk of domain '{domain.name}'")
        if bitmap and untrackable[name]:
            problem = f"cannot carry a checkpoint: {untrackable[name]}"
            raise InputError(f"disks[{index}].name", name, problem, "set checkpoint: 'no' for it")
    if goal.disks is not None:
        listed = dict(goal.disks)
        return {name: listed.get(name, False) for name in known}
    chosen = {name: not untrackable[name] for name in known}
    if not any(chosen.values()):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in untrackable.items()) or "it has no disks"
        raise InputError(
            "domain", domain.name, f"has no disk that can carry a checkpoint ({reasons})", "convert a disk"
        )
    return chosen


def differences(goal: CheckpointGoal, wanted: t.Mapping[str, bool] | None, found: Checkpoint) -> list[str]:
    """Return in words how an existing checkpoint differs from what was asked for."""
    words = []
    if goal.description and goal.description != found.description:
        words.append(f"description is {found.description!r}, not {goal.description!r}")
    has = {disk.name for disk in found.disks if disk.bitmap}
    for name, bitmap in (wanted or {}).items():
        if bitmap and name not in has:
            words.append(f"disk '{name}' has no bitmap in it")
        elif not bitmap and name in has:
            words.append(f"disk '{name}' has a bitmap in it")
    return words
