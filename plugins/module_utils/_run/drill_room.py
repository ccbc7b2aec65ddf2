# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Let the copies of drills have no more memory together than they may, whoever started them.

The ledger is libvirt's own: the copies that run, each with its mark. So nothing can be left in it by a play that was
killed, but the copy itself. Between the look and the start of a copy a lock keeps others out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import LibvirtFailure, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.libvirt_error import NO_DOMAIN
from ansible_collections.virt.backup.plugins.module_utils._model.size import in_units, parse_size
from ansible_collections.virt.backup.plugins.module_utils._run.export import SOCKET_DIRECTORY
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_memory import memory_of
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_record import read_record

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle, Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._run.domain_request import DomainRequest

_LOOK_SECONDS = 1.0


@contextlib.contextmanager
def room_for(hypervisor: Hypervisor, request: DomainRequest, xml: str) -> Iterator[float]:
    """Wait until there is room for the copy, and keep others out while it starts; yield the seconds of waiting.

    :raises StateError: there never is, or not within ``memory_wait`` seconds; no copy was started.
    """
    limit, needed, began = parse_size(request.memory_limit) or 0, memory_of(xml), time.monotonic()
    if limit and needed > limit:
        what = f"{in_units(needed)} of memory are more than the limit of {in_units(limit)} for all drills"
        raise StateError(f"memory_limit: domain '{request.new_name}' can't start, its {what}; raise the limit.")
    while limit:
        with _alone():
            held = _held(hypervisor)
            if sum(held.values()) + needed <= limit:
                yield time.monotonic() - began
                return
        if time.monotonic() - began >= request.memory_wait:
            raise StateError(
                f"memory_limit: within {request.memory_wait} seconds there was no room for the {in_units(needed)} of "
                f"domain '{request.new_name}' in {in_units(limit)}; {', '.join(held)} had "
                f"{in_units(sum(held.values()))}. Wait, raise the limit, or end what a killed drill left."
            )
        time.sleep(_LOOK_SECONDS)
    yield 0.0


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    fd = os.open(SOCKET_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _held(hypervisor: Hypervisor) -> dict[str, int]:
    """Return the copies that run, and the bytes of memory of each."""
    found = ((handle.name, _memory(handle)) for handle in hypervisor.domains())
    return {name: memory for name, memory in found if memory}


def _memory(handle: DomainHandle) -> int:
    try:
        xml = handle.definition(secure=False) if handle.is_active() else ""
    except LibvirtFailure as failure:
        if failure.code == NO_DOMAIN:
            return 0  # it ended while we looked
        raise
    record = read_record(xml) if xml else None
    return memory_of(xml) if record is not None and record.isolated else 0
