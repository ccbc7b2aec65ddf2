# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of a repository that are not what was written: each is read, or refused in one sentence that names it."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import time
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.virt.backup.plugins.module_utils._copy import digest
from ansible_collections.virt.backup.plugins.module_utils._copy.content import BadList, differences, read_list, root
from ansible_collections.virt.backup.plugins.module_utils._copy.digest import content_list
from ansible_collections.virt.backup.plugins.module_utils._decide.chain import chain_of, problems_of
from ansible_collections.virt.backup.plugins.module_utils._decide.verification import broken_by, is_fresh, lineage
from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Point
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, InputError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import BLOCK
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import Record
from ansible_collections.virt.backup.plugins.module_utils._model.staging import LockRecord
from ansible_collections.virt.backup.plugins.module_utils._model.verification import (
    Depth,
    DiskContent,
    FileDamage,
    Verification,
)
from ansible_collections.virt.backup.plugins.module_utils._run import extract, info
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_verify import read_record
from ansible_collections.virt.backup.plugins.module_utils._run.verify_files import _recorded_size
from ansible_collections.virt.backup.plugins.module_utils._store import lock, manifest, stored, verified
from ansible_collections.virt.backup.plugins.module_utils._store.catalog import read_catalog
from ansible_collections.virt.backup.plugins.module_utils._store.damage import read_damage
from ansible_collections.virt.backup.plugins.module_utils._store.layout import DomainPaths, checkpoint_name
from ansible_collections.virt.backup.plugins.module_utils._store.repository_file import Repository, open_repository
from ansible_collections.virt.backup.plugins.module_utils._store.staging_file import read_staging, staging_bytes
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store import store_kit as kit
from ansible_collections.virt.backup.tests.unit.properties import hostile

NOW = kit.NOW
REPOSITORY = {"format": 1, "id": kit.REPOSITORY, "created": "2026-11-23T02:15:00Z"}
POINT = kit.point(2, kit.image("vda", 2, parent=1), kit.image("vdb", 2), xml=True)
MANIFEST = manifest.to_json(POINT.manifest)
LOCK = {
    "format": 1,
    "token": "ab" * 16,
    "run": "a run",
    "id": kit.point_id(3),
    "checkpoint": checkpoint_name(kit.REPOSITORY, kit.point_id(3)),
    "socket": "/run/virt-backup/x.sock",
    "status_file": "/nowhere/status.json",
    "lease_until": "2026-11-23T03:15:00Z",
    "lease_seconds": 3600,
}
VERIFIED = verified.to_json(
    Verification(
        NOW,
        Depth.CONTENT,
        (FileDamage("vda.qcow2", "vda.qcow2 is missing.", "vda"),),
        (DiskContent("vda", verified=True),),
        ("an error.",),
        ("a note.",),
    )
)
RECORD = {
    "record_format": 1,
    "source_id": "a",
    "export": "vda",
    "level": "full",
    "format": "qcow2",
    "bitmap": "",
    "backing_file": "",
    "backing_format": "",
    "compression": "none",
    "size": kit.SIZE,
    "bytes_copied": 65536,
    "bytes_zeroed": 0,
    "bytes_stored": 65536,
    "file_bytes": 196608,
    "extents": 1,
    "seconds": 0.5,
    "digest": "sha256:0",
    "encryption": "none",
    "written_to": "",
    "durable": True,
}
STATUS = {
    "format": 1,
    "updated": "2026-11-23T02:15:00+00:00",
    "images": [{"dest": "/a", "state": "copying", "bytes_done": 1, "bytes_total": 2, "bytes_copied": 1, "rate": 1}],
    "total": {"bytes_done": 1, "bytes_total": 2, "bytes_copied": 1, "rate": 1},
}


def _staging() -> dict[str, t.Any]:
    base = {"name": "vda", "level": "incremental", "reason": "because", "base": kit.point_id(1), "incremental": "c"}
    identity = {"source": "/img/vda", "serial": "", "virtual_size": kit.SIZE, "format": "qcow2", "inode": 1}
    return {
        "format": 1,
        "id": kit.point_id(3),
        "token": "ab" * 16,
        "run": "a run",
        "domain": {"uuid": kit.UUID, "name": "web"},
        "checkpoint": checkpoint_name(kit.REPOSITORY, kit.point_id(3)),
        "socket": "",
        "created": "2026-11-23T02:15:00Z",
        "disks": [{**base, **identity, "bitmap": True}],
        "skipped": [{"name": "sda", "reason": "empty"}],
        "known_checkpoints": ["c"],
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return the directory of a domain in a repository, with a restore point and a staging."""
    top = tmp_path_factory.mktemp("repository") / kit.UUID
    for name in (kit.point_id(2), f"{kit.point_id(3)}.staging"):
        (top / name).mkdir(parents=True)
    return top


def _read_lock(home: pathlib.Path) -> object:
    paths = DomainPaths(str(home))
    found = lock.read_lock(paths)
    if found is not None:
        lock.is_over(paths, found, NOW)
        with contextlib.suppress(lock.LockHeld):
            lock.require_free(paths, NOW)
        with contextlib.suppress(lock.LockHeld):
            lock.acquire(paths, LockRecord("cd" * 16, "b", kit.point_id(4), "c", "", "", NOW, 60), NOW)
        with contextlib.suppress(lock.LockLost):
            lock.renew(paths, found.token, NOW)
    return found


def _read_manifest(home: pathlib.Path) -> object:
    catalog = read_catalog(Repository(str(home.parent), kit.REPOSITORY), kit.UUID)
    for problem in (entry.problem for entry in catalog.unreadable):
        assert hostile.is_clear(BackupError(problem), kit.point_id(2)), problem
    for point in catalog.points:
        problems_of(catalog, point)
        assert manifest.from_json(manifest.to_json(point.manifest), "again") == point.manifest
        stored.damaged_files(point.path, point.manifest)
        json.dumps(manifest.to_json(point.manifest), ensure_ascii=False).encode()
    return catalog


def _read_staging(home: pathlib.Path) -> object:
    catalog = read_catalog(Repository(str(home.parent), kit.REPOSITORY), kit.UUID)
    (found,) = catalog.stagings
    if found.staging is None:
        assert hostile.is_clear(BackupError(found.problem), kit.point_id(3)), found.problem
        read_staging(found.path)
        raise BackupError(found.problem)
    for disk in found.staging.disks:
        assert os.path.dirname(disk.image) == ""
        assert disk.backing_file.count("..") <= 1
    return staging_bytes(found.staging)


def _read_record(home: pathlib.Path) -> object:
    directory = home / kit.point_id(2)
    path = str(directory / "vda.json")
    assert isinstance(_recorded_size(path), int)
    quiet = extract._read_record(path)
    found = read_record(str(directory), kit_disk())
    assert found == quiet
    assert Record.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    return found


def kit_disk() -> t.Any:
    from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
    from ansible_collections.virt.backup.plugins.module_utils._model.staging import PlannedDisk

    return PlannedDisk("vda", Level.FULL, "because", kit.identity())


def _read_verified(home: pathlib.Path) -> object:
    found = verified.read_verified(str(home / kit.point_id(2)))
    if found is not None:
        is_fresh(found, Depth.FILES, 10**15, NOW)
        assert verified.from_json(verified.to_json(found), "again") == found
    return found


def _read_status(home: pathlib.Path) -> object:
    path = str(home / "status.json")
    lock._heartbeat(path)
    return info._progress(path)


class Kind(t.NamedTuple):
    """A kind of file: where it lies below the domain's directory, what it holds, and who reads it."""

    name: str
    document: t.Any
    read: t.Callable[[pathlib.Path], object]


IN_POINT, IN_STAGING = f"{kit.point_id(2)}/", f"{kit.point_id(3)}.staging/"
KINDS = {
    "repository.json": Kind("../repository.json", REPOSITORY, lambda home: open_repository(str(home.parent))),
    "manifest.json": Kind(f"{IN_POINT}manifest.json", MANIFEST, _read_manifest),
    "staging.json": Kind(f"{IN_STAGING}staging.json", _staging(), _read_staging),
    "lock": Kind("lock", LOCK, _read_lock),
    "vda.json": Kind(f"{IN_POINT}vda.json", RECORD, _read_record),
    "verified.json": Kind(f"{IN_POINT}verified.json", VERIFIED, _read_verified),
    "damaged.json": Kind(
        f"{IN_POINT}damaged.json",
        {"format": 1, "disks": {"vda": "its SHA-256 differs."}},
        lambda home: read_damage(str(home / kit.point_id(2))),
    ),
    "status.json": Kind("status.json", STATUS, _read_status),
}


def read_or_refused(kind: Kind, home: pathlib.Path, content: bytes) -> None:
    path = home / kind.name
    path.write_bytes(content)
    before = sorted(os.listdir(home.parent.parent))
    began = time.thread_time()
    try:
        refused = hostile.refusal(lambda: kind.read(home))
    finally:
        path.unlink(missing_ok=True)
        (home / "lock").unlink(missing_ok=True)
    assert refused is None or hostile.is_clear(refused, path.name), refused
    assert time.thread_time() - began < 10
    assert sorted(os.listdir(home.parent.parent)) == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_write_is_read(kind: str, home: pathlib.Path) -> None:
    """Otherwise nothing below would prove anything."""
    found = KINDS[kind]
    (home / found.name).write_bytes(json.dumps(found.document).encode())
    assert found.read(home)
    (home / found.name).unlink()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_other_values_and_other_bytes(kind: str, data: st.DataObject, home: pathlib.Path) -> None:
    read_or_refused(KINDS[kind], home, data.draw(hostile.files_like(KINDS[kind].document)))


# What chance finds seldom: a field, and a value that must not be believed.
TRAPS: list[tuple[str, str, t.Any]] = [
    ("lock", "token", "/../../../outside/x"),
    ("lock", "token", ""),
    ("lock", "lease_seconds", 10**30),
    ("lock", "lease_seconds", 0),
    ("lock", "lease_until", "9999-12-31T23:59:59-23:59"),
    ("lock", "status_file", "/a\0b"),
    ("lock", "run", "a\nb"),
    ("manifest.json", "created", "0001-01-01T00:00:00+23:59"),
    ("manifest.json", "consistency", {"freeze_seconds": 10**400}),
    ("manifest.json", "consistency", {"freeze_seconds": float("nan")}),
    ("manifest.json", "files", [{"name": "../../../outside", "size": 1, "digest": "sha256:0"}]),
    ("manifest.json", "stored", [{"name": "/etc/passwd", "size": 1, "digest": "sha256:0"}]),
    ("manifest.json", "domain", {"uuid": kit.UUID, "name": "web\nroot"}),
    ("manifest.json", "disks", [{**MANIFEST["disks"][0], "image": "../../../outside"}]),
    ("manifest.json", "disks", [{**MANIFEST["disks"][0], "parent": "../../../outside"}]),
    ("manifest.json", "disks", [{**MANIFEST["disks"][0], "name": ".."}]),
    ("manifest.json", "versions", {"a\nb": "1"}),
    ("staging.json", "checkpoint", "foreign"),
    ("staging.json", "id", kit.point_id(4)),
    ("staging.json", "domain", {"uuid": kit.OTHER_UUID, "name": "web"}),
    ("staging.json", "disks", [{**_staging()["disks"][0], "name": "../../../outside"}]),
    ("staging.json", "disks", [{**_staging()["disks"][0], "base": "../../../outside"}]),
    ("staging.json", "known_checkpoints", ["a\nb"]),
    ("vda.json", "size", "x"),
    ("vda.json", "bytes_copied", True),
    ("vda.json", "seconds", float("inf")),
    ("vda.json", "durable", 1),
    ("vda.json", "digest", ["sha256:0"]),
    ("vda.json", "encryption", "a\nb"),
    ("vda.json", "record_format", [1]),
    ("damaged.json", "disks", {"vda": "a\nb"}),
    ("repository.json", "id", "../../outsid"),
]


@pytest.mark.parametrize(
    ("kind", "field", "value"), TRAPS, ids=[f"{row[0]}: {row[1]}: {row[2]!a:.40}" for row in TRAPS]
)
def test_traps(kind: str, field: str, value: t.Any, home: pathlib.Path) -> None:
    found = KINDS[kind]
    path = home / found.name
    path.write_bytes(hostile.written({**found.document, field: value}))
    results: list[object] = []
    try:
        refused = hostile.refusal(lambda: results.append(found.read(home)))
    finally:
        path.unlink()
    if kind == "manifest.json":
        assert [entry.id for entry in t.cast(Catalog, results[0]).unreadable] == [kit.point_id(2)]
    else:
        assert refused is not None
        assert hostile.is_clear(refused, path.name), refused


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+23:59", "yesterday", 5, None, [], "9999-12-31T23:59:59-23:59"])
def test_a_heartbeat_that_is_no_time_is_none(value: t.Any, home: pathlib.Path) -> None:
    path = home / "status.json"
    path.write_bytes(hostile.written({**STATUS, "updated": value}))
    assert lock._heartbeat(str(path)) is None
    path.unlink()


ODD = {
    "nothing": b"",
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of many digits": b'{"format": ' + b"9" * 100_000 + b"}",
    "no number": b'{"format": NaN}',
    "bytes that are no text": b'{"format": "\xff\xfe"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"format": 1}'.encode("utf-16"),
    "UTF-32": '{"format": 1}'.encode("utf-32"),
    "a key twice": b'{"format": 1, "format": 2}',
    "a newer format": b'{"format": 2}',
    "an ancient format": b'{"format": -1}',
    "a list": b"[1]",
    "a word": b'"format"',
    "zeroes": bytes(4096),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", ODD)
def test_odd_files(kind: str, odd: str, home: pathlib.Path) -> None:
    read_or_refused(KINDS[kind], home, ODD[odd])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["link", "loop", "fifo", "directory", "link to a device", "no rights of a file"])
def test_what_is_no_file(kind: str, what: str, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Neither read through a link nor waited for, whoever may read it in the end."""
    found = KINDS[kind]
    path, outside = home / found.name, tmp_path / "outside"
    outside.write_bytes(json.dumps(found.document).encode())
    if what == "link":
        path.symlink_to(outside)
    elif what == "loop":
        path.symlink_to(path)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "link to a device":
        path.symlink_to("/dev/zero")
    elif what == "directory":
        path.mkdir()
    else:
        path.write_bytes(outside.read_bytes())
        path.chmod(0)
    before = os.stat(outside)
    try:
        refused = hostile.refusal(lambda: found.read(home))
    finally:
        path.rmdir() if what == "directory" else path.unlink(missing_ok=True)
        (home / "lock").unlink(missing_ok=True)
    if refused is None:  # a verification that can't be read is none, a restore point is told of as one that can't
        assert kind in ("verified.json", "manifest.json") or what == "no rights of a file"
    else:
        assert hostile.is_clear(refused, path.name), refused
    assert os.stat(outside) == before


def sums_of(files: dict[str, bytes]) -> bytes:
    return stored.sums_bytes({name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in files.items()})


@given(content=hostile.spoilt(sums_of({"vda.qcow2": b"a", "manifest.json": b"b", "../../x": b"c"})))
def test_sums(content: bytes, home: pathlib.Path) -> None:
    directory = home / kit.point_id(2)
    (directory / "SHA256SUMS").write_bytes(content)
    found = stored.read_sums(str(directory))
    assert not found or all("/" not in name and name not in (".", "..") for name in found)
    for damage in stored.damaged_files(str(directory), None):
        assert hostile.is_clear(BackupError(damage.problem))
    (directory / "SHA256SUMS").unlink()


@pytest.mark.parametrize("name", ["../outside", "..", "a\x1b[31m", "-rf\r"])
def test_sums_of_names_that_lead_elsewhere_are_none(name: str, home: pathlib.Path) -> None:
    directory = home / kit.point_id(2)
    (home / "outside").write_bytes(b"c")
    (directory / "SHA256SUMS").write_bytes(sums_of({name: b"c", "manifest.json": b"b"}))
    assert stored.read_sums(str(directory)) is None
    (directory / "SHA256SUMS").unlink()


def a_list(*, incremental: bool) -> bytes:
    size = 3 * BLOCK + 512
    blocks = [(0, 0xFFFF, b"a" * BLOCK), (BLOCK, 0x00FF, bytes(BLOCK)), (3 * BLOCK, 0xFFFF, b"b" * 512)]
    return b"".join(content_list(size, blocks, incremental=incremental))


@pytest.mark.slow
@given(lower=hostile.spoilt(a_list(incremental=False)), upper=hostile.spoilt(a_list(incremental=True)))
def test_lists_of_digests(lower: bytes, upper: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any two of them, one on the other: a sum or a reason, and what differs or a reason."""
    whole = (a_list(incremental=False), a_list(incremental=True))
    for pair in ((lower, upper), (lower, whole[1]), (whole[0], upper)):
        with contextlib.suppress(BadList), lists(tmp_path_factory, *pair) as files:
            assert root([read_list(file) for file in files]).startswith("sha256:")
        with contextlib.suppress(BadList), lists(tmp_path_factory, *pair) as files:
            blocks = [(offset, bytes(BLOCK)) for offset in range(0, 3 * BLOCK, BLOCK)] + [(3 * BLOCK, bytes(512))]
            list(differences([read_list(file) for file in files], blocks))


@contextlib.contextmanager
def lists(factory: pytest.TempPathFactory, *contents: bytes) -> t.Iterator[list[t.BinaryIO]]:
    folder = factory.getbasetemp()
    with contextlib.ExitStack() as stack:
        files: list[t.BinaryIO] = []
        for number, content in enumerate(contents):
            (folder / f"list-{number}").write_bytes(content)
            files.append(stack.enter_context((folder / f"list-{number}").open("rb")))
        yield files


@given(size=st.integers(0, 2**64 - 1))
def test_a_list_of_a_disk_of_any_size(size: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = digest.MAGIC + size.to_bytes(8, "big")
    with contextlib.suppress(BadList), lists(tmp_path_factory, content, content) as files:
        assert root([read_list(file) for file in files])


ids = st.integers(1, 6)


@given(parents=st.dictionaries(ids, st.tuples(ids, st.booleans()), max_size=6), broken=st.sets(ids))
def test_parents_in_any_order_and_in_circles(parents: dict[int, tuple[int, bool]], broken: set[int]) -> None:
    """Whatever the manifests say of each other, every chain ends."""
    catalog = Catalog(
        tuple(
            kit.point(day, kit.image("vda", day, parent=parent if built else 0))
            for day, (parent, built) in sorted(parents.items())
            if day not in broken
        )
    )
    for point in catalog.points:
        chain = chain_of(catalog, point.id, "vda")
        assert len(chain.ids) <= 6
        assert set(lineage(catalog, point.id, "vda")) >= set(chain.ids)
        broken_by(catalog, point.id)
        assert chain.problem or all(
            _parent_of(catalog, child) == parent for parent, child in zip(chain.ids, chain.ids[1:])
        )


def _parent_of(catalog: Catalog, identifier: str) -> str:
    point: Point | None = catalog.point(identifier)
    entry = point.manifest.disk("vda") if point else None
    return entry.parent if entry else ""


@pytest.mark.parametrize("seconds", [0, 1, 10**9, 10**15, 10**30])
def test_an_age_of_any_length(seconds: int) -> None:
    from ansible_collections.virt.backup.plugins.module_utils._decide.base import decide_bases
    from ansible_collections.virt.backup.plugins.module_utils._decide.freshness import freshness
    from ansible_collections.virt.backup.plugins.module_utils._model.base_plan import Policy

    catalog = kit.catalog(kit.point(1, kit.image("vda", 1)))
    now = NOW + datetime.timedelta(days=3)
    freshness([kit.domain_disk()], catalog, seconds, now)
    is_fresh(verified.from_json(VERIFIED, "x"), Depth.FILES, seconds, now)
    decide_bases([kit.domain_disk()], catalog, [], Policy(full_every_days=seconds), now)


def test_a_status_file_that_is_none_is_the_parameter_s_fault(home: pathlib.Path) -> None:
    (home / "status.json").write_bytes(b"[]")
    with pytest.raises(InputError, match="status_file"):
        info._progress(str(home / "status.json"))
    (home / "status.json").unlink()
