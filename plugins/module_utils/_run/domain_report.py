# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The result of ``virt_restore``, in check mode as in a real run."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.state_place import tpm_place
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_needs import macs_of
from ansible_collections.virt.backup.plugins.module_utils._xml.domain import parse_domain

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.definition import Identity
    from ansible_collections.virt.backup.plugins.module_utils._run.domain_request import DomainRequest


def result_of(
    who: Identity,
    xml: str,
    restore_point: str,
    state: str,
    request: DomainRequest,
    *,
    reason: str,
    before: bool = False,
    notes: Sequence[str] = (),
    waited: float = 0.0,
) -> dict[str, t.Any]:
    """Return what the module returns; ``before`` tells that this very restore was made earlier."""
    domain = parse_domain(xml)
    restored = {disk.name for disk in request.disks}
    emulated = domain.tpm is not None and domain.tpm.backend == "emulator"
    return {
        "domain": {"name": who.name, "uuid": who.uuid, "state": state},
        "restore_point": restore_point,
        "reason": reason,
        "restored_before": before,
        "notes": list(notes),
        "waited_seconds": round(waited, 1),
        "xml": xml,
        "disks": [
            {
                "name": disk.name,
                "device": disk.device,
                "type": disk.source_type,
                "source": disk.source,
                "format": disk.format,
                "restored": disk.name in restored,
            }
            for disk in domain.disks
        ],
        "macs": list(macs_of(xml)),
        "nvram": "" if domain.nvram is None else domain.nvram.path,
        "tpm": tpm_place(domain.tpm, domain.uuid) if domain.tpm is not None and emulated else "",
    }
