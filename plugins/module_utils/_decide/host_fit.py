# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Whether a host can run the machine that a definition describes: what is missing, and what could be done. Pure.

Each question is a function that looks at the facts and returns a sentence, or nothing. A definition that passes all can
still fail to start; what fails here could never start.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.host import Abilities

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.virt.backup.plugins.module_utils._model.host import Asked, Guest, Host


@dataclasses.dataclass(frozen=True)
class HostFacts:
    """What is known of the host. ``cpu_complaint``: what its processor lacks, ``None`` where libvirt can't tell."""

    host: Host
    abilities: Abilities = dataclasses.field(default_factory=Abilities)
    cpu_complaint: str | None = None

    def guest(self, asked: Asked) -> Guest | None:
        """What the host can run of the architecture."""
        return self.host.guests.get(asked.arch)


def why_no_guest(asked: Asked, host: Host) -> str:
    """Return why no machine of this kind can run here at all, or empty. The rest can be asked only if one can."""
    guest = host.guests.get(asked.arch)
    if guest is None:
        known = ", ".join(sorted(host.guests)) or "none"
        return f"this host has no emulator for {asked.arch} (it has: {known}); install QEMU's for that architecture"
    if asked.virt_type not in guest.machines:
        known = ", ".join(sorted(guest.machines))
        return (
            f"this host cannot run {asked.arch} domains of type {asked.virt_type} (it can: {known}); enable "
            "virtualisation on it, or set virt_type to qemu, which emulates and is many times slower"
        )
    return _machine(asked, guest)


def _machine(asked: Asked, guest: Guest) -> str:
    machines = guest.machines[asked.virt_type]
    if not asked.machine or asked.machine in machines:
        return ""
    family = family_of(asked.machine)
    alike = [name for name in machines if family_of(name) == family]
    near = f"it has {', '.join(alike[:6])}" if alike else f"it has none of the family {family}"
    remedy = f"set machine to {family if family in machines else (alike or machines or ('another',))[0]}"
    return f"machine type {asked.machine} is unknown to this host's QEMU ({near}); {remedy}, or update QEMU"


def family_of(machine: str) -> str:
    """Return the family of a machine type, which is also the name of its newest member: ``q35``, ``pc``, ``virt``."""
    if "q35" in machine:
        return "q35"
    if "i440fx" in machine or machine == "pc":
        return "pc"
    return machine.partition("-")[0]


def _mode(asked: Asked, facts: HostFacts) -> str:
    modes = facts.abilities.modes
    if not asked.cpu_mode or not modes or asked.cpu_mode in modes:
        return ""
    return f"CPU mode {asked.cpu_mode} is not possible here (possible: {', '.join(sorted(modes))}); set cpu"


def _processor(asked: Asked, facts: HostFacts) -> str:
    """libvirt's comparison knows the features that the definition turns on and off; the list of models does not."""
    models = facts.abilities.models
    if asked.cpu_mode != "custom" or asked.cpu_check == "none":
        return ""
    if asked.cpu_model and models and asked.cpu_model not in models:
        return f"CPU model {asked.cpu_model} is unknown to this host's libvirt; set cpu to host-model"
    usable, missing = models.get(asked.cpu_model, ("unknown", ()))
    complaint = facts.cpu_complaint
    if complaint is None and usable == "no":
        complaint = f"missing: {', '.join(missing) or 'not told'}"
    if not complaint:
        return ""
    return f"this host's processor can't be a {asked.cpu_model} ({complaint.rstrip('.')}); set cpu to host-model"


_QUESTIONS: tuple[Callable[[Asked, HostFacts], str], ...] = (_mode, _processor)


def why_not_here(asked: Asked, facts: HostFacts) -> list[str]:
    """Return all that keeps the machine from running on this host, a sentence each."""
    problem = why_no_guest(asked, facts.host)
    return [problem] if problem else [found for question in _QUESTIONS if (found := question(asked, facts))]


def emulator_here(asked: Asked, facts: HostFacts, *, exists: bool | None) -> str:
    """Return the emulator to put into the definition, empty to leave it. ``exists``: ``None`` if nobody can look."""
    own = facts.abilities.emulator
    known = {guest.emulator for guest in facts.host.guests.values()} | {own}
    stays = asked.emulator in known if exists is None else exists
    return "" if stays or not asked.emulator else own
