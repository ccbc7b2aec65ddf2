# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One hypervisor is gone with all that its libvirt knew; on another one its guest lives again, out of the repository.

Each kind of restore point, to each kind of place, as itself or as a copy: what is on the disks is what was frozen, and
the guest boots and finds the files that it had. ``VIRT_BACKUP_FAULTS=all`` runs every cell; otherwise a few that are
others in each run, from a seed that ``VIRT_BACKUP_SEED`` sets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import random
import re
import typing as t

import pytest
from integration import virt_kit as kit
from integration.ends_kit import loop_device
from integration.kill_kit import SEED
from integration.lost_host import KINDS, MOUNTS, Left, Legacy, lose_a_host
from integration.playbook import play_one
from integration.protection import FULL
from integration.role_restore import Restoration
from lab.guest import Guest, install
from lab.tools import call, content_hash, virsh, virsh_names

pytestmark = pytest.mark.timeout(900)

PLACES = ("qcow2", "raw", "block")
NAMES = ("", "another")
SAMPLE = 1


@dataclasses.dataclass(frozen=True)
class Cell:
    """A kind of restore point, the kind of its new places, and the name of the copy, empty for the guest itself."""

    kind: str
    place: str
    name: str

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.place}-{self.name or 'itself'}".replace(" ", "_")


CELLS = [Cell(*cell) for cell in itertools.product(KINDS, PLACES, NAMES)]


def chosen() -> list[Cell]:
    """Return the cells to run: all, or a few of which no two share anything, as the roles have a turn as well."""
    if os.environ.get("VIRT_BACKUP_FAULTS") == "all":
        return CELLS
    dice = random.Random(SEED)
    parts = [dice.sample(part, len(part)) for part in (KINDS, PLACES, NAMES)]
    return [Cell(*cell) for cell in zip(*(part[:SAMPLE] for part in parts))]


@pytest.fixture(scope="module")
def legacy(lab_host: str, tmp_path_factory: pytest.TempPathFactory) -> Legacy:
    """Return what a host left that is gone. This one has the kernel that the guest boots from, and nothing else."""
    install()
    found = lose_a_host(tmp_path_factory.mktemp("legacy"))
    assert virsh_names("list", "--all", "--name") == []
    assert not any(pathlib.Path(place).parent.exists() for place in found.places.values())
    return found


@contextlib.contextmanager
def gone_afterwards(name: str) -> t.Iterator[Guest]:
    """Return a guest that somebody else defines; it is gone afterwards."""
    guest = object.__new__(Guest)
    guest.name = name
    try:
        yield guest
    finally:
        if name in virsh_names("list", "--all", "--name"):
            virsh("destroy", name, check=False)
            virsh("undefine", name, "--checkpoints-metadata")


def has_its_files(guest: Guest, point: Left) -> None:
    """Insist that a guest boots and that its files are what they were in the moment of the restore point."""
    guest.wait_for_agent()
    folders = [MOUNTS[name] for name in point.levels]
    for name, folder in zip(point.levels, folders):
        guest.mount(name, folder)
    assert guest.checksums(*folders) == point.files
    assert len(point.files) >= 2 * len(folders)


@contextlib.contextmanager
def places(cell: Cell, point: Left, folder: pathlib.Path, sizes: t.Mapping[str, int]) -> t.Iterator[list[kit.Result]]:
    """Return where the disks go: files that are not there yet, or devices full of something else."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in point.levels:
            path = folder / f"new-{name}"
            if cell.place == "block":
                path.write_bytes(b"\xa5" * sizes[name])
                path = pathlib.Path(stack.enter_context(loop_device(path)))
            form = "qcow2" if cell.place == "qcow2" else "raw"
            found.append({"name": name, "dest": str(path), "format": form})
        yield found


@pytest.mark.parametrize("cell", chosen(), ids=lambda cell: cell.id)
def test_each_variant(legacy: Legacy, workdir: pathlib.Path, cell: Cell) -> None:
    point = legacy.points[KINDS.index(cell.kind)]
    place = {"repository": str(legacy.repository), "domain_uuid": legacy.uuid, "id": point.id}
    with places(cell, point, workdir, legacy.sizes) as disks, gone_afterwards(cell.name or legacy.name) as guest:
        kit.run("restore_disks", **place, disks=disks, overwrite=cell.place == "block")
        for disk in disks:
            assert content_hash(disk["dest"]) == point.truth[disk["name"]], disk
            image = legacy.repository / legacy.uuid / point.id / f"{disk['name']}.qcow2"
            call("qemu-img", "compare", "-f", disk["format"], "-F", "qcow2", disk["dest"], image)
        kind = "block" if cell.place == "block" else "file"
        there = [{"name": d["name"], "source": d["dest"], "format": d["format"], "type": kind} for d in disks]
        made = kit.run("virt_restore", **place, disks=there, state="running", **{"as": cell.name})
        assert (made["domain"]["uuid"] == legacy.uuid) == (not cell.name)
        has_its_files(guest, point)


@pytest.fixture
def read_only(legacy: Legacy, workdir: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Return the repository as a mount that nobody can write to."""
    mount = workdir / "mount"
    mount.mkdir()
    call("mount", "--bind", legacy.repository, mount)
    try:
        call("mount", "-o", "remount,bind,ro", mount)
        yield mount
    finally:
        call("umount", mount)


def test_the_guest_lives_again_where_nothing_was_known_of_it(
    legacy: Legacy, workdir: pathlib.Path, read_only: pathlib.Path
) -> None:
    """By the roles, from the repository alone, to where its disks were, but for one that goes to a device.

    Its next backup here is full, and says why.
    """
    point = legacy.points[-1]
    role = Restoration(workdir, read_only)
    for state in ("present", "absent"):
        served = {"repository": str(read_only), "domain_uuid": legacy.uuid, "state": state}
        assert kit.run("restore_point_export", **served)["changed"]
    folder = pathlib.Path(legacy.places["vda"]).parent
    folder.mkdir()
    try:
        (workdir / "device").write_bytes(b"\xa5" * legacy.sizes["vdb"])
        with loop_device(workdir / "device") as device, gone_afterwards(legacy.name) as guest:
            disks = [{"name": "vda"}, {"name": "vdb", "dest": device}, {"name": "vdc"}]
            wish = {"restore_domain": legacy.name, "restore_disks": disks, "restore_overwrite": True}
            changed, result = role.restore(**wish, restore_state="running")
            assert changed > 0
            assert result["domain"] == {"name": legacy.name, "uuid": legacy.uuid, "state": "running"}
            assert result["restore_point"] == point.id
            found = dict(re.findall(r"^ *(vd\w) +(\S+)$", virsh("domblklist", legacy.name), re.MULTILINE))
            assert found == {**legacy.places, "vdb": device}
            has_its_files(guest, point)

            ended = play_one(workdir, backup_domain=legacy.name, backup_repository=str(legacy.repository))
            assert ended.levels == dict.fromkeys(point.levels, FULL)
            assert re.search("another file at|the bitmap of", ended.reason("vda"))
            assert "raw" in ended.reason("vdb")
    finally:
        call("rm", "-r", folder)
