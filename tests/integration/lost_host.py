# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hypervisor that is gone: it ran a guest, made restore points of every kind, and then lost everything it had.

All that is left is the repository, and what the guest itself said of its files. This module is both sides: what
starts and ends the host, and (as a program) what happens in it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
import typing as t

from integration import virt_kit as kit
from integration.protection import FULL, INCREMENTAL, Protection
from lab.disks import MIB, Disk
from lab.guest import Guest
from lab.hypervisor import Hypervisor
from lab.modules import LINK
from lab.node import TESTS
from lab.tools import virsh

MOUNTS = {"vda": "/data", "vdb": "/more", "vdc": "/new"}
ODD = 16 * MIB + 37 * 512
KINDS = ("full", "one increment", "several increments", "mixed")

FILES = """
head -c 400000 /dev/urandom > {folder}/kept-{number}
cat {folder}/kept-* > {folder}/all
rm -f {folder}/kept-{old}
ln -sf kept-{number} {folder}/newest
sync
"""


@dataclasses.dataclass(frozen=True)
class Left:
    """A restore point that is left: the hashes of its disks, and those of the files in them as the guest had them."""

    id: str
    levels: dict[str, str]
    truth: dict[str, str]
    files: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Legacy:
    """What is left of a guest: its repository, in which it has a restore point of each of :data:`KINDS`."""

    repository: pathlib.Path
    name: str
    uuid: str
    places: dict[str, str]
    """Where the disks were."""
    sizes: dict[str, int]
    """In bytes."""
    points: tuple[Left, ...]


def lose_a_host(folder: pathlib.Path) -> Legacy:
    """Let a hypervisor do all that, with the repository in ``folder``, and take it away."""
    with Hypervisor("hv1") as host:
        path = os.pathsep.join((str(LINK), str(TESTS)))
        argv = [sys.executable, "-m", "integration.lost_host", str(folder)]
        done = host.run(argv, check=False, timeout=400, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    points = tuple(Left(**point) for point in told.pop("points"))
    return Legacy(repository=folder / "repository", points=points, **told)


def _live(folder: pathlib.Path) -> dict[str, t.Any]:
    with Guest("lost", Disk("vda", size=48 * MIB), Disk("vdb", size=ODD)) as guest:
        guest.define()
        guest.start()
        guest.wait_for_agent()
        protection = Protection(guest, folder / "repository")
        for name in ("vda", "vdb"):
            guest.make_filesystem(name, MOUNTS[name])
        points = [_point(guest, protection, number) for number in range(len(KINDS))]
        places = {name: str(disk.image) for name, disk in guest.disks.items()}
        sizes = {name: disk.disk.size for name, disk in guest.disks.items()}
        return {"name": guest.name, "uuid": guest.uuid, "places": places, "sizes": sizes, "points": points}


def _point(guest: Guest, protection: Protection, number: int) -> kit.Result:
    if KINDS[number] == "mixed":
        guest.attach(Disk("vdc", size=16 * MIB, format="raw"))
        guest.make_filesystem("vdc", MOUNTS["vdc"])
    for name in guest.disks:
        guest.sh(FILES.format(folder=MOUNTS[name], number=number, old=number - 2))
    files = guest.checksums(*(MOUNTS[name] for name in guest.disks))
    virsh("suspend", guest.name)
    point = protection.backup(extract={"compression": "zstd"} if number == 1 else {})
    virsh("resume", guest.name)
    expected = dict.fromkeys(guest.disks, INCREMENTAL if number else FULL)
    assert point.levels == {**expected, **({"vdc": FULL} if "vdc" in expected else {})}
    return {"id": point.id, "levels": point.levels, "truth": dict(point.truth), "files": files}


if __name__ == "__main__":
    place = pathlib.Path(sys.argv[1])
    (place / "told.json").write_text(json.dumps(_live(place)), encoding="utf-8")
