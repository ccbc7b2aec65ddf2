# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Define a domain again from what a restore point holds of it: observe, decide, and unless in check mode act."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._libvirt import connect
from ansible_collections.virt.backup.plugins.module_utils._model.definition import Identity
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.domain_act import (
    Plan,
    bring_back,
    digest_of_text,
    set_going,
    would_set_going,
)
from ansible_collections.virt.backup.plugins.module_utils._run.domain_fit import draft_of, fit
from ansible_collections.virt.backup.plugins.module_utils._run.domain_host import clashes, neighbours, ways_out
from ansible_collections.virt.backup.plugins.module_utils._run.domain_identity import macs_of_copy, uuid_of_copy
from ansible_collections.virt.backup.plugins.module_utils._run.domain_remove import (
    check_removable,
    own_nvram,
    remove,
    unlink,
)
from ansible_collections.virt.backup.plugins.module_utils._run.domain_report import result_of
from ansible_collections.virt.backup.plugins.module_utils._run.domain_request import check_request
from ansible_collections.virt.backup.plugins.module_utils._run.domain_source import from_content, from_restore_point
from ansible_collections.virt.backup.plugins.module_utils._run.domain_state import (
    placement_problems,
    placements,
    state_warnings,
)
from ansible_collections.virt.backup.plugins.module_utils._run.drill_room import room_for
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import world
from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import PointRequest, find_point
from ansible_collections.virt.backup.plugins.module_utils._xml.definition import without_passwords
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_needs import macs_of
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_record import (
    Record,
    read_record,
    without_places,
    without_record,
)
from ansible_collections.virt.backup.plugins.module_utils._xml.domain import parse_domain
from ansible_collections.virt.backup.plugins.module_utils._xml.host import parse_asked, parse_host

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle, Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._model.host import Host
    from ansible_collections.virt.backup.plugins.module_utils._run.domain_fit import Draft
    from ansible_collections.virt.backup.plugins.module_utils._run.domain_host import Neighbour
    from ansible_collections.virt.backup.plugins.module_utils._run.domain_request import DomainRequest
    from ansible_collections.virt.backup.plugins.module_utils._run.domain_source import Source


@dataclasses.dataclass(frozen=True)
class Scene:
    """What was seen: the host, its other domains, and the one that has the UUID already, if any."""

    source: Source
    host: Host
    draft: Draft
    who: Identity
    others: tuple[Neighbour, ...]
    existing: DomainHandle | None

    @property
    def record(self) -> Record:
        """The mark that this restore leaves. Its digest is of what is asked for, not of what the host makes of it."""
        files = {file.name: file.digest for file in self.source.files}
        asked = json.dumps([self.draft.result.xml, files, self.source.restore_point], sort_keys=True)
        return Record(self.source.restore_point, digest_of_text(asked), isolated=self.draft.rewriting.isolated)


def restore_domain(request: DomainRequest, *, check: bool) -> Outcome:
    """Define, and start if asked, the domain of a restore point.

    :raises InputError: a parameter can't be met.
    :raises StateError: the host lacks something, or what is there is in the way; nothing was changed.
    """
    check_request(request)
    with world("virt_restore"), connect(request.uri) as hypervisor:
        hypervisor.require_backups()
        scene = _look(hypervisor, request, _source(request))
        if request.state == "absent":
            return _remove(hypervisor, scene, request, check=check)
        if scene.existing is not None and _is_restored(scene, scene.existing, request):
            return _unchanged(scene, scene.existing, request, check=check)
        return _restore(hypervisor, scene, request, check=check)


def _source(request: DomainRequest) -> Source:
    if request.restore_point:
        return from_restore_point(request.restore_point)
    if request.repository:
        names = ("repository", "domain_uuid", "domain_name", "id", "before")
        found = find_point(PointRequest(**{name: getattr(request, name) for name in names}))
        return from_restore_point(found.point.path)
    return from_content(request.xml, request.state_files, request.id)


def _look(hypervisor: Hypervisor, request: DomainRequest, source: Source) -> Scene:
    stored = without_record(source.xml)
    original, host = parse_asked(stored), parse_host(hypervisor.capabilities())
    everybody, copy = neighbours(hypervisor), None
    if request.new_name:
        if request.new_name == original.name:
            raise InputError("as", request.new_name, "is the name of the original", "leave it out, or give another")
        uuid = uuid_of_copy(original, request.new_name, host.uuid)
        taken = {mac for other in everybody if other.uuid != uuid for mac in other.macs}
        copy = Identity(request.new_name, uuid, macs_of_copy(uuid, original.cards, taken))
    who = copy or Identity(original.name, original.uuid)
    found = any(other.uuid == who.uuid for other in everybody)
    return Scene(
        source=source,
        host=host,
        draft=draft_of(request, stored, original, copy, host),
        who=who,
        others=tuple(other for other in everybody if other.uuid != who.uuid),
        existing=hypervisor.domain(who.uuid) if found else None,
    )


# A copy that is not needed any more


def _remove(hypervisor: Hypervisor, scene: Scene, request: DomainRequest, *, check: bool) -> Outcome:
    existing, shown = scene.existing, ""
    if existing is not None:
        check_removable(existing)
        shown = without_record(existing.definition(secure=False))
    nvram = own_nvram(hypervisor, scene.draft.stored, shown or scene.draft.result.xml, scene.others)
    if existing is not None and not check:
        remove(existing)
    if nvram and not check:
        unlink(nvram)
    reason = "it was there" if existing is not None else f"no '{scene.who.name}' is there"
    if existing is None and nvram:
        reason += f", only its NVRAM {nvram} was"
    result = result_of(scene.who, shown or "<domain/>", scene.source.restore_point, "absent", request, reason=reason)
    return Outcome(bool(existing or nvram), result, before=shown, after="")


# A domain that was restored before


def _is_restored(scene: Scene, existing: DomainHandle, request: DomainRequest) -> bool:
    """Whether this very restore was made; a definition that was changed since counts, unless it may be replaced."""
    if request.again:
        return False
    return _same(scene, existing) and not (request.overwrite and _changed_since(existing, request))


def _same(scene: Scene, existing: DomainHandle) -> bool:
    record = read_record(existing.definition(secure=False)) if existing.is_persistent() else None
    return record is not None and record.wanted == scene.record.wanted


def _changed_since(existing: DomainHandle, request: DomainRequest) -> bool:
    """Whether others changed the definition; that a disk went to where it was to move is no change."""
    xml = existing.definition(secure=True)
    record = read_record(xml)
    if record is None or not record.definition:
        return False
    sources = {disk.name: disk.source for disk in parse_domain(xml).disks}
    # Of a volume libvirt tells the path after the move.
    known = {name: places for name, places in request.movable.items() if places[1].startswith("/")}
    at_home = all(sources.get(name) in places for name, places in known.items())
    return not at_home or record.definition != digest_of_text(without_places(xml, request.movable))


def _unchanged(scene: Scene, existing: DomainHandle, request: DomainRequest, *, check: bool) -> Outcome:
    changed = would_set_going(existing, request.state)
    if changed and not check:
        set_going(existing, request.state, request.stopping)
    xml = without_record(existing.definition(secure=False))
    warnings = []
    if _changed_since(existing, request):
        sentence = f"The definition of domain '{scene.who.name}' was changed since it was restored"
        warnings.append(f"{sentence}; it is left as it is (overwrite: true would replace it).")
    reason = "restored before" + (", and started now" if changed else "")
    told = (scene.who, xml, scene.source.restore_point, existing.state(), request)
    result = result_of(*told, reason=reason, before=True)
    return Outcome(changed, result, before=xml, after=xml, warnings=tuple(warnings))


# A domain that is to be restored


def _restore(hypervisor: Hypervisor, scene: Scene, request: DomainRequest, *, check: bool) -> Outcome:
    fitted = fit(hypervisor, scene.host, scene.draft, request, check=check)
    domain = parse_domain(fitted.xml)
    placed = placements(scene.source.files, domain)
    problems = [
        *_names_in_the_way(scene, request),
        *fitted.problems,
        *clashes(hypervisor, fitted.xml, scene.others),
        *(ways_out(hypervisor, request.network, scene.others) if request.isolated else ()),
        *placement_problems(placed, local=hypervisor.is_local, overwrite=request.overwrite),
    ]
    if problems:
        raise _refused(scene, problems)
    before = "" if scene.existing is None else without_record(scene.existing.definition(secure=False))
    warnings = [
        *fitted.warnings,
        *state_warnings(scene.source.files, domain, placed),
        *_left_behind(scene),
        *_shared_addresses(scene, fitted.xml),
    ]
    state = {"restored": "shutoff"}.get(request.state, request.state)
    waited = 0.0
    if not check:
        plan = Plan(
            scene.who.uuid,
            fitted.xml,
            scene.record,
            placed,
            scene.existing,
            request.state,
            transient=request.transient,
            movable=tuple(request.movable),
            stopping=request.stopping,
        )
        with room_for(hypervisor, request, fitted.xml) as waited:
            state = bring_back(hypervisor, plan).state()
    shown = without_passwords(fitted.xml)
    result = result_of(
        scene.who,
        shown,
        scene.source.restore_point,
        state,
        request,
        reason=_reason(scene, request),
        notes=fitted.notes,
        waited=waited,
    )
    return Outcome(True, result, before=before, after=shown, warnings=tuple(warnings))


def _refused(scene: Scene, problems: Sequence[str]) -> StateError:
    what = f"Domain '{scene.who.name}' can't be restored on this host"
    return StateError(f"{what}: {'; and '.join(problems)}. Nothing was changed.", problems=list(problems))


def _reason(scene: Scene, request: DomainRequest) -> str:
    if request.again and scene.existing is not None:
        return "it was asked for once more"
    if scene.existing is not None:
        return "the domain was defined otherwise"
    return f"no copy '{request.new_name}' was there" if request.new_name else "the domain was not defined"


def _names_in_the_way(scene: Scene, request: DomainRequest) -> list[str]:
    """Return what stands under the name or the UUID."""
    problems = [
        f"the name is taken by another domain (UUID {other.uuid}); give another with as, or rename that one"
        for other in scene.others
        if other.name == scene.who.name
    ]
    existing = scene.existing
    if existing is None:
        return problems
    if existing.name != scene.who.name:
        problems.append(f"its UUID {scene.who.uuid} is that of domain '{existing.name}'; give as, or undefine that one")
    elif existing.is_active():
        problems.append("it is running; shut it down first, or give as to restore a copy beside it")
    elif not request.overwrite:
        how = "" if request.again else ", and otherwise"
        problems.append(f"it is defined already{how}; set overwrite to replace the definition")
    return problems


def _left_behind(scene: Scene) -> list[str]:
    """Return what the replaced domain had that does not fit restored disks."""
    if scene.existing is None:
        return []
    found = []
    if scene.existing.has_saved_state():
        found.append("The saved memory of the domain (managed save) belongs to its old disks; it is deleted.")
    names = scene.existing.snapshot_names()
    if names:
        found.append(f"Snapshots of the domain ({', '.join(names)}) belong to its old disks; delete their metadata.")
    return found


def _shared_addresses(scene: Scene, xml: str) -> list[str]:
    """Return the network cards whose address another domain of the host has: legal, and in one network fatal."""
    return [
        f"Network card {mac} has the address of one of domain '{other.name}': keep them in different networks."
        for mac in macs_of(xml)
        for other in scene.others
        if mac in other.macs
    ]
