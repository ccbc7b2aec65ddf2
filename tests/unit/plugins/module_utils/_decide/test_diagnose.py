# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is found to be wrong with the backups of a domain, and in which order it is set right."""

from __future__ import annotations

import datetime
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.diagnose import DeadRun, Facts, diagnose
from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point, Unreadable
from ansible_collections.virt.backup.plugins.module_utils._model.checkpoint import Checkpoint, CheckpointDisk
from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob, Server
from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import (
    DiskIdentity,
    Manifest,
    ManifestDisk,
)

ID, DEAD = "20261101T000000Z-0001", "20261102T000000Z-0002"
BASE, LOST = f"virt-backup.0123456789ab.{ID}", f"virt-backup.0123456789ab.{DEAD}"
SOCKET = "/run/virt-backup/dead.sock"
NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)


def point(*disks: str) -> Point:
    entries = [
        ManifestDisk(name, Level.FULL, "", DiskIdentity(f"/{name}", "", 1024, "qcow2"), ID, f"{name}.qcow2", "")
        for name in disks
    ]
    return Point(Manifest("0123456789ab", "uuid", "web", ID, BASE, NOW, NOW, disks=tuple(entries)), f"/r/{ID}")


def checkpoint(name: str, **dirty: int | None) -> Checkpoint:
    disks = tuple(CheckpointDisk(disk, True, size) for disk, size in dirty.items())
    return Checkpoint(name, disks=disks, measured=True)


def job_at(socket: str) -> BackupJob:
    return BackupJob("pull", Server("unix", socket), ())


HEALTHY: dict[str, t.Any] = {
    "catalog": Catalog(points=(point("vda", "vdb"),)),
    "disks": ("vda", "vdb"),
    "checkpoints": (checkpoint(BASE, vda=0, vdb=65536), checkpoint("foreign", vda=None)),
    "definitions": {BASE: "<xml/>"},
}
RUN = (DeadRun(DEAD, f"/r/{DEAD}.staging", LOST, SOCKET),)
BOTH = (checkpoint(BASE, vda=0, vdb=0), checkpoint(LOST, vda=0))


@pytest.mark.parametrize(
    ("facts", "repairs"),
    [
        ({}, []),
        ({"dead_runs": RUN}, [("remove_staging", DEAD)]),
        (
            {"dead_runs": RUN, "job": job_at(SOCKET), "checkpoints": BOTH},
            [("end_job", SOCKET), ("remove_checkpoint", LOST), ("remove_staging", DEAD)],
        ),
        ({"dead_runs": RUN, "job": job_at("/foreign.sock")}, [("remove_staging", DEAD)]),
        ({"dead_runs": RUN, "sockets": (SOCKET,)}, [("remove_socket", SOCKET), ("remove_staging", DEAD)]),
        (
            {"dead_runs": RUN, "sockets": (SOCKET,), "served": (SOCKET,)},
            [("stop_server", SOCKET), ("remove_staging", DEAD)],
        ),
        ({"dead_runs": RUN, "active": False, "checkpoints": BOTH}, []),
        ({"scratch": ("/s/a",)}, [("remove_scratch", "/s/a")]),
        ({"scratch": ("/s/a",), "job": job_at("/foreign.sock")}, []),
        ({"checkpoints": ()}, [("redefine_checkpoint", BASE)]),
        ({"checkpoints": (), "definitions": {}}, []),
        ({"checkpoints": (), "disks": ("vdc",)}, []),
        ({"checkpoints": (checkpoint(BASE, vda=None, vdb=0),)}, [("remove_bitmaps", BASE)]),
        ({"checkpoints": (checkpoint(BASE, vda=None, vdb=0),), "active": False}, []),
        ({"superseded": (BASE,), "checkpoints": (checkpoint(BASE, vda=None),)}, [("remove_checkpoint", BASE)]),
        (
            {"catalog": Catalog(points=(point("vda", "vdb"),), unfinished=(f"/r/{ID}.trash",))},
            [("finish_removal", f"/r/{ID}.trash")],
        ),
        ({"in_progress": "another run", "dead_runs": RUN, "checkpoints": BOTH, "scratch": ("/s/a",)}, []),
    ],
)
def test_what_is_repaired(facts: dict[str, t.Any], repairs: list[tuple[str, str]]) -> None:
    found = diagnose(Facts(**{**HEALTHY, **facts}))
    assert [(repair.kind.value, repair.subject) for repair in found.repairs] == repairs
    assert all(repair.reason for repair in found.repairs)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"orphans": ("virt-backup.0123456789ab.x",)}, "looks like a checkpoint of this repository"),
        ({"dead_runs": RUN, "active": False, "checkpoints": BOTH}, "start the domain, then repair again"),
        ({"catalog": Catalog(strangers=("/r/notes.txt",))}, "/r/notes.txt is nothing that belongs here"),
        ({"catalog": Catalog(unreadable=(Unreadable(DEAD, "/r", "its manifest is torn."),))}, "its manifest is torn."),
    ],
)
def test_what_only_a_person_can_set_right(facts: dict[str, t.Any], words: str) -> None:
    found = diagnose(Facts(**{**HEALTHY, **facts}))
    assert [problem for problem in found.problems if words in problem]
    assert found.repairs == ()
