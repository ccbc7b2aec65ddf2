# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a repair looks at: both sides of a domain's backups, as they are."""

from __future__ import annotations

import dataclasses
import os
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.backup_plan import scratch_name
from ansible_collections.virt.backup.plugins.module_utils._decide.chain import PresentDisk, orphans, superseded
from ansible_collections.virt.backup.plugins.module_utils._decide.diagnose import DeadRun, Facts
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import DiskIdentity
from ansible_collections.virt.backup.plugins.module_utils._run.lost_server import serves
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import utc_now
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import checkpoint_xml
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_staged import leftovers
from ansible_collections.virt.backup.plugins.module_utils._store import lock
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog, refuse_newer
from ansible_collections.virt.backup.plugins.module_utils._store.fields import show_moment
from ansible_collections.virt.backup.plugins.module_utils._store.layout import checkpoint_name

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle
    from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog
    from ansible_collections.virt.backup.plugins.module_utils._run.observe import Observation
    from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths
    from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository


@dataclasses.dataclass(frozen=True)
class DoctorRequest:
    """The parameters of a repair. ``timeout`` is in seconds; an empty ``scratch_dir`` is not looked at."""

    uri: str
    domain: str
    repository: str
    scratch_dir: str = ""
    timeout: int = 60
    run: str = ""


def gather(
    request: DoctorRequest, repository: Repository, handle: DomainHandle, seen: Observation, token: str = ""
) -> Facts:
    """Return what there is to know; ``token`` is that of the lock under which we repair. Reads only."""
    paths = repository.domain(handle.uuid)
    catalog = read_catalog(repository, handle.uuid)
    refuse_newer(catalog)
    names = [checkpoint.name for checkpoint in seen.checkpoints]
    dead = _dead_runs(repository, catalog, paths)
    sockets = _existing([run.socket for run in dead if _is_ours(run.socket, handle.uuid)], stat.S_ISSOCK)
    scratch = [scratch_name(request.scratch_dir, handle.uuid, disk.name) for disk in seen.domain.disks]
    return Facts(
        catalog=catalog,
        in_progress=_in_progress(paths, token),
        dead_runs=dead,
        active=seen.active,
        job=seen.job,
        disks=tuple(disk.name for disk in seen.domain.disks),
        checkpoints=seen.checkpoints,
        definitions={point.manifest.checkpoint: checkpoint_xml(point) for point in catalog.points},
        superseded=tuple(superseded([point.manifest for point in catalog.points], _present(seen), names)),
        orphans=tuple(orphans(catalog, checkpoint_name(repository.id, ""), names)),
        sockets=sockets,
        served=tuple(path for path in sockets if serves(handle.uuid, path)),
        scratch=_existing(scratch if request.scratch_dir else [], stat.S_ISREG),
    )


def _in_progress(paths: DomainPaths, token: str) -> str:
    """Return whose run holds the lock, empty when nobody's does, or only a dead one's, or ours."""
    now = utc_now()
    record = lock.read_lock(paths)
    if record is None or record.token == token or lock.is_over(paths, record, now):
        return ""
    return f"{record.run or 'a run'}, for {record.id} until {show_moment(lock.lease_end(record, now))}"


def _dead_runs(repository: Repository, catalog: Catalog, paths: DomainPaths) -> tuple[DeadRun, ...]:
    found = leftovers(repository, catalog, paths, "")
    return tuple(DeadRun(run["id"], run["staging"], run["checkpoint"], run["socket"]) for run in found)


def _present(seen: Observation) -> list[PresentDisk]:
    return [
        PresentDisk(disk.name, DiskIdentity(disk.source, disk.serial, disk.virtual_size, disk.format, disk.inode))
        for disk in seen.domain.disks
    ]


def _is_ours(socket: str, uuid: str) -> bool:
    """Whether the name of a socket says that it was for this domain: a file that may be removed, whoever named it."""
    return uuid in os.path.basename(socket)


def _existing(paths: t.Iterable[str], kind: Callable[[int], bool]) -> tuple[str, ...]:
    found = []
    for path in paths:
        try:
            if path and kind(os.lstat(path).st_mode):
                found.append(path)
        except OSError:
            continue
    return tuple(found)
