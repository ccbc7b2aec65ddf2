# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scene with a real domain, where the machine already has virtnbdbackup and this runs in the lab.

For example: ``tests/lab/enter -- tests/benchmarks/run --only domain``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import typing as t
from pathlib import Path

from lab.disks import Disk
from lab.domains import LabDomain

from benchmarks import sources
from benchmarks.model import GIB, Place, Plan, Program, Row, Scene
from benchmarks.proof import check
from benchmarks.scenes_full import DATA, SIZE

if t.TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def domain(place: Place) -> Iterator[Scene]:
    """A paused domain with the sparse disk: begin the job, copy, end the job."""
    folder, disk = place.folder, place.folder / "sparse.qcow2"
    sources.sparse(disk, SIZE, DATA)
    folder.chmod(0o711)  # QEMU runs as a user of its own
    with LabDomain("bench", Disk("vda", image=disk), folder=folder / "domain") as machine:
        machine.define()
        machine.start()
        servers = (machine.qemu_pid,)
        theirs = folder / "theirs"
        command = ("virtnbdbackup", "-d", machine.name, "-l", "copy", "-o", str(theirs), "--noprogress")
        ours = (sys.executable, "-W", "ignore", str(Path(__file__).with_name("backup.py")), machine.name, str(folder))
        runs = {
            "ours": Program((ours,), (folder / "vda.qcow2",), servers),
            "virtnbdbackup": Program((command,), (theirs,), servers),
        }
        rows = (Row("a domain's backup, begun, copied, ended", "ours", "virtnbdbackup"),)
        yield Scene(runs, rows, {"ours": check(disk, runs["ours"])})


PLANS: dict[str, Plan] = (
    {"domain": Plan(domain, 4 * GIB)} if os.environ.get("VIRT_BACKUP_LAB") and shutil.which("virtnbdbackup") else {}
)
