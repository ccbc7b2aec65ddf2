# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The parameters of ``restore_point`` as the request of the use case that its state stands for."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.duration import seconds_of
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import LUKS, NONE
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import Consistency
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_absent import AbsentRequest, remove
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_compose import (
    PresentRequest,
    disk_claims,
    image_digests,
)
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import file_requests
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_input import (
    domain_checkpoints,
    domain_disks,
    mismatches,
    policy,
    skipped_disks,
)
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_present import publish
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_staged import StagedRequest, stage

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome

    Params = dict[str, t.Any]

# Which options a state has a use for. Anything else that is set says that the caller means another state.
_COMMON = frozenset({"repository", "domain_uuid", "state", "id", "token", "run"})
_USED = {
    "staged": _COMMON
    | {"domain_name", "disks", "skipped", "checkpoints", "full", "full_every_days", "full_every_increments", "max_age"}
    | {"lease", "socket", "status_file", "encryption", "mismatches"},
    "present": _COMMON | {"domain_name", "disks", "skipped", "images", "files", "versions", "consistency"},
    "absent": _COMMON | {"staging", "break_lock"},
}
# Defaults that are no choice of the caller's; Ansible fills in those of suboptions as well.
_UNSET: Params = {
    "lease": 3600,
    "max_age": "0",
    "consistency": {"frozen": False, "freeze_seconds": 0.0, "paused": False},
}


def use_case(params: Params, *, check: bool) -> Outcome:
    """Run what ``state`` stands for."""
    _refuse_unused(params)
    if params["state"] == "staged":
        return stage(_staged(params), check=check)
    if params["state"] == "present":
        return publish(_present(params), check=check)
    return remove(_absent(params), check=check)


def _refuse_unused(params: Params) -> None:
    state = params["state"]
    for name, value in params.items():
        if name not in _USED[state] and value and value != _UNSET.get(name):
            shown = "(hidden)" if name == "encryption" else value
            raise InputError(name, shown, f"means nothing with state {state}", "leave it out")


def _staged(params: Params) -> StagedRequest:
    disks = domain_disks(params["disks"])
    return StagedRequest(
        repository=params["repository"],
        domain_uuid=params["domain_uuid"],
        domain_name=params["domain_name"] or "",
        disks=disks,
        skipped=skipped_disks(params["skipped"], [disk.name for disk in disks]),
        checkpoints=domain_checkpoints(params["checkpoints"]),
        policy=policy(
            full=params["full"],
            full_every_days=params["full_every_days"],
            full_every_increments=params["full_every_increments"],
            encryption=LUKS if params["encryption"] else NONE,
        ),
        max_age=seconds_of("max_age", params["max_age"]),
        lease=params["lease"],
        run=params["run"],
        socket=params["socket"] or "",
        status_file=params["status_file"] or "",
        id=params["id"] or "",
        token=params["token"] or "",
        encryption=EncryptionRequest(**params["encryption"]) if params["encryption"] else None,
        mismatches=mismatches(params["mismatches"]),
    )


def _present(params: Params) -> PresentRequest:
    disks = disk_claims(params["disks"])
    consistency = params["consistency"]
    return PresentRequest(
        repository=params["repository"],
        domain_uuid=params["domain_uuid"],
        id=params["id"],
        token=params["token"],
        disks=disks,
        digests=image_digests(params["images"]),
        skipped=skipped_disks(params["skipped"], [disk.name for disk in disks]),
        files=file_requests(params["files"]),
        versions=tuple(sorted((str(name), str(value)) for name, value in params["versions"].items())),
        consistency=Consistency(
            frozen=bool(consistency.get("frozen")),
            freeze_seconds=float(consistency.get("freeze_seconds") or 0.0),
            paused=bool(consistency.get("paused")),
        ),
    )


def _absent(params: Params) -> AbsentRequest:
    return AbsentRequest(
        repository=params["repository"],
        domain_uuid=params["domain_uuid"],
        id=params["id"] or "",
        token=params["token"] or "",
        staging=params["staging"],
        break_lock=params["break_lock"],
        run=params["run"],
    )
