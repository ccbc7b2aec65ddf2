# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verifying what is stored: which file is damaged, which restore points that breaks, and what is remembered of it."""

from __future__ import annotations

import datetime
import errno
import json
import os
import pathlib
import shutil
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.verification import Depth, FileDamage, Verification
from ansible_collections.virt.backup.plugins.module_utils._run import verify as use_case
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import InfoRequest, look
from ansible_collections.virt.backup.plugins.module_utils._run.verify import VerifyRequest, verify
from ansible_collections.virt.backup.plugins.module_utils._store import stored
from ansible_collections.virt.backup.plugins.module_utils._store.damage import mark_damage, read_damage
from ansible_collections.virt.backup.plugins.module_utils._store.verified import read_verified, write_verified
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    UUID,
    Run,
    make_repository,
    raw_checkpoint,
    raw_disk,
    run,
    tree,
    write_image,
)

pytestmark = pytest.mark.slow

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome

DISKS = (raw_disk("vda"), raw_disk("vdb"))
NAMES = (
    "SHA256SUMS", "checkpoint.xml", "manifest.json", "staging.json", "vda.json", "vda.qcow2", "vdb.json", "vdb.qcow2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the disk when is for the tests that kill."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Chain:
    """A full restore point of two disks and two increments on it, oldest first."""

    def __init__(self, repository: pathlib.Path, **changes: t.Any) -> None:
        make_repository(repository)
        self.repository = str(repository)
        self.checkpoints: list[dict[str, t.Any]] = []
        self.points: list[pathlib.Path] = []
        for _time in range(3):
            self._add(changes)

    def _add(self, changes: dict[str, t.Any]) -> None:
        started = Run(self.repository, *DISKS, checkpoints=self.checkpoints)
        for disk in started.plan["disks"]:
            write_image(disk, started.plan["checkpoint"], **changes)
        made = started.present(images=[]).result
        self.checkpoints.append(raw_checkpoint(made["restore_point"]["checkpoint"], "vda", "vdb"))
        self.points.append(pathlib.Path(made["path"]))

    def plan(self) -> dict[str, str]:
        """Return the levels that the next run would have."""
        planned = run(
            "staged", True, repository=self.repository, domain_name="web", disks=DISKS, checkpoints=self.checkpoints
        )
        return {disk["name"]: disk["level"] for disk in planned.result["disks"]}

    def verify(self, *, check: bool = False, **options: t.Any) -> Outcome:
        return verify(VerifyRequest(self.repository, UUID, **options), check=check)

    def refused(self, **options: t.Any) -> StateError:
        with pytest.raises(StateError) as caught:
            self.verify(**options)
        return caught.value

    def ids(self, *numbers: int) -> list[str]:
        return [self.points[number].name for number in numbers or range(len(self.points))]

    def known(self, number: int) -> dict[str, t.Any]:
        """Return what restore_point_info lists."""
        found: dict[str, t.Any] = look(InfoRequest(self.repository, UUID)).result["restore_points"][number]
        return found


@pytest.fixture
def chain(tmp_path: pathlib.Path) -> Chain:
    return Chain(tmp_path / "repo")


def flip(path: pathlib.Path, where: float = 0.5, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


def damaged(error: StateError) -> list[tuple[str, str, list[str], list[str]]]:
    """Return id, file, disks and broken restore points of each damage."""
    return [(one["id"], one["file"], one["disks"], one["breaks"]) for one in error.details["damaged"]]


def test_what_is_whole_is_recorded_and_published(chain: Chain) -> None:
    before = tree(pathlib.Path(chain.repository))
    assert [chain.known(number)["verified"] for number in range(3)] == [None] * 3
    predicted = chain.verify(check=True)
    assert predicted.changed
    assert predicted.result["verified"] == chain.ids()
    assert tree(pathlib.Path(chain.repository)) == before
    done = chain.verify()
    assert (done.changed, done.result["verified"], done.result["damaged"], done.result["gone"]) == (
        True, chain.ids(), [], [],
    )  # fmt: skip
    assert [(point["id"], point["good"]) for point in done.result["restore_points"]] == [(i, True) for i in chain.ids()]
    after = tree(pathlib.Path(chain.repository))
    new = {f"{UUID}/{identifier}/verified.json" for identifier in chain.ids()}
    assert set(after) - set(before) == new
    assert {name: content for name, content in after.items() if name not in new} == before
    record = chain.known(2)["verified"]
    assert (record["depth"], record["good"], record["damage"]) == ("files", True, [])
    assert chain.known(2)["complete"]
    assert chain.plan() == {"vda": "incremental", "vdb": "incremental"}


@pytest.mark.parametrize("where", [0, 0.5, 1])
@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_in_the_full_one(chain: Chain, name: str, where: float) -> None:
    """The file is named, and whoever needs it; only what a restore needs is no base any more."""
    flip(chain.points[0] / name, where)
    error = chain.refused()
    assert {(entry[0], entry[1]) for entry in damaged(error)} == {(chain.ids(0)[0], name)}
    image = name.partition(".qcow2")[0] if name.endswith(".qcow2") else ""
    needed = bool(image) or name == "manifest.json"
    broken = chain.ids() if needed else chain.ids(0)
    assert {identifier for entry in damaged(error) for identifier in entry[3]} == set(broken)
    assert name in error.message
    assert all(identifier in error.message for identifier in broken)
    good = {point["id"]: point["good"] for point in error.details["restore_points"]}
    assert good == {identifier: identifier not in broken for identifier in chain.ids()}
    full = {"vda", "vdb"} if name == "manifest.json" else {image}
    assert chain.plan() == {disk: "full" if disk in full else "incremental" for disk in ("vda", "vdb")}


def test_a_damage_is_found_from_each_restore_point_above_it(chain: Chain) -> None:
    flip(chain.points[1] / "vdb.qcow2")
    assert chain.verify(id=chain.ids(0)[0]).result["damaged"] == []
    for identifier in (*chain.ids(1, 2), "latest"):
        expected = [(chain.ids(1)[0], "vdb.qcow2", ["vdb"], chain.ids(1, 2))]
        assert damaged(chain.refused(id=identifier)) == expected
    assert chain.known(1)["verified"]["good"] is False
    assert chain.known(2)["problems"] == [f"vdb: {chain.points[1]}/vdb.qcow2 is damaged: vdb.qcow2 is not the file "
                                          "that was stored: its SHA-256 differs."]  # fmt: skip


def test_a_flipped_bit_that_makes_the_manifest_newer_is_damage(chain: Chain) -> None:
    path = chain.points[1] / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 3'))
    assert [entry[:2] for entry in damaged(chain.refused())] == [(chain.ids(1)[0], "manifest.json")]
    assert damaged(chain.refused(id="latest")) == [(chain.ids(1)[0], "manifest.json", [], chain.ids(1, 2))]


def test_a_truncated_image(chain: Chain) -> None:
    os.truncate(chain.points[0] / "vda.qcow2", 1000)
    assert {entry[:2] for entry in damaged(chain.refused())} == {(chain.ids(0)[0], "vda.qcow2")}


def test_a_missing_parent(chain: Chain) -> None:
    shutil.rmtree(chain.points[1])
    error = chain.refused()
    assert {(entry[0], tuple(entry[3])) for entry in damaged(error)} == {(chain.ids(1)[0], tuple(chain.ids(2)))}
    assert "the image of vda in" in error.message
    assert [point["good"] for point in error.details["restore_points"]] == [True, False]


def test_an_image_without_a_digest_that_builds_on_another(tmp_path: pathlib.Path) -> None:
    """Nobody took a digest, so only the header tells that this is the image of another chain."""
    chain = Chain(tmp_path / "repo", digest="")
    assert chain.verify().result["damaged"] == []
    shutil.copyfile(chain.points[1] / "vda.qcow2", chain.points[2] / "vda.qcow2")
    error = chain.refused()
    assert damaged(error) == [(chain.ids(2)[0], "vda.qcow2", ["vda"], chain.ids(2))]
    assert f"builds on ../{chain.ids(0)[0]}/vda.qcow2 where the manifest says on ../{chain.ids(1)[0]}" in error.message


def test_a_copy_under_another_path_without_times(chain: Chain, tmp_path: pathlib.Path) -> None:
    shutil.copytree(chain.repository, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    shutil.rmtree(chain.repository)
    chain.repository = str(tmp_path / "elsewhere")
    assert all(point["good"] for point in chain.verify().result["restore_points"])


def test_what_is_brought_back_is_a_base_again(chain: Chain, tmp_path: pathlib.Path) -> None:
    image = chain.points[0] / "vda.qcow2"
    copy = shutil.copy(image, tmp_path / "copy")
    flip(image)
    chain.refused()
    assert (chain.plan()["vda"], list(read_damage(str(chain.points[0])))) == ("full", ["vda"])
    shutil.copy(copy, image)
    assert chain.plan()["vda"] == "full"
    assert chain.verify().result["damaged"] == []
    assert not (chain.points[0] / "damaged.json").exists()
    assert chain.plan()["vda"] == "incremental"


@pytest.mark.parametrize("step", ["first record", "mark", "last record"])
@pytest.mark.parametrize("repaired", [False, True])
def test_a_kill_while_it_is_recorded(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, step: str, repaired: bool
) -> None:
    """Before each write, with a damage that is new or gone: once the file is whole, so is all that was said of it."""
    image = chain.points[0] / "vda.qcow2"
    copy = shutil.copy(image, tmp_path / "copy")
    flip(image)
    if repaired:
        chain.refused()
        shutil.copy(copy, image)
    writes: list[str] = []

    def dying(name: str, real: t.Callable[..., None]) -> t.Callable[..., None]:
        def write(path: str, *rest: t.Any) -> None:
            writes.append(name if name == "mark" or "mark" not in writes else "last record")
            if writes[-1] == step:
                raise KeyboardInterrupt
            real(path, *rest)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(use_case, "write_verified", dying("first record", write_verified))
        patch.setattr(use_case, "replace_damage", dying("mark", use_case.replace_damage))
        with pytest.raises(KeyboardInterrupt):
            chain.verify()
    shutil.copy(copy, image)
    assert chain.verify().result["damaged"] == []
    assert chain.plan()["vda"] == "incremental"
    assert not (chain.points[0] / "damaged.json").exists()


def test_a_mark_of_somebody_else_stays(chain: Chain) -> None:
    mark_damage(str(chain.points[1]), {"vdb": "clean ranges differ from the guest's disk."})
    for _time in range(2):
        error = chain.refused()
        assert [entry[3] for entry in damaged(error)] == [chain.ids(1, 2)]
        assert "clean ranges differ" in error.message
    assert read_damage(str(chain.points[1])) == {"vdb": "clean ranges differ from the guest's disk."}


def test_files_alone_do_not_take_back_what_the_content_said(chain: Chain) -> None:
    path = str(chain.points[1])
    found = FileDamage("vda.qcow2", "the content differs.", "vda", Depth.CONTENT)
    write_verified(path, Verification(datetime.datetime.now(datetime.timezone.utc), Depth.CONTENT, (found,)))
    mark_damage(path, {"vda": "the content differs."})
    for _time in range(2):
        assert damaged(chain.refused()) == [(chain.ids(1)[0], "vda.qcow2", ["vda"], chain.ids(1, 2))]
    assert read_damage(path) == {"vda": "the content differs."}


def test_max_age(chain: Chain) -> None:
    chain.verify(id=chain.ids(1)[0])
    assert chain.verify(check=True, max_age="60").result["verified"] == chain.ids(2)
    assert chain.verify(max_age="60").result["verified"] == chain.ids(2)
    for check in (True, False):
        again = chain.verify(check=check, max_age="60")
        assert (again.changed, again.result["verified"]) == (False, [])
    assert chain.verify(check=True).result["verified"] == chain.ids()
    assert chain.verify(check=True, max_age="60", content=True).result["verified"] == chain.ids()
    record = read_verified(str(chain.points[1]))
    assert record
    for seconds in (-61, 61):
        moved = record.when + datetime.timedelta(seconds=seconds)
        write_verified(str(chain.points[1]), Verification(moved, Depth.CONTENT))
        assert chain.verify(check=True, max_age="60").result["verified"] == chain.ids(1)


def test_no_age_lets_a_damaged_or_vanished_image_pass(chain: Chain) -> None:
    flip(chain.points[0] / "checkpoint.xml")
    (chain.points[1] / "vda.qcow2").rename(chain.points[1].parent / "away")
    for _time in range(2):
        error = chain.refused(max_age="3600")
        assert [(entry[0], entry[1]) for entry in damaged(error)] == [
            (chain.ids(0)[0], "checkpoint.xml"),
            (chain.ids(1)[0], "vda.qcow2"),
        ]
    (chain.points[1].parent / "away").rename(chain.points[1] / "vda.qcow2")
    (chain.points[2] / "vdb.qcow2").unlink()
    assert (chain.ids(2)[0], "vdb.qcow2", ["vdb"], chain.ids(2)) in damaged(chain.refused(max_age="3600"))


def test_a_record_that_is_none_is_replaced(chain: Chain) -> None:
    (chain.points[0] / "verified.json").write_text('{"format": 1, "depth": "abyss"}')
    assert chain.verify(max_age="3600").result["verified"] == chain.ids()
    assert json.loads((chain.points[0] / "verified.json").read_text())["good"] is True


@pytest.mark.parametrize("gone", [0, 2])
def test_a_restore_point_that_is_removed_meanwhile(chain: Chain, monkeypatch: pytest.MonkeyPatch, gone: int) -> None:
    """Before its turn, in the midst of it, and before its record: each time it is gone, not damaged."""
    real, identifier = use_case.verify_files, chain.ids(2)[0]

    def removing(point: t.Any, encryption: t.Any) -> t.Any:
        found = real(point, encryption) if gone == 2 or point.id != identifier else None
        if point.id == chain.ids(gone)[0]:
            run("absent", repository=chain.repository, id=identifier)
        return found or real(point, encryption)

    monkeypatch.setattr(use_case, "verify_files", removing)
    done = chain.verify()
    assert done.result["gone"] == [identifier]
    assert [point["id"] for point in done.result["restore_points"]] == chain.ids(0, 1)
    assert done.result["verified"] == chain.ids(0, 1)
    assert not chain.points[2].exists()


def test_a_bad_sector_is_damage_of_that_file(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    real, bad = stored.chunks_of, str(chain.points[1] / "vda.qcow2")

    def read(path: str) -> t.Iterator[bytes]:
        if path == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(path)

    monkeypatch.setattr(stored, "chunks_of", read)
    error = chain.refused()
    assert damaged(error) == [(chain.ids(1)[0], "vda.qcow2", ["vda"], chain.ids(1, 2))]
    assert "vda.qcow2 can't be read: Input/output error" in error.message


def test_the_lock_of_a_run_in_progress_is_no_hindrance(chain: Chain) -> None:
    started = Run(chain.repository, *DISKS, checkpoints=chain.checkpoints)
    assert chain.verify().result["verified"] == chain.ids()
    started.extract().present()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"id": "../x"}, "id: '../x' is not the id of a restore point"),
        ({"id": "20200101T000000Z-0000"}, "id: '20200101T000000Z-0000' is no restore point of this domain"),
        ({"max_age": "-1"}, "max_age: '-1' is no duration"),
        ({"domain_uuid": "x"}, "domain_uuid: 'x' is not a domain's UUID"),
        ({"domain_uuid": UUID.replace("7", "8")}, "has no restore point in this repository"),
        ({"domain_uuid": "", "domain_name": "nobody"}, "domain_name: 'nobody' has no restore point in this repository"),
    ],
)
def test_what_can_not_be_meant(chain: Chain, options: dict[str, t.Any], sentence: str) -> None:
    for check in (True, False):
        with pytest.raises(InputError) as caught:
            verify(VerifyRequest(**{"repository": chain.repository, "domain_uuid": UUID, **options}), check=check)
        assert sentence in caught.value.message
