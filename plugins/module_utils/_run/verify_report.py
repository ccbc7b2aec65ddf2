# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What came of a verification: per restore point, per damage, and as one sentence when anything is wrong."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.chain import chain_of
from ansible_collections.virt.backup.plugins.module_utils._decide.verification import broken_by, lineage
from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._store.files import is_directory
from ansible_collections.virt.backup.plugins.module_utils._store.stored import damaged_files
from ansible_collections.virt.backup.plugins.module_utils._store.verified import to_json

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point, Unreadable
    from ansible_collections.virt.backup.plugins.module_utils._model.verification import Verification

Json = dict[str, t.Any]


def report(
    uuid: str,
    before: Catalog,
    now: Catalog,
    wanted: Sequence[str],
    records: Mapping[str, Verification],
    done: Sequence[str],
) -> Outcome:
    """Return the outcome, or raise :class:`StateError` with the same result when something is wrong.

    ``before`` and ``now`` are the catalog when the verification began and ended; ``records`` are the newest by id, and
    ``done`` the ids that this call looked at.
    """
    gone = [identifier for identifier in wanted if not _is_there(before, identifier)]
    there = [identifier for identifier in wanted if identifier not in gone]
    damaged = _damaged(now, there, records)
    points = [_point(now, identifier, records.get(identifier), damaged) for identifier in there]
    result: Json = {
        "domain_uuid": uuid,
        "verified": [identifier for identifier in done if identifier not in gone],
        "restore_points": points,
        "damaged": damaged,
        "gone": gone,
    }
    changed = bool(result["verified"])
    bad = [point for point in points if not point["good"]]
    if bad:
        raise StateError(_sentence(bad, damaged), changed=changed, **result)
    return Outcome(changed, result)


def _is_there(catalog: Catalog, identifier: str) -> bool:
    found = catalog.point(identifier) or next(entry for entry in catalog.unreadable if entry.id == identifier)
    return is_directory(found.path)


def _damaged(catalog: Catalog, wanted: Sequence[str], records: Mapping[str, Verification]) -> list[Json]:
    """Return everything damaged in what was asked about and below it, with the restore points that each breaks."""
    found: dict[tuple[str, str, str], Json] = {}

    def add(identifier: str, file: str, problem: str, disks: Sequence[str], breaks: Sequence[str]) -> None:
        entry = found.setdefault(
            (identifier, file, problem),
            {"id": identifier, "file": file, "problem": problem, "disks": [], "breaks": []},
        )
        entry["disks"] = sorted({*entry["disks"], *disks})
        entry["breaks"] = sorted({*entry["breaks"], *breaks})

    for identifier in wanted:
        for unreadable in catalog.unreadable:
            if unreadable.id == identifier:
                _add_unreadable(catalog, unreadable, add)
        point = catalog.point(identifier)
        if point is not None:
            _add_point(catalog, point, records, add)
    return [found[key] for key in sorted(found)]


Add = t.Callable[[str, str, str, "Sequence[str]", "Sequence[str]"], None]


def _add_unreadable(catalog: Catalog, entry: Unreadable, add: Add) -> None:
    breaks = [entry.id, *broken_by(catalog, entry.id)]
    found = damaged_files(entry.path, None)
    for damage in found:
        add(entry.id, damage.name, damage.problem, (), breaks)
    if not found:
        add(entry.id, "", entry.problem, (), breaks)


def _add_point(catalog: Catalog, point: Point, records: Mapping[str, Verification], add: Add) -> None:
    below = {
        (identifier, disk.name) for disk in point.manifest.disks for identifier in lineage(catalog, point.id, disk.name)
    }
    for identifier, disk in sorted(below):
        known = catalog.point(identifier)
        unreadable = next((entry for entry in catalog.unreadable if entry.id == identifier), None)
        if unreadable:
            _add_unreadable(catalog, unreadable, add)
        elif known is None or known.manifest.disk(disk) is None:
            problem = f"the image of {disk} in {identifier} is missing."
            add(identifier, "", problem, [disk], broken_by(catalog, identifier, [disk]))
        elif known.fault(disk) and disk not in _marks(records.get(identifier)):
            add(identifier, "", known.fault(disk), [disk], broken_by(catalog, identifier, [disk]))
    for identifier in {identifier for identifier, _disk in below}:
        record = records.get(identifier)
        for damage in record.damage if record else ():
            if damage.disk and (identifier, damage.disk) in below:
                breaks = broken_by(catalog, identifier, [damage.disk])
                add(identifier, damage.file, damage.problem, [damage.disk], breaks)
            elif identifier == point.id:
                add(identifier, damage.file, damage.problem, (), [point.id])


def _marks(record: Verification | None) -> dict[str, str]:
    return record.disk_damage() if record else {}


def _point(catalog: Catalog, identifier: str, record: Verification | None, damaged: Sequence[Json]) -> Json:
    point = catalog.point(identifier)
    problems = [f"{entry['id']}: {entry['problem']}" for entry in damaged if identifier in entry["breaks"]]
    problems += [f"{identifier}: {sentence}" for sentence in (record.errors if record else ())]
    shown = to_json(record) if record else None
    if point is None:
        path = next(entry.path for entry in catalog.unreadable if entry.id == identifier)
        return {"id": identifier, "path": path, "good": False, "problems": problems, "disks": [], "record": shown}
    content = {entry.disk: entry for entry in record.content} if record else {}
    disks = [
        {
            "name": disk.name,
            "problem": chain_of(catalog, identifier, disk.name).problem,
            "content_verified": disk.name in content and content[disk.name].verified,
            "content_reason": content[disk.name].reason if disk.name in content else "",
        }
        for disk in point.manifest.disks
    ]
    good = not problems and record is not None and not any(disk["problem"] for disk in disks)
    return {"id": identifier, "path": point.path, "good": good, "problems": problems, "disks": disks, "record": shown}


def _sentence(bad: Sequence[Json], damaged: Sequence[Json]) -> str:
    named = [
        f"{os.path.join(entry['id'], entry['file']).rstrip('/')} ({entry['problem'].rstrip('.')}) "
        f"breaks {', '.join(entry['breaks'])}"
        for entry in damaged
    ]
    told = {f"{entry['id']}: {entry['problem']}" for entry in damaged}
    others = [problem.rstrip(".") for point in bad for problem in point["problems"] if problem not in told]
    what = "; ".join([*named, *others]) or "their chains are not whole"
    ids = ", ".join(point["id"] for point in bad)
    remedy = "bring the files back from a copy, or rely on other restore points" if damaged else "verify again then"
    return f"Not verified as good: {ids}: {what}; {remedy}."
