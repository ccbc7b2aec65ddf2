# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Who a copy is: derived from the original, the host and the new name, so that the same copy is always the same domain.

Nothing is random: check mode foresees the very XML, and a copy that is made again keeps the address that a DHCP server
has given it. The host's UUID takes part, as two hosts in one network may both have a copy of that name.
"""

from __future__ import annotations

import hashlib
import typing as t
import uuid as uuid_module

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible_collections.virt.backup.plugins.module_utils._model.host import Asked

_OUI = "52:54:00"
"""What QEMU's and libvirt's own MAC addresses begin with."""


def uuid_of_copy(original: Asked, name: str, host_uuid: str) -> str:
    """Return the UUID of the copy of that name on that host."""
    try:
        namespace = uuid_module.UUID(original.uuid)
    except ValueError:
        raise BackupError(
            f"The stored definition has no usable UUID ({original.uuid!r}), so no copy can be made."
        ) from None
    return str(uuid_module.uuid5(namespace, f"{host_uuid}/{name}"))


def macs_of_copy(uuid: str, cards: int, taken: Iterable[str]) -> tuple[str, ...]:
    """Return a MAC address for each network card; ``taken`` are those that other domains of the host have."""
    used = {address.lower() for address in taken}
    macs: list[str] = []
    for index in range(cards):
        macs.append(_free_mac(uuid, index, {*used, *macs}))
    return tuple(macs)


def _free_mac(uuid: str, index: int, used: set[str]) -> str:
    attempt = 0
    while True:
        digest = hashlib.sha256(f"{uuid}/{index}/{attempt}".encode()).hexdigest()
        mac = f"{_OUI}:{digest[0:2]}:{digest[2:4]}:{digest[4:6]}"
        if mac not in used:
            return mac
        attempt += 1
