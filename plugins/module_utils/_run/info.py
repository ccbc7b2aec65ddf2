# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Look without touching: a domain's disks, checkpoints and job, the hypervisor's domains and versions."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.status import FORMAT as STATUS_FORMAT
from ansible_collections.virt.backup.plugins.module_utils._decide.capability import why_no_backup, why_not_by_default
from ansible_collections.virt.backup.plugins.module_utils._decide.names import (
    check_absolute,
    check_checkpoint_name,
    check_given,
    check_printable,
)
from ansible_collections.virt.backup.plugins.module_utils._libvirt import connect
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.backup_report import server_result
from ansible_collections.virt.backup.plugins.module_utils._run.checkpoint import checkpoint_result
from ansible_collections.virt.backup.plugins.module_utils._run.observe import observe
from ansible_collections.virt.backup.plugins.module_utils._run.state_files import state_files
from ansible_collections.virt.backup.plugins.module_utils._store.files import NotJson, read_json
from ansible_collections.virt.backup.plugins.module_utils._xml.domain import parse_domain

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle, Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Disk, Domain
    from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob
    from ansible_collections.virt.backup.plugins.module_utils._run.observe import Observation

_URI = "a connection URI such as qemu:///system"


def checkpoint_info(uri: str, domain: str, *, name: str, size: bool) -> Outcome:
    """Return the checkpoints of a domain, parents first; all of them, or the one that is named."""
    check_given("uri", uri, _URI)
    check_given("domain", domain, "a name or UUID")
    if name:
        check_checkpoint_name("name", name)
    with connect(uri) as hypervisor:
        handle = hypervisor.domain(domain)
        seen = observe(handle, measure=size, local=hypervisor.is_local)
        if size and not seen.active:
            remedy = "start the domain, or leave size out"
            raise InputError("size", True, f"cannot be had while domain '{seen.domain.name}' is off", remedy)
        found = [checkpoint_result(item) for item in seen.checkpoints if name in ("", item.name)]
        for entry in found:
            entry["xml"] = handle.checkpoint_xml(entry["name"]) or ""
    return Outcome(False, {"checkpoints": found})


def backup_info(uri: str, domain: str, *, secure: bool, status_file: str = "") -> Outcome:
    """Return what a backup would meet: of one domain, or (without one) the list of the hypervisor's domains.

    With ``status_file`` also how far the copy that writes it is.
    """
    check_given("uri", uri, _URI)
    check_printable("domain", domain)
    progress = {"progress": _progress(status_file)} if status_file else {}
    with connect(uri) as hypervisor:
        result: dict[str, t.Any] = {
            "versions": hypervisor.versions(),
            "features": {"incremental_backup": hypervisor.supports_backup()},
            **progress,
        }
        if domain:
            result.update(_domain_info(hypervisor, hypervisor.domain(domain), secure=secure))
        else:
            result["domains"] = [_brief(handle) for handle in hypervisor.domains()]
    return Outcome(False, result)


def _progress(path: str) -> dict[str, t.Any] | None:
    """Return what ``nbd_extract`` last wrote into its status file, or ``None`` as long as it wrote nothing."""
    check_absolute("status_file", path)
    remedy = "give the status_file of a running nbd_extract"
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    except NotJson as error:
        raise InputError("status_file", path, f"can't be understood: {error.message.rstrip('.')}", remedy) from error
    if content.get("format") != STATUS_FORMAT or not {"updated", "images", "total"} <= content.keys():
        raise InputError("status_file", path, "is not a status file of this version", remedy)
    return {name: content[name] for name in ("updated", "images", "total")}


def _brief(handle: DomainHandle) -> dict[str, t.Any]:
    return {
        "name": handle.name,
        "uuid": handle.uuid,
        "state": handle.state(),
        "persistent": handle.is_persistent(),
    }


def _domain_info(hypervisor: Hypervisor, handle: DomainHandle, *, secure: bool) -> dict[str, t.Any]:
    seen = observe(handle, local=hypervisor.is_local)
    xml, xml_is = _definition(handle, seen, secure=secure)
    return {
        "domain": {
            **_brief(handle),
            "agent_channel": seen.domain.has_agent_channel,
            "agent_connected": seen.domain.agent_connected,
            "nvram": "" if seen.domain.nvram is None else seen.domain.nvram.path,
            "tpm": "" if seen.domain.tpm is None else seen.domain.tpm.backend,
        },
        "state_files": [dataclasses.asdict(file) for file in state_files(seen.domain, local=hypervisor.is_local)],
        "xml": xml,
        "xml_is": xml_is,
        "disks": [_disk_info(disk, seen) for disk in seen.domain.disks],
        "checkpoints": [checkpoint_result(checkpoint) for checkpoint in seen.checkpoints],
        "job": None if seen.job is None else _job_info(seen.job),
    }


def _definition(handle: DomainHandle, seen: Observation, *, secure: bool) -> tuple[str, str]:
    """Return the XML that fits the disks that a backup would hold, and where it is from.

    That is the persistent definition, unless disks were attached or detached in the running domain only.
    """
    if handle.is_persistent() or not seen.active:
        xml = handle.definition(secure=secure)
        if not seen.active or _places(parse_domain(xml)) == _places(seen.domain):
            return xml, "definition"
    return handle.definition(secure=secure, running=True), "running"


def _places(domain: Domain) -> dict[str, str]:
    return {disk.name: disk.source for disk in domain.disks}


def _disk_info(disk: Disk, seen: Observation) -> dict[str, t.Any]:
    backup_reason = why_no_backup(disk)
    default_reason = why_not_by_default(disk)
    checkpoint_reason = seen.untrackable[disk.name]
    return {
        "name": disk.name,
        "device": disk.device,
        "bus": disk.bus,
        "type": disk.source_type,
        "source": disk.source,
        "format": disk.format,
        "serial": disk.serial,
        "inode": disk.inode,
        "virtual_size": disk.virtual_size,
        "readonly": disk.readonly,
        "transient": disk.transient,
        "backup": not backup_reason,
        "backup_reason": backup_reason,
        "by_default": not default_reason,
        "by_default_reason": default_reason,
        "checkpoint": not checkpoint_reason,
        "checkpoint_reason": checkpoint_reason,
    }


def _job_info(job: BackupJob) -> dict[str, t.Any]:
    return {
        "mode": job.mode,
        "server": server_result(job.server),
        "whose": job.describe(),
        "disks": [
            {
                "name": disk.name,
                "level": disk.level.value,
                "incremental": disk.incremental,
                "exportname": disk.exportname,
                "exportbitmap": disk.exportbitmap,
                "path": disk.path,
            }
            for disk in job.participating
        ],
    }
