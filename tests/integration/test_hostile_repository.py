# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repository that an enemy has changed: no crash, no waiting, one sentence, and nothing outside of it is touched.

``make faults`` lays every kind of thing into every place; otherwise a sample that is another one in each run, from a seed
that the test's name tells.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import signal
import struct
import types
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._run.repository import RepositoryRequest, ensure_repository
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import InfoRequest, look
from ansible_collections.virt.backup.plugins.module_utils._run.stored_disks import (
    PointRequest,
    find_point,
    stored_disks,
)
from ansible_collections.virt.backup.plugins.module_utils._run.verify import VerifyRequest, verify
from ansible_collections.virt.backup.tests.integration import hostile_kit as enemy
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import without_hypervisor
from ansible_collections.virt.backup.tests.integration.hostile_kit import World
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store import store_kit as kit
from ansible_collections.virt.backup.tests.unit.properties.hostile import is_clear

lab_host = without_hypervisor.lab_host

SAMPLE = 24
SECONDS = 30
SEED = os.environ.get("VIRT_BACKUP_SEED") or os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(random.randrange(10**6))
CASES = [(place, damage) for place in enemy.PLACES for damage in enemy.DAMAGES]


def chosen() -> list[tuple[str, str]]:
    """Return the cases of this run."""
    return CASES if os.environ.get("VIRT_BACKUP_FAULTS") == "all" else random.Random(SEED).sample(CASES, SAMPLE)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the world as it was before anybody laid a hand on it."""
    return enemy.make_world(tmp_path_factory.mktemp("template") / "world")


@pytest.fixture
def world(template: World, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return template.elsewhere(tmp_path / "world")


@contextlib.contextmanager
def bounded() -> t.Iterator[None]:
    """Insist on an end within the time, for who opens a pipe waits for ever."""

    def late(_number: int, _frame: types.FrameType | None) -> t.NoReturn:
        raise AssertionError(f"no end within {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempts(world: World) -> dict[str, t.Callable[[], object]]:
    """Return all that the modules do with a repository, what only looks before what changes."""
    place = {"repository": str(world.repository)}
    names, run = world.names, {"id": world.names["run"], "token": world.token}
    disks = [{"name": "vda", "level": "full", "incremental": ""}]
    present = {**place, **run, "disks": disks, "files": [{"name": "nvram"}]}
    later = {"domain_name": "web", "disks": [kit.raw_disk()], "run": "a later run"}
    return {
        "list": lambda: look(InfoRequest(place["repository"])),
        "look": lambda: look(InfoRequest(place["repository"], kit.UUID)),
        "look by name": lambda: look(InfoRequest(place["repository"], domain_name="web")),
        "verify, check mode": lambda: verify(VerifyRequest(place["repository"], kit.UUID), check=True),
        "verify": lambda: verify(VerifyRequest(place["repository"], kit.UUID), check=False),
        "read the disks": lambda: stored_disks(find_point(PointRequest(place["repository"], kit.UUID)), ["vda"]),
        "make the repository": lambda: ensure_repository(
            RepositoryRequest(place["repository"], mode="0700"), check=False
        ),
        "confirm": lambda: kit.run("staged", **place, **run),
        "publish, check mode": lambda: kit.run("present", check=True, **present),
        "publish": lambda: kit.run("present", **present),
        "remove the run": lambda: kit.run("absent", **place, **run, staging=True),
        "remove the dead": lambda: kit.run("absent", **place, id=names["dead"], staging=True),
        "break the lock": lambda: kit.run("absent", **place, break_lock=True),
        "begin, check mode": lambda: kit.run("staged", check=True, **place, **later),
        "begin": lambda: kit.run("staged", **place, **later),
        "break it again": lambda: kit.run("absent", **place, break_lock=True),
        "remove the second": lambda: kit.run("absent", **place, id=names["second"]),
        "remove the first": lambda: kit.run("absent", **place, id=names["first"]),
    }


def suffer(world: World, *, links: bool = False) -> dict[str, BackupError | None]:
    """Do everything, and insist on nothing but successes and sentences, and on the world as it was."""
    before = enemy.seen(world, links=links)
    said: dict[str, BackupError | None] = {}
    for what, attempt in attempts(world).items():
        said[what] = None
        with bounded():
            try:
                outcome = attempt()
            except BackupError as error:
                said[what] = error
            else:
                json.dumps(outcome, default=str)
        refused = said[what]
        assert refused is None or is_clear(refused), f"{what}: {refused}"
        assert enemy.seen(world, links=links) == before, what
    return said


def test_without_a_damage_all_goes_well(world: World) -> None:
    """Otherwise nothing below would prove anything."""
    said = suffer(world)
    refused = {what: error.message for what, error in said.items() if error}
    assert refused.keys() <= {"remove the run"}, refused
    left = sorted(path.name for path in (world.repository / kit.UUID).iterdir() if path.is_dir())
    assert world.names["first"] not in left
    assert world.names["run"] in left


def test_the_look_outside_sees_changes(world: World) -> None:
    before = enemy.seen(world, links=False)
    mode = (world.outside / "file").stat().st_mode
    (world.outside / "file").chmod(mode)
    assert enemy.seen(world, links=False) != before
    assert enemy.seen(world, links=True) == enemy.seen(world, links=True)


@pytest.mark.parametrize(
    ("place", "damage"), chosen(), ids=[f"{SEED}: {what} for {place!a}" for place, what in chosen()]
)
def test_what_lies_in_a_place(place: str, damage: str, world: World) -> None:
    enemy.DAMAGES[damage](world, world.place(place))
    suffer(world, links=damage == "itself_under_another_name")


# What a header of an image names, and what is to happen when anybody but us opens it.
LEADS = {
    "a backing file outside": ("-b", "{outside}/secret.qcow2"),
    "a backing file up": ("-b", "../../../outside/secret.qcow2"),
    "a pipe below": ("-b", "{outside}/pipe"),
    "JSON below": ("-b", 'json:{{"driver":"file","filename":"{outside}/file"}}'),
    "a server below": ("-b", "nbd:unix:{outside}/socket"),
    "itself below": ("-b", "vda.qcow2"),
    "data outside": ("-o", "data_file={outside}/data,data_file_raw=on"),
}


@pytest.mark.parametrize("place", ["{uuid}/{first}", "{uuid}/{second}", "{uuid}/{run}.staging"])
@pytest.mark.parametrize("lead", LEADS)
def test_an_image_that_leads_elsewhere(lead: str, place: str, world: World) -> None:
    """Told as damage, or not published; and what it names is never opened: the pipe would be waited for."""
    os.mkfifo(world.outside / "pipe")
    option, value = LEADS[lead]
    value = value.format(outside=world.outside)
    image = world.place(place) / "vda.qcow2"
    options = ["-u", option, value, "-F", "qcow2"] if option == "-b" else [option, value]
    image.unlink()
    nbd.run("qemu-img", "create", "-q", "-f", "qcow2", *options, image, str(kit.SIZE))
    if lead == "data outside":
        (world.outside / "data").unlink()
        os.mkfifo(world.outside / "data")
    tell_its_size(world, image)
    said = suffer(world)
    if "staging" in place:
        assert said["publish, check mode"] is not None
        assert said["publish"] is not None
        assert "vda.qcow2" in said["publish"].message
    else:
        assert said["verify"] is not None
        assert "vda.qcow2" in said["verify"].message
    if "second" in place:
        assert said["read the disks"] is not None
        assert "vda.qcow2" in said["read the disks"].message


def tell_its_size(world: World, image: pathlib.Path) -> None:
    """Let manifest, sums and record agree with the image: whoever can change an image can change these, too."""
    folder, size = image.parent, image.stat().st_size
    for name in ("SHA256SUMS", "vda.digests"):
        (folder / name).unlink(missing_ok=True)
    if (folder / "manifest.json").exists():
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        manifest["disks"][0].update(stored_size=size, digest="", content="")
        manifest["stored"] = []
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    record = json.loads((folder / "vda.json").read_text(encoding="utf-8"))
    (folder / "vda.json").write_text(json.dumps({**record, "file_bytes": size, "digest": ""}), encoding="utf-8")


@pytest.mark.parametrize("seed", range(3))
def test_headers_of_images_with_any_bytes(seed: int, world: World) -> None:
    """Fields of the header at random: QEMU refuses each in its words, or reads it."""
    chance = random.Random(f"{SEED}-{seed}")
    for place in ("{uuid}/{first}", "{uuid}/{run}.staging"):
        image = world.place(place) / "vda.qcow2"
        content = bytearray(image.read_bytes())
        for _unused in range(chance.randrange(1, 5)):
            offset = chance.choice(range(4, 104, 4))
            struct.pack_into(
                ">I", content, offset, chance.choice((0, 1, 2, 3, 4, 8, 2**31, 2**32 - 1, chance.getrandbits(32)))
            )
        image.write_bytes(content)
        tell_its_size(world, image)
    suffer(world)
