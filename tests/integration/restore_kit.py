# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A protected domain whose restore points are of every kind, and looks at what came back of them."""

from __future__ import annotations

import pathlib
import typing as t

from integration import virt_kit as kit
from integration.protection import FULL, INCREMENTAL, Point, Protection, attempt_while
from integration.virt_kit import Result
from lab.disks import KIB, MIB, Disk
from lab.domains import LabDomain
from lab.tools import call, content_hash, file_hash

SECRET = {"secret": "Kq9x0x7-winter"}
ODD = 7 * MIB + 37 * 512


class Vault:
    """Restore points of a domain: full, one increment, several, and one in which a new disk is full beside them."""

    def __init__(self, domain: LabDomain, folder: pathlib.Path) -> None:
        self.domain = domain
        self.protection = Protection(domain, folder / "repository")
        self.repository = self.protection.repository
        self.place: Result = {"repository": str(self.repository), "domain_uuid": domain.uuid}
        self.points: list[Point] = []

    def fill(self) -> None:
        """Make the restore points: number 0 is full, 1 and 2 are increments, in 3 ``vdc`` is new."""
        self.add({"compression": "zstd"}, {}, {"compression": "zlib"})
        self.domain.attach(Disk("vdc", size=5 * MIB, format="raw"))
        self.domain.write("vdc", MIB, 3 * MIB, pattern=0x33)
        self.add({})
        assert self.points[2].levels == {"vda": INCREMENTAL, "vdb": INCREMENTAL}
        assert self.points[3].levels == {"vda": INCREMENTAL, "vdb": INCREMENTAL, "vdc": FULL}

    def add(self, *extractions: Result) -> None:
        """Change both disks and make a restore point, for each of these options of nbd_extract."""
        for options in extractions:
            self.change(len(self.points), "vda", "vdb")
            self.points.append(self.protection.backup(extract=options))

    def copied(self, folder: pathlib.Path) -> pathlib.Path:
        """Return a copy of the domain's directory in a repository of its own, to be damaged."""
        call("cp", "-a", self.repository, folder)
        return folder / self.domain.uuid

    def change(self, number: int, *disks: str) -> None:
        """Write, zero and discard on these disks, at the end of the odd one as well."""
        for disk in disks:
            self.domain.write(disk, number * MIB + 13 * KIB, 700 * KIB, pattern=0x40 + number)
            self.domain.discard(disk, number * MIB + 128 * KIB, 64 * KIB)
            self.domain.zero(disk, (number + 3) * MIB, 100 * KIB)
            if disk == "vdb":
                self.domain.write("vdb", ODD - 5 * 512, 5 * 512, pattern=0x50 + number)

    def restore(self, *, check: bool = False, **options: t.Any) -> Result:
        """Run restore_disks, which has to succeed."""
        return kit.run("restore_disks", check=check, **{**self.place, **options})

    def refused(self, *, check: bool = False, **options: t.Any) -> str:
        """Run restore_disks, which has to fail in words."""
        return kit.refusal("restore_disks", check=check, **{**self.place, **options})

    def restore_while(self, meanwhile: t.Callable[[], None], **options: t.Any) -> Result:
        """Run restore_disks, calling ``meanwhile`` until it has ended; return its result, failed or not."""
        return attempt_while("restore_disks", meanwhile, **{**self.place, **options})

    def look(self) -> dict[str, tuple[str, int, int]]:
        """Return content, time and mode of every file of the repository."""
        found = {}
        for path in sorted(self.repository.rglob("*")):
            if path.is_file() and not path.is_symlink():
                stat = path.stat()
                found[str(path)] = (file_hash(path), stat.st_mtime_ns, stat.st_mode)
        return found


class Shop:
    """Runs the module; what it started is ended with the test."""

    def __init__(self, vault: Vault, folder: pathlib.Path) -> None:
        self.vault, self.folder = vault, folder
        self.sockets: set[str] = set()

    def serve(self, *, check: bool = False, **options: t.Any) -> Result:
        result = kit.run("restore_point_export", check=check, **{**self._usual, **options})
        self.sockets.add(result["server"]["socket"])
        return result

    def refused(self, *, check: bool = False, **options: t.Any) -> str:
        return kit.refusal("restore_point_export", check=check, **{**self._usual, **options})

    def end(self, *, check: bool = False, **options: t.Any) -> Result:
        return self.serve(check=check, state="absent", **options)

    @property
    def _usual(self) -> Result:
        return {**self.vault.place, "socket_dir": str(self.folder)}


def holds(point: Point, disk: str, path: pathlib.Path | str, image_format: str) -> None:
    """Insist that QEMU reads from a restored disk what the domain's disk held in the moment of the restore point."""
    assert content_hash(path) == point.truth[disk], (point.id, disk)
    call("qemu-img", "compare", "-U", "-f", image_format, "-F", "qcow2", path, point.tip(disk))
    if image_format == "qcow2":
        call("qemu-img", "check", "-q", "-f", "qcow2", path)


def backup_encrypted(protection: Protection) -> Point:
    """Make a restore point of encrypted images, which nobody compares here."""
    encryption = {**SECRET, "iter_time": 10}
    run = protection.stage(encryption=encryption)
    protection.begin(run)
    protection.copy(run, encryption=encryption)
    protection.stop()
    return protection.publish(run)
