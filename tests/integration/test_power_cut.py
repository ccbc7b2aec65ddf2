# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cut the power of the repository after every system call that changes it: the old state is there or the new one.

The calls of the real code are recorded by strace and replayed into a model of storage that keeps what was synced, and of
the rest any part (:mod:`power_model`). What a cut may leave is laid out in a folder and read as any reader would.
Leaving one sync out must be noticed: else these tests would prove nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import typing as t
from pathlib import Path

import pytest
from integration import power_record
from integration.disk_scene import Scene
from integration.power_model import Blob, Storage, Tree, key_of, lay_out, tree_of
from integration.power_record import mark

from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import InfoRequest, look
from ansible_collections.virt.backup.plugins.module_utils._run.verify import VerifyRequest, verify
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog
from ansible_collections.virt.backup.plugins.module_utils._store.damage import read_damage
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import open_repository
from ansible_collections.virt.backup.plugins.module_utils._store.stored import damaged_files
from ansible_collections.virt.backup.plugins.module_utils._store.verified import read_verified
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store import tries
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    UUID,
    make_repository,
    run,
)
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_scene import in_memory

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host

SEED = os.environ.get("VIRT_BACKUP_SEED") or os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(random.randrange(10**6))
REPAIRED = 400 if os.environ.get("VIRT_BACKUP_FAULTS") == "all" else 8
"""How many of the states are repaired by a next run."""
DONE = "done"
"""The mark of work that has told of its success: from then on only the new state will do."""


class Recorded(t.NamedTuple):
    """Some work on what lies below ``root``, and its calls."""

    root: Path
    before: Storage
    calls: list[power_record.Call]

    def cuts(self) -> t.Iterator[tuple[bool, Tree]]:
        """Yield whether the work had told of its success, and what a power cut may leave, each state once."""
        choice = random.Random(SEED)
        seen = set()
        for call in self.calls:
            if self.before.apply(call):
                for tree in self.before.after_a_cut(choice):
                    key = (key_of(tree), DONE in self.before.marks)
                    if key not in seen:
                        seen.add(key)
                        yield DONE in self.before.marks, tree
        assert key_of(self.before.now) == key_of(tree_of(self.root)), "the record is not all that was done"
        tries.count(len(seen))
        assert len(seen) > 3, "hardly anything was cut"


def recorded(root: Path, work: t.Callable[[], object]) -> Recorded:
    """Do the work once, in a child under strace."""

    def all_of_it() -> None:
        work()
        mark(DONE)

    before = Storage(root)
    return Recorded(root, before, power_record.record(all_of_it, root.parent / "strace.log"))


class Judge:
    """Reads the states that power cuts leave. What was read once needs no second look."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.seen: set[tuple[bool, tuple[str, ...]]] = set()
        self._whole: set[tuple[str, frozenset[tuple[str, str]]]] = set()

    @contextlib.contextmanager
    def laid_out(self, tree: Tree) -> t.Iterator[Path]:
        """Yield the state as a folder."""
        with in_memory() as folder:
            lay_out(tree, folder / "root")
            yield folder / "root" / "repository"

    def points(self, tree: Tree, *, done: bool) -> tuple[str, ...]:
        """Return which restore points a state has, after making sure that each of them is whole."""
        with self.laid_out(tree) as repository:
            points = look(InfoRequest(str(repository), UUID)).result["restore_points"]
            unreadable = [entry.problem for entry in read_catalog(open_repository(str(repository)), UUID).unreadable]
            assert not unreadable, f"unreadable: {unreadable}"
            incomplete = [problem for point in points for problem in point["problems"]]
            assert not incomplete, f"incomplete: {incomplete}"
            ids = tuple(str(point["id"]) for point in points)
            for identifier in ids:
                self._check_whole(repository, tree, identifier)
        self.seen.add((done, ids))
        return ids

    def _check_whole(self, repository: Path, tree: Tree, identifier: str) -> None:
        """Every stored byte has its SHA-256, and QEMU reads through the chain what the disk held."""
        parts = [key for key in key_of(tree) if "/20" in key[0] and ".staging" not in key[0]]
        key = (identifier, frozenset(part for part in parts if not part[0].endswith("ied.json")))
        if key in self._whole:
            return
        point = read_catalog(open_repository(str(repository)), UUID).point(identifier)
        assert point is not None
        damaged = [damage.problem for damage in damaged_files(point.path, point.manifest)]
        assert not damaged, f"damaged: {damaged}"
        nbd.identical(Path(point.path) / "vda.qcow2", self.scene.truth[identifier])
        self._whole.add(key)

    def repaired(self, tree: Tree, server: nbd.Server, done: bool) -> None:
        """Let the next run come: it needs no help, and leaves nothing but restore points."""
        with self.laid_out(tree) as repository:
            before = self.points(tree, done=done)
            run("absent", repository=str(repository), break_lock=True)  # as when the lease has ended
            following = self.scene.stage(repository, *before)
            for leftover in following.plan["leftovers"]:
                following.absent(id=leftover["id"])
            new = self.scene.publish(following, self.scene.copy(following, server))
            after = look(InfoRequest(str(repository), UUID)).result
            assert [point["id"] for point in after["restore_points"]] == [*before, new]
            assert (after["lock"], after["stagings"], after["problems"]) == (None, [], [])
            assert verify(VerifyRequest(str(repository), UUID), check=False).result["damaged"] == []
            image = Path(after["restore_points"][-1]["path"]) / "vda.qcow2"
            nbd.run("qemu-img", "compare", "-q", "-U", "-f", "qcow2", image, server.uri())


@pytest.fixture(autouse=True)
def tried(request: pytest.FixtureRequest) -> t.Iterator[None]:
    with tries.told(request.node):
        yield


@pytest.fixture
def scene() -> t.Iterator[Scene]:
    with in_memory() as folder:
        yield Scene(folder)


@contextlib.contextmanager
def syncs_left_out(pattern: str) -> t.Iterator[None]:
    """Leave out every sync of a path that matches, if there is a pattern."""
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        for name in ("fsync", "fdatasync"):
            original = getattr(os, name)

            def sync(descriptor: int, original: t.Callable[[int], None] = original) -> None:
                if not pattern or not re.search(pattern, os.readlink(f"/proc/self/fd/{descriptor}")):
                    original(descriptor)

            context.setattr(os, name, sync)
        yield


def either(found: object, old: object, new: object, *, done: bool) -> None:
    """Insist on the old state or the new; on the new one when success was told."""
    assert found == new or not done, f"told of its success, and there is {found!r}"
    assert found in (old, new), f"there is {found!r}"


def backup(scene: Scene, without: str = "") -> None:
    """A whole run: the lock, the staging, the image with its record, the publication."""
    make_repository(scene.repository)
    with scene.server("write -P 2 256k 64k") as server:
        first = scene.backup(server)
    with scene.server("write -P 3 512k 64k") as server:

        def work() -> None:
            staged = scene.stage(scene.repository, first)
            images = scene.copy(staged, server)
            mark("copied")
            scene.publish(staged, images)

        with syncs_left_out(without):
            made = recorded(scene.root, work)
        ids = [point["id"] for point in look(InfoRequest(str(scene.repository), UUID)).result["restore_points"]]
        assert len(ids) == 2
        scene.keep_truth(ids[1])
        judge = Judge(scene)
        states = []
        for done, tree in made.cuts():
            found = judge.points(tree, done=done)
            either(found, (first,), tuple(ids), done=done)
            states.append((done, tree))
        assert judge.seen == {(False, (first,)), (False, tuple(ids)), (True, tuple(ids))}
        if not without:
            for done, tree in random.Random(SEED).sample(states, min(REPAIRED, len(states))):
                judge.repaired(tree, server, done)


def removal(scene: Scene, without: str = "") -> None:
    """A restore point that nothing builds on."""
    make_repository(scene.repository)
    with scene.server("write -P 2 256k 64k") as server:
        first = scene.backup(server)
        second = scene.backup(server, first)
        with syncs_left_out(without):
            made = recorded(scene.root, lambda: run("absent", repository=str(scene.repository), id=second))
    judge = Judge(scene)
    for done, tree in made.cuts():
        found = judge.points(tree, done=done)
        either(found, (first, second), (first,), done=done)
    assert judge.seen == {(False, (first, second)), (False, (first,)), (True, (first,))}


def giving_up(scene: Scene, without: str = "") -> None:
    """A run that failed after its copy."""
    make_repository(scene.repository)
    with scene.server("write -P 2 256k 64k") as server:
        first = scene.backup(server)
        staged = scene.stage(scene.repository, first)
        scene.copy(staged, server)
        with syncs_left_out(without):
            made = recorded(scene.root, staged.absent)
    judge = Judge(scene)
    for done, tree in made.cuts():
        assert judge.points(tree, done=done) == (first,)
        assert not done or not [name for name in tree if name.endswith((".staging", "/lock"))], (
            "given up, and there again"
        )


def verification(scene: Scene, without: str = "") -> None:
    """One that finds an image damaged: the mark that keeps it from being a base is there as a whole, or not yet."""
    make_repository(scene.repository)
    with scene.server("write -P 2 256k 64k") as server:
        first = scene.backup(server)
    image = scene.repository / UUID / first / "vda.qcow2"
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)

    def work() -> None:
        with contextlib.suppress(StateError):
            verify(VerifyRequest(str(scene.repository), UUID), check=False)

    with syncs_left_out(without):
        made = recorded(scene.root, work)
    seen = set()
    for done, tree in made.cuts():
        with Judge(scene).laid_out(tree) as repository:
            point = str(repository / UUID / first)
            marked, record = set(read_damage(point)), read_verified(point)
            assert not (repository / UUID / first / "verified.json").exists() or record is not None
            either(marked, set(), {"vda"}, done=done)
            assert not marked or record is not None, "a mark that no verification can take back"
            seen.add((done, bool(marked)))
    assert seen == {(False, False), (False, True), (True, True)}


def first_repository(scene: Scene, without: str = "") -> None:
    """A repository in a new directory."""
    with syncs_left_out(without):
        made = recorded(scene.root, lambda: make_repository(scene.repository))
    for done, tree in made.cuts():
        with Judge(scene).laid_out(tree) as repository:
            there = "repository/repository.json" in tree
            either(there, False, True, done=done)
            if there:
                open_repository(str(repository))
            else:
                make_repository(repository)


def replacement(scene: Scene, without: str = "") -> None:
    """An image that replaces another under the same name: no record ever vouches for the bytes of the other."""
    dest = scene.root / "a.qcow2"

    def request(server: nbd.Server, source_id: str) -> ExtractRequest:
        image = ImageRequest(server.uri(), str(dest), source_id=source_id)
        return ExtractRequest(images=(image,), connections=1, force=True)

    with scene.server("write -P 2 256k 64k") as server:
        extract(request(server, "old"), check=False)
    old = dest.read_bytes()
    with scene.server("write -P 3 512k 64k") as server:
        with syncs_left_out(without):
            made = recorded(scene.root, lambda: extract(request(server, "new"), check=False))
        new, nothing = dest.read_bytes(), b""
        seen = set()
        for done, tree in made.cuts():
            image, kept = tree.get("a.qcow2"), tree.get("a.json")
            content = nothing if image is None or isinstance(image, str) else image.content
            says = re.findall(rb'"source_id": "(\w+)"', b"" if kept is None or isinstance(kept, str) else kept.content)
            assert content == new or (content == old and not done), "the image is neither the old nor the new one"
            assert says in ([], [b"new" if content == new else b"old"]), "the record is not of this image"
            assert says == [b"new"] or not done, "told, and not recorded"
            seen.add((content == new, *says))
    assert seen == {(False, b"old"), (False,), (True,), (True, b"new")}


SCENARIOS = (backup, removal, giving_up, verification, first_repository, replacement)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_power_is_cut(scene: Scene, scenario: t.Callable[[Scene], None]) -> None:
    scenario(scene)


class LeftOut(t.NamedTuple):
    """Syncs of paths that are left out, the scenario that must notice, and what it then says."""

    scenario: t.Callable[[Scene, str], None]
    paths: str
    damage: str

    @property
    def id(self) -> str:
        return f"{self.scenario.__name__}-{re.sub('[^a-zA-Z0-9]+', '-', self.paths.replace(UUID, 'domain')).strip('-')}"


TOLD = "told of its success"
LEFT_OUT = (
    LeftOut(backup, r"/manifest\.json\.\w+\.tmp$", "unreadable: .*manifest.json is not readable JSON"),
    LeftOut(backup, r"/SHA256SUMS\.\w+\.tmp$", "damaged: .*SHA256SUMS is missing or damaged"),
    LeftOut(backup, r"/checkpoint\.xml\.\w+\.tmp$", "incomplete: .*checkpoint.xml has 0 bytes"),
    LeftOut(backup, r"/nvram$", "incomplete: .*nvram has 0 bytes"),
    LeftOut(backup, r"/\.?vda\.qcow2(\.part-\w+)?$", "incomplete: .*vda.qcow2 has 0 bytes"),
    LeftOut(backup, r"\.staging$", "unreadable: .*has no manifest.json"),
    LeftOut(backup, rf"/{UUID}$", TOLD),
    LeftOut(removal, rf"/{UUID}$", "unreadable: .*has no manifest.json"),
    LeftOut(giving_up, rf"/{UUID}$", "given up, and there again"),
    LeftOut(verification, r"/damaged\.json\.\w+\.tmp$", "damaged.json is not readable JSON"),
    LeftOut(verification, r"/20\w+-\w+$", "a mark that no verification can take back"),
    LeftOut(first_repository, r"/repository\.json\.\w+\.tmp$", "repository.json is not readable JSON"),
    LeftOut(first_repository, r"/repository$", TOLD),
    LeftOut(replacement, r"/\.a\.qcow2\.part-\w+$", "the image is neither the old nor the new one"),
    LeftOut(replacement, r"/\.a\.json\.part-\w+$", "told, and not recorded"),
    LeftOut(replacement, r"/root$", "the record is not of this image"),
)


@pytest.mark.parametrize("left_out", LEFT_OUT, ids=lambda left_out: left_out.id)
def test_a_sync_that_is_left_out_is_noticed(scene: Scene, left_out: LeftOut) -> None:
    with pytest.raises((AssertionError, StateError), match=left_out.damage):
        left_out.scenario(scene, left_out.paths)


@pytest.mark.parametrize("careful", [False, True])
def test_what_the_model_takes_for_possible(tmp_path: Path, careful: bool) -> None:
    """A file is written under another name and renamed, as programs do; who syncs neither may find any of these."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "name").write_bytes(b"old")

    def work() -> None:
        with open(root / "new", "wb") as file:
            file.write(b"newer")
            file.flush()
            if careful:
                os.fsync(file.fileno())
        os.rename(root / "new", root / "name")
        if careful:
            folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)

    found: dict[bool, set[bytes]] = {False: set(), True: set()}
    for done, tree in recorded(root, work).cuts():
        assert set(tree) in ({"name"}, {"name", "new"})
        name = tree["name"]
        assert isinstance(name, Blob)
        found[done].add(name.content)
    before = {b"old", b"newer"} if careful else {b"old", b"newer", b"", bytes(5)}
    assert found == {False: before, True: {b"newer"} if careful else before}
