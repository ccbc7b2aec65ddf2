# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an enemy lays into a repository, and what he hopes is touched outside of it.

A damage is a place in the repository and what is there instead. The world around the repository is looked at before and
after: content, owner, group, mode, and both times, so that nobody can have set anything back either.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import socket
import stat
import typing as t

from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store import store_kit as kit

PLACES = (
    "repository.json",
    "by-name",
    "by-name/web",
    "{uuid}",
    "{uuid}/lock",
    "{uuid}/lock.guard",
    "{uuid}/lock.deadbeef.tmp",
    "{uuid}/{first}",
    "{uuid}/{first}/manifest.json",
    "{uuid}/{first}/staging.json",
    "{uuid}/{first}/SHA256SUMS",
    "{uuid}/{first}/checkpoint.xml",
    "{uuid}/{first}/vda.qcow2",
    "{uuid}/{first}/vda.json",
    "{uuid}/{first}/vda.digests",
    "{uuid}/{first}/verified.json",
    "{uuid}/{first}/damaged.json",
    "{uuid}/{second}/vda.qcow2",
    "{uuid}/{second}/manifest.json",
    "{uuid}/{run}.staging",
    "{uuid}/{run}.staging/staging.json",
    "{uuid}/{run}.staging/status.json",
    "{uuid}/{run}.staging/vda.qcow2",
    "{uuid}/{run}.staging/vda.json",
    "{uuid}/{run}.staging/vda.digests",
    "{uuid}/{run}.staging/nvram",
    "{uuid}/{run}.staging/manifest.json",
    "{uuid}/{dead}.staging",
    "{uuid}/{dead}.staging/vda.qcow2",
    "{uuid}/{dead}.trash",
    "{uuid}/{dead}.trash/vda.qcow2",
    "{uuid}/{dead}.new",
    "{uuid}/a\nb\x1b\udcff",
)


@dataclasses.dataclass(frozen=True)
class World:
    """A repository with two restore points, a run in progress, and what dead runs left; and the world around it."""

    folder: pathlib.Path
    names: dict[str, str]
    token: str

    @property
    def repository(self) -> pathlib.Path:
        return self.folder / "repository"

    @property
    def outside(self) -> pathlib.Path:
        return self.folder / "outside"

    def place(self, name: str) -> pathlib.Path:
        return self.repository / name.format(**self.names)

    def elsewhere(self, folder: pathlib.Path) -> World:
        """Return a copy of it in a folder that is not there yet."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return dataclasses.replace(self, folder=folder)


def make_world(folder: pathlib.Path) -> World:
    """Make it. The images are of QEMU, and one of them is outside and nobody's business."""
    repository, outside = folder / "repository", folder / "outside"
    folder.mkdir()
    kit.make_repository(repository)
    first = kit.backup(str(repository))["id"]
    again = [kit.raw_checkpoint(f"virt-backup.{_id_of(repository)}.{first}", "vda")]
    second = kit.backup(str(repository), checkpoints=again)["id"]
    dead = kit.Run(str(repository)).extract().plan
    kit.run("absent", repository=str(repository), break_lock=True)
    run = kit.Run(str(repository), run="the run", checkpoints=again).extract().plan
    home = repository / kit.UUID
    shutil.copytree(home / f"{dead['id']}.staging", home / f"{dead['id']}.trash")
    (home / f"{run['id']}.staging" / "nvram").write_bytes(b"nvram")
    (outside / "folder").mkdir(parents=True)
    for path in (outside / "file", outside / "folder" / "file"):
        path.write_text("sesame", encoding="utf-8")
    nbd.create(outside / "secret.qcow2", kit.SIZE)
    names = {"uuid": kit.UUID, "first": first, "second": second, "run": run["id"], "dead": dead["id"]}
    return World(folder, names, run["token"])


def _id_of(repository: pathlib.Path) -> str:
    return str(json.loads((repository / "repository.json").read_text(encoding="utf-8"))["id"])


def seen(world: World, *, links: bool) -> dict[str, tuple[t.Any, ...]]:
    """Return all that can be seen of the world outside of the repository.

    With ``links`` a file of it has a second name in the repository, which may go: then the number of its names, and
    with it the time of its last change, are not compared.
    """
    found = {}
    for path in (world.folder, *world.folder.rglob("*")):
        if world.repository in (path, *path.parents) or path == world.folder:
            continue
        entry = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(entry.st_mode) else b""
        rights = (entry.st_mode, entry.st_uid, entry.st_gid, entry.st_size, entry.st_mtime_ns, entry.st_ino)
        found[str(path.relative_to(world.folder))] = (*rights, content, 0 if links else entry.st_ctime_ns)
    found["."] = tuple(sorted(os.listdir(world.folder)))
    return found


Damage = t.Callable[[World, pathlib.Path], None]


def _cleared(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _moved_out(world: World, path: pathlib.Path) -> pathlib.Path:
    """Move what is there out of the repository, or make it up."""
    target = world.outside / "moved"
    if os.path.lexists(path):
        shutil.move(path, target)
    elif path.name.endswith((".new", ".trash", "by-name")):
        (target / "deep").mkdir(parents=True)
        (target / "deep" / "file").write_text("sesame", encoding="utf-8")
    else:
        target.write_text("{}", encoding="utf-8")
    return target


def itself_outside(world: World, path: pathlib.Path) -> None:
    """What was there, just as it was, but outside, and a link that leads to it."""
    path.symlink_to(_moved_out(world, path))


def itself_under_another_name(world: World, path: pathlib.Path) -> None:
    target = _moved_out(world, path)
    if target.is_dir():
        shutil.copytree(target, path, copy_function=os.link)
    elif target.is_symlink():
        path.symlink_to(world.outside / "folder")
    else:
        os.link(target, path)


def link(world: World, path: pathlib.Path) -> None:
    _cleared(path)
    path.symlink_to(world.outside / ("file" if "." in path.name else "folder"))


def link_to_nothing(world: World, path: pathlib.Path) -> None:
    """Whoever creates through it creates outside."""
    _cleared(path)
    path.symlink_to(world.outside / "not there")


def loop(_world: World, path: pathlib.Path) -> None:
    _cleared(path)
    path.symlink_to(path.name)


def pipe(_world: World, path: pathlib.Path) -> None:
    _cleared(path)
    os.mkfifo(path)


def unix_socket(world: World, path: pathlib.Path) -> None:
    _cleared(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(world.folder / "s"))
    (world.folder / "s").rename(path)


def directory(_world: World, path: pathlib.Path) -> None:
    _cleared(path)
    (path / "inner").mkdir(parents=True)


def link_to_a_device(_world: World, path: pathlib.Path) -> None:
    _cleared(path)
    path.symlink_to("/dev/zero")


def an_empty_file(_world: World, path: pathlib.Path) -> None:
    _cleared(path)
    path.touch()


def nothing(_world: World, path: pathlib.Path) -> None:
    _cleared(path)


DAMAGES: dict[str, Damage] = {
    damage.__name__: damage
    for damage in (
        itself_outside,
        itself_under_another_name,
        link,
        link_to_nothing,
        loop,
        pipe,
        unix_socket,
        directory,
        link_to_a_device,
        an_empty_file,
        nothing,
    )
}
