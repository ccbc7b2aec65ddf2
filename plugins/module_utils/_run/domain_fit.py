# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Fit a stored definition to the host: the machine first, then every part that needs something of it."""

from __future__ import annotations

import dataclasses
import functools
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.copy_names import path_of_copy
from ansible_collections.virt.backup.plugins.module_utils._decide.host_fit import (
    HostFacts,
    emulator_here,
    why_no_guest,
    why_not_here,
)
from ansible_collections.virt.backup.plugins.module_utils._decide.restore_verdict import judge
from ansible_collections.virt.backup.plugins.module_utils._model.definition import Identity, Rewrite
from ansible_collections.virt.backup.plugins.module_utils._run.domain_host import Inspector, wrong_formats
from ansible_collections.virt.backup.plugins.module_utils._xml.definition import rewrite
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_needs import needs_of, without_parts
from ansible_collections.virt.backup.plugins.module_utils._xml.host import parse_abilities, parse_asked

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._model.definition import Rewritten
    from ansible_collections.virt.backup.plugins.module_utils._model.host import Asked, Host
    from ansible_collections.virt.backup.plugins.module_utils._run.domain_request import DomainRequest


@dataclasses.dataclass(frozen=True)
class Draft:
    """The definition as it is wanted, before the host was asked what it has of it."""

    stored: str
    rewriting: Rewrite
    original: Asked

    @functools.cached_property
    def result(self) -> Rewritten:
        """The rewritten definition."""
        return self.with_host()

    def with_host(self, **of_host: t.Any) -> Rewritten:
        """Return it with what the host has in the place of what it had."""
        copy = self.rewriting.copy or Identity(self.original.name, self.original.uuid)
        names = (self.original.name, copy.name, self.original.uuid, copy.uuid)
        return rewrite(
            self.stored, dataclasses.replace(self.rewriting, **of_host), lambda path: path_of_copy(path, *names)
        )


def draft_of(request: DomainRequest, stored: str, original: Asked, copy: Identity | None, host: Host) -> Draft:
    """Return the definition that the parameters ask for."""
    names = {field.name for field in dataclasses.fields(Rewrite)} & {
        field.name for field in dataclasses.fields(request)
    }
    same = {name: getattr(request, name) for name in names}
    return Draft(stored, Rewrite(copy=copy, secmodels=host.secmodels, **same), original)


@dataclasses.dataclass(frozen=True)
class Fit:
    """The definition that can be had on this host, or the problems that forbid it."""

    xml: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def fit(hypervisor: Hypervisor, host: Host, draft: Draft, request: DomainRequest, *, check: bool) -> Fit:
    """Ask the host. ``check``: the disks that will be restored need not be there yet."""
    asked = parse_asked(draft.result.xml)
    facts = _facts(hypervisor, host, asked)
    mine = hypervisor.is_local
    emulator = emulator_here(asked, facts, exists=os.access(asked.emulator, os.X_OK) if mine else None)
    firmware = bool(asked.firmware and asked.loader and mine and not os.path.exists(asked.loader))
    rewritten = draft.with_host(emulator=emulator, choose_firmware=firmware)
    needs = needs_of(rewritten.xml, [disk.name for disk in request.disks], copy=draft.rewriting.copy is not None)
    lacks = Inspector(hypervisor, facts.abilities, foresee=check).lacks(needs)
    verdict = judge(lacks, request.policies, start=request.state != "restored")
    notes = [*rewritten.notes]
    if emulator:
        notes.append(f"the emulator {asked.emulator} is not on this host, {emulator} is used")
    if firmware:
        notes.append(f"the firmware {asked.loader} is not on this host, libvirt looks for another like it")
    return Fit(
        xml=without_parts(rewritten.xml, verdict.remove, verdict.eject),
        problems=(
            *why_not_here(asked, facts),
            *verdict.problems,
            *(wrong_formats(request.disks) if mine and not check else ()),
        ),
        notes=tuple(notes),
        warnings=(*rewritten.warnings, *verdict.warnings),
    )


def _facts(hypervisor: Hypervisor, host: Host, asked: Asked) -> HostFacts:
    if why_no_guest(asked, host):
        return HostFacts(host)
    kind = (asked.arch, asked.virt_type, asked.machine)
    abilities = parse_abilities(hypervisor.domain_capabilities(*kind))
    complaint = hypervisor.cpu_complaint(asked.cpu, *kind) if asked.cpu else ""
    return HostFacts(host, abilities, complaint)
