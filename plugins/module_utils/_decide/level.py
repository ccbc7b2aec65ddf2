# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The one place that decides whether a disk's image will be full or incremental, and says why.

The rules are an ordered list; the first that has an opinion wins. A new rule is one function and one entry in
``_RULES``. The test of usability is that of libvirt's ``VIR_DOMAIN_CHECKPOINT_XML_SIZE``: a disk that is listed with a
size has a valid bitmap, one that is listed without has lost it, one that is not listed was never tracked (Red Hat bug
1829829). The last word is error 109 when the job begins; a disk that libvirt named there comes back in ``refused``.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.level import BackupMode, Level

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True)
class LevelFacts:
    """All that bears on one disk's level.

    ``checkpoint_name`` is the base that was asked for, ``checkpoint`` what the domain has under that name.
    ``untrackable`` is why the disk cannot carry a bitmap, empty when it can. ``refused`` is libvirt's own sentence
    when it refused this bitmap (error 109).
    """

    disk: str
    mode: BackupMode = BackupMode.AUTO
    checkpoint_name: str = ""
    checkpoint: Checkpoint | None = None
    untrackable: str = ""
    refused: str = ""


@dataclasses.dataclass(frozen=True)
class LevelDecision:
    """The level of one disk. ``dirty_bytes`` is what changed since the base, ``None`` where that is not known."""

    level: Level
    reason: str
    incremental: str = ""
    dirty_bytes: int | None = None


def why_unusable(disk: str, checkpoint: Checkpoint) -> str:
    """Return why the disk's bitmap of this (measured) checkpoint is no base, or an empty string when it is one."""
    entry = checkpoint.disk(disk)
    if entry is None or not entry.bitmap:
        covers = f"checkpoint '{checkpoint.name}' does not cover disk '{disk}'"
        return f"{covers}: it was added later, or left out of the checkpoint"
    if checkpoint.measured and entry.dirty_bytes is None:
        return f"the bitmap of checkpoint '{checkpoint.name}' is missing or broken on disk '{disk}'"
    return ""


def _forced_full(facts: LevelFacts) -> LevelDecision | None:
    if facts.mode is not BackupMode.FULL:
        return None
    return LevelDecision(Level.FULL, "a full backup was asked for")


def _no_base_named(facts: LevelFacts) -> LevelDecision | None:
    if facts.checkpoint_name:
        return None
    return LevelDecision(Level.FULL, "no checkpoint was named to start from")


def _cannot_track(facts: LevelFacts) -> LevelDecision | None:
    return LevelDecision(Level.FULL, facts.untrackable) if facts.untrackable else None


def _base_unknown(facts: LevelFacts) -> LevelDecision | None:
    if facts.checkpoint is not None:
        return None
    return LevelDecision(Level.FULL, f"the domain has no checkpoint '{facts.checkpoint_name}'")


def _base_unusable(facts: LevelFacts) -> LevelDecision | None:
    reason = why_unusable(facts.disk, facts.checkpoint) if facts.checkpoint else ""
    return LevelDecision(Level.FULL, reason) if reason else None


def _base_refused(facts: LevelFacts) -> LevelDecision | None:
    return LevelDecision(Level.FULL, f"libvirt refused the bitmap: {facts.refused}") if facts.refused else None


_RULES: tuple[Callable[[LevelFacts], LevelDecision | None], ...] = (
    _forced_full,
    _no_base_named,
    _cannot_track,
    _base_unknown,
    _base_unusable,
    _base_refused,
)


def decide_level(facts: LevelFacts) -> LevelDecision:
    """Return the level of a disk with its reason: the first rule's answer, or incremental when none objects."""
    for rule in _RULES:
        decision = rule(facts)
        if decision is not None:
            return decision
    entry = facts.checkpoint.disk(facts.disk) if facts.checkpoint else None
    dirty = entry.dirty_bytes if entry else None
    amount = "what" if dirty is None else f"{dirty} bytes"
    return LevelDecision(
        Level.INCREMENTAL,
        f"{amount} changed since checkpoint '{facts.checkpoint_name}'",
        facts.checkpoint_name,
        dirty,
    )
