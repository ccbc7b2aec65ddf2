# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Carry a planned restore out, and take all of it back when a part fails."""

from __future__ import annotations

import dataclasses
import hashlib
import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, StateError
from ansible_collections.virt.backup.plugins.module_utils._run.domain_state import Undo, place
from ansible_collections.virt.backup.plugins.module_utils._xml.definition import stopping_on_errors
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_record import (
    Record,
    with_record,
    without_places,
    without_record,
)

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle, Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._run.domain_state import Placement


_LOOKS, _LOOK_SECONDS = 50, 0.5


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is going to be done. ``existing`` is the domain whose definition is replaced, off, or ``None``.

    libvirt forgets a ``transient`` domain when it ends. It is defined all the same, so that what libvirt makes of it is
    known before it starts.
    ``movable`` are the disks that will be elsewhere later, ``stopping`` those on whose errors it stands still.
    """

    uuid: str
    xml: str
    record: Record
    placements: tuple[Placement, ...]
    existing: DomainHandle | None
    state: str
    transient: bool = False
    movable: tuple[str, ...] = ()
    stopping: tuple[str, ...] = ()


def bring_back(hypervisor: Hypervisor, plan: Plan) -> DomainHandle:
    """Place the files, define, and start if asked; a failure leaves all as it was.

    :raises BackupError: one step failed.
    """
    undo = Undo()
    try:
        handle = _carry_out(hypervisor, plan, undo)
    except BackupError as error:
        undo.roll_back(error)
        raise
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        failure = StateError(
            f"The state of the domain could not be put in place: {error.strerror}{where}; all is as it was."
        )
        undo.roll_back(failure)
        raise failure from error
    undo.settle()
    return handle


def _carry_out(hypervisor: Hypervisor, plan: Plan, undo: Undo) -> DomainHandle:
    old = plan.existing
    previous = "" if old is None else old.definition(secure=True)
    for placement in plan.placements:
        place(placement, undo)
    # Before it is done: a signal may come before the call has returned.
    undo.add("the definition", lambda: _take_back(hypervisor, plan.uuid, previous))
    handle = hypervisor.define(with_record(plan.xml, plan.record))
    made = without_record(handle.definition(secure=True))
    record = dataclasses.replace(plan.record, definition=digest_of_text(without_places(made, plan.movable)))
    handle = hypervisor.define(with_record(made, record))
    set_going(handle, plan.state, plan.stopping)
    if plan.transient:
        handle.undefine(keep_tpm=hypervisor.keeps_tpm())
    if old is not None and plan.state == "restored" and old.has_saved_state():
        old.drop_saved_state()
    return handle


def _take_back(hypervisor: Hypervisor, uuid: str, previous: str) -> None:
    handle = next((found for found in hypervisor.domains() if found.uuid == uuid), None)
    if handle is None:
        return
    persistent = handle.is_persistent()
    if handle.is_active():
        handle.destroy()
    if previous:
        hypervisor.define(previous)
    elif persistent:
        handle.undefine(keep_tpm=hypervisor.keeps_tpm())


def set_going(handle: DomainHandle, state: str, stopping: t.Collection[str] = ()) -> None:
    """Bring the domain into the state that was asked for; ``restored`` asks for none.

    On errors of the disks ``stopping`` it will stand still, for as long as it runs: its definition says what it said.
    """
    if state == "restored":
        return
    if not handle.is_active():
        if stopping:
            xml = stopping_on_errors(handle.definition(secure=True), stopping)
            handle.start_as(xml, paused=state == "paused")
        else:
            handle.start(paused=state == "paused")
    elif state == "running" and handle.state() == "paused":
        _resume(handle)


def _resume(handle: DomainHandle) -> None:
    """Let it go on; after an error of a disk, until it does.

    QEMU connects anew in the background to a server that is back, once in 16 seconds if that was away for long; what is
    read meanwhile fails once more.
    """
    stood_still = handle.is_paused_by_io_error()
    handle.resume()
    for _look in range(_LOOKS if stood_still else 0):
        time.sleep(_LOOK_SECONDS)
        if not handle.is_paused_by_io_error():
            return
        handle.resume()
    if stood_still:
        raise StateError(
            f"Domain '{handle.name}' stands still since a read or write of one of its disks fails (virsh domblkerror "
            "tells which); make room, or what it reads reachable again, and do the same once more. Nothing is lost."
        )


def would_set_going(handle: DomainHandle, state: str) -> bool:
    """Whether :func:`set_going` would change anything."""
    if state == "restored":
        return False
    return not handle.is_active() or (state == "running" and handle.state() == "paused")


def digest_of_text(text: str) -> str:
    """Return the digest of a text as ``sha256:<hex>``."""
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()}"
