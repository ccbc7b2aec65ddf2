# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Where each disk's next image starts: the one place that knows Rule 2 of the design.

The base of an increment is the newest published restore point that has an image of that same disk, and nothing else:
not the newest restore point, when that skipped the disk, although its checkpoint may carry a bitmap of it; and not an
older image, when the newest is broken, so that a silent gap can't come about. The rules are an ordered list. Each looks
at the facts and either says why this disk must be full, or nothing. A new rule is a function, an entry in ``RULES``, a
member of :class:`BaseReason` and a row in the table test.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.chain import Chain, chain_of, newest_with
from ansible_collections.virt.backup.plugins.module_utils._model.base_plan import (
    BaseReason,
    DomainCheckpoint,
    DomainDisk,
    Policy,
)
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point
    from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import ManifestDisk


_NO_CHAIN = Chain(())


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A reason and its sentence, which carries the values."""

    reason: BaseReason
    sentence: str


@dataclasses.dataclass(frozen=True)
class DiskBase:
    """The plan for a disk: ``base`` is the id to build on, ``incremental`` its checkpoint; both empty for a full."""

    disk: DomainDisk
    level: Level
    verdict: Verdict
    base: str = ""
    incremental: str = ""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the rules look at, for one disk. ``point``, ``image`` and ``chain`` belong to its newest image."""

    disk: DomainDisk
    others: tuple[DomainDisk, ...]
    policy: Policy
    now: datetime.datetime
    checkpoints: tuple[DomainCheckpoint, ...]
    point: Point | None = None
    image: ManifestDisk | None = None
    chain: Chain = _NO_CHAIN
    full_from: datetime.datetime | None = None

    @property
    def checkpoint(self) -> DomainCheckpoint | None:
        """The checkpoint of the newest image, when the domain has it."""
        name = self.point.manifest.checkpoint if self.point else ""
        return next((checkpoint for checkpoint in self.checkpoints if checkpoint.name == name), None)


def _requested(facts: Facts) -> Verdict | None:
    return Verdict(BaseReason.FULL_REQUESTED, "a full backup was asked for") if facts.policy.full else None


def _no_bitmap_possible(facts: Facts) -> Verdict | None:
    problem = facts.disk.bitmap_problem
    return Verdict(BaseReason.NO_BITMAP_POSSIBLE, f"the disk can't be tracked: {problem}") if problem else None


def _no_earlier_image(facts: Facts) -> Verdict | None:
    if facts.image is not None:
        return None
    return Verdict(BaseReason.NO_EARLIER_IMAGE, "no restore point in this repository has an image of this disk yet")


def _source_changed(facts: Facts) -> Verdict | None:
    if facts.image is None or facts.image.identity.source == facts.disk.identity.source:
        return None
    old, new = facts.image.identity.source, facts.disk.identity.source
    now_at = next((disk.name for disk in facts.others if disk.identity.source == old), "")
    moved = f" (which is {now_at} now)" if now_at else ""
    return Verdict(BaseReason.SOURCE_CHANGED, f"the disk's source changed from {old!r}{moved} to {new!r}")


def _file_replaced(facts: Facts) -> Verdict | None:
    """libvirt gives the bitmaps of all disks one name, so another disk's file under this path would look usable."""
    if facts.image is None or not facts.image.identity.another_file(facts.disk.identity):
        return None
    source = facts.disk.identity.source
    return Verdict(
        BaseReason.FILE_REPLACED, f"there is another file at {source!r} now than when its last image was taken"
    )


def _serial_changed(facts: Facts) -> Verdict | None:
    if facts.image is None or facts.image.identity.serial == facts.disk.identity.serial:
        return None
    old, new = facts.image.identity.serial, facts.disk.identity.serial
    return Verdict(BaseReason.SERIAL_CHANGED, f"the disk's serial changed from {old!r} to {new!r}")


def _format_changed(facts: Facts) -> Verdict | None:
    if facts.image is None or facts.image.identity.format == facts.disk.identity.format:
        return None
    old, new = facts.image.identity.format, facts.disk.identity.format
    return Verdict(BaseReason.FORMAT_CHANGED, f"the disk's format changed from {old} to {new}")


def _encryption_changed(facts: Facts) -> Verdict | None:
    """A chain is encrypted as a whole or not at all, so that it never tells a part of what another part protects."""
    if facts.image is None or facts.image.encryption == facts.policy.encryption:
        return None
    old, new = facts.image.encryption, facts.policy.encryption
    return Verdict(BaseReason.ENCRYPTION_CHANGED, f"the encryption of the images changed from {old} to {new}")


def _resized(facts: Facts) -> Verdict | None:
    if facts.image is None or facts.image.identity.virtual_size == facts.disk.identity.virtual_size:
        return None
    old, new = facts.image.identity.virtual_size, facts.disk.identity.virtual_size
    return Verdict(BaseReason.RESIZED, f"the disk was resized from {old} to {new} bytes")


def _chain_broken(facts: Facts) -> Verdict | None:
    problem = facts.chain.problem
    return Verdict(BaseReason.CHAIN_BROKEN, f"the chain to build on is broken: {problem}") if problem else None


def _base_distrusted(facts: Facts) -> Verdict | None:
    """Whether the bitmap lied or the image rotted is not known here; either way nothing tells what changed since."""
    why = facts.point.distrust(facts.disk.name) if facts.point else ""
    if facts.point is None or not why:
        return None
    return Verdict(BaseReason.BASE_DISTRUSTED, f"an earlier run found its last image ({facts.point.id}) no base: {why}")


def _no_bitmap_then(facts: Facts) -> Verdict | None:
    if facts.image is None or facts.point is None or facts.image.bitmap:
        return None
    return Verdict(
        BaseReason.NO_BITMAP_THEN, f"the disk wasn't tracked yet when its last image ({facts.point.id}) was taken"
    )


def _full_due_days(facts: Facts) -> Verdict | None:
    limit = facts.policy.full_every_days
    if not limit or facts.full_from is None:
        return None
    age = facts.now - facts.full_from
    if age.total_seconds() < limit * 86400:
        return None
    return Verdict(
        BaseReason.FULL_DUE_DAYS,
        f"a full is due every {limit} days and the last one ({facts.chain.ids[0]}) is {age.days} days old",
    )


def _full_due_increments(facts: Facts) -> Verdict | None:
    limit = facts.policy.full_every_increments
    if not limit or facts.chain.increments < limit:
        return None
    return Verdict(
        BaseReason.FULL_DUE_INCREMENTS,
        f"a full is due after {limit} increments and the chain has {facts.chain.increments}",
    )


def _checkpoint_missing(facts: Facts) -> Verdict | None:
    if facts.point is None or facts.checkpoint is not None:
        return None
    name = facts.point.manifest.checkpoint
    stored = facts.point.manifest.has_file("checkpoint.xml")
    hint = ", but it can be redefined from the repository" if stored else ""
    return Verdict(BaseReason.CHECKPOINT_MISSING, f"the domain no longer has the checkpoint {name}{hint}")


def _not_in_checkpoint(facts: Facts) -> Verdict | None:
    checkpoint = facts.checkpoint
    if checkpoint is None or checkpoint.disk(facts.disk.name) is not None:
        return None
    return Verdict(BaseReason.DISK_NOT_IN_CHECKPOINT, f"the checkpoint {checkpoint.name} doesn't track this disk")


def _bitmap_unusable(facts: Facts) -> Verdict | None:
    checkpoint = facts.checkpoint
    state = checkpoint.disk(facts.disk.name) if checkpoint else None
    if checkpoint is None or state is None or not state.problem:
        return None
    return Verdict(BaseReason.BITMAP_UNUSABLE, f"the bitmap of {checkpoint.name} can't be used: {state.problem}")


RULES: tuple[Callable[[Facts], Verdict | None], ...] = (
    _requested,
    _no_bitmap_possible,
    _no_earlier_image,
    _source_changed,
    _file_replaced,
    _serial_changed,
    _format_changed,
    _encryption_changed,
    _resized,
    _chain_broken,
    _base_distrusted,
    _no_bitmap_then,
    _full_due_days,
    _full_due_increments,
    _checkpoint_missing,
    _not_in_checkpoint,
    _bitmap_unusable,
)


def decide_base(facts: Facts) -> DiskBase:
    """Return the plan for one disk: the first rule that objects makes it full, else it is an increment."""
    for rule in RULES:
        verdict = rule(facts)
        if verdict is not None:
            return DiskBase(facts.disk, Level.FULL, verdict)
    if facts.point is None:
        raise AssertionError("Contract violation: an increment without a base")
    verdict = Verdict(BaseReason.INCREMENTAL, f"the changes since {facts.point.id}, its last image")
    return DiskBase(facts.disk, Level.INCREMENTAL, verdict, facts.point.id, facts.point.manifest.checkpoint)


def decide_bases(
    disks: Sequence[DomainDisk],
    catalog: Catalog,
    checkpoints: Sequence[DomainCheckpoint],
    policy: Policy,
    now: datetime.datetime,
) -> list[DiskBase]:
    """Return the plan for each disk, in the order given."""
    return [decide_base(_facts(disk, disks, catalog, checkpoints, policy, now)) for disk in disks]


def _facts(
    disk: DomainDisk,
    disks: Sequence[DomainDisk],
    catalog: Catalog,
    checkpoints: Sequence[DomainCheckpoint],
    policy: Policy,
    now: datetime.datetime,
) -> Facts:
    others = tuple(other for other in disks if other.name != disk.name)
    facts = Facts(disk, others, policy, now, tuple(checkpoints))
    newest = newest_with(catalog.points, disk.name)
    if newest is None:
        return facts
    point, image = newest
    chain = chain_of(catalog, point.id, disk.name)
    full = catalog.point(chain.ids[0]) if chain.ids else None
    started = full.manifest.created if full else None
    return dataclasses.replace(facts, point=point, image=image, chain=chain, full_from=started)
