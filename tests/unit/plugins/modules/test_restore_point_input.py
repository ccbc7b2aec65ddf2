# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong input: one sentence that names parameter and value and says what to do, and nothing has changed."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._run.repository import RepositoryRequest, ensure_repository
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import InfoRequest, look
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    UUID,
    Run,
    backup,
    make_repository,
    raw_checkpoint,
    raw_disk,
    run,
    tree,
    write_image,
)

if t.TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the disk when is for the tests that kill; here it would only cost time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def repo(tmp_path: pathlib.Path) -> str:
    make_repository(tmp_path / "repo")
    return str(tmp_path / "repo")


def refused(repo: str, action: Callable[[], object]) -> str:
    """Run what has to be refused, with and without check mode alike; return the sentence."""
    before = tree(pathlib.Path(repo).parent)
    with pytest.raises(BackupError) as caught:
        action()
    message = caught.value.message
    assert tree(pathlib.Path(repo).parent) == before
    assert message.endswith(".")
    assert "\n" not in message
    return message


# changes to a staged run -> words of the sentence
STAGED: dict[str, tuple[dict[str, t.Any], str]] = {
    "relative repository": ({"repository": "backup"}, "repository: 'backup' is a relative path"),
    "newline in the repository": (
        {"repository": "/srv/a\nb"},
        "repository: '/srv/a\\nb' holds a newline or another control character",
    ),
    "dots in the repository": ({"repository": "/srv/../etc"}, "contains '..'"),
    "no repository there": ({"repository": "/nonexistent"}, "it has no repository.json"),
    "a file as repository": ({"repository": "/etc/passwd"}, "'/etc/passwd' is not a directory; give the directory"),
    "bad UUID": ({"domain_uuid": "web"}, "domain_uuid: 'web' is not a domain's UUID; take it from 'virsh domuuid'"),
    "UUID that leads away": ({"domain_uuid": "../../etc"}, "is not a domain's UUID"),
    "newline in the name": ({"domain_name": "web\nroot"}, "domain_name: 'web\\nroot' holds a newline"),
    "line separator in the repository": ({"repository": "/srv/a\u2028b"}, "holds a newline"),
    "next line in the name": ({"domain_name": "web\x85root"}, "domain_name: 'web\\x85root' holds a newline"),
    "paragraph separator in a disk's source": (
        {"disks": [raw_disk(source="/a\u2029")]},
        "disks.source: '/a\\u2029' holds",
    ),
    "newline in run": ({"run": "a\nb"}, "run: 'a\\nb' holds a newline"),
    "no disks": ({"disks": []}, "disks: [] is empty; list at least one disk"),
    "duplicate disks": ({"disks": [raw_disk(), raw_disk()]}, "disks: 'vda' is given twice"),
    "disk without a name": ({"disks": [{"source": "/x"}]}, "has no text under 'name'"),
    "disk without a source": ({"disks": [raw_disk(source=None)]}, "has no text under 'source'"),
    "disk name that leads away": ({"disks": [raw_disk("../vda")]}, "disks: '../vda' is not the target name of a disk"),
    "disk name with a newline": ({"disks": [raw_disk("vda\n")]}, "disks.name: 'vda\\n' holds a newline"),
    "size as words": ({"disks": [raw_disk(virtual_size="10G")]}, "'10G' is not a whole number of bytes"),
    "negative size": ({"disks": [raw_disk(virtual_size=-1)]}, "-1 is not a whole number of bytes"),
    "boolean size": ({"disks": [raw_disk(virtual_size=True)]}, "True is not a whole number of bytes"),
    "disk that can't be backed up": (
        {"disks": [raw_disk(backup=False, backup_reason="no medium")]},
        "can't be backed up (no medium); list it under skipped",
    ),
    "disk in both lists": ({"skipped": [{"name": "vda", "reason": "x"}]}, "skipped: 'vda' is among the disks as well"),
    "skipped twice": ({"skipped": [{"name": "a"}, {"name": "a"}]}, "skipped: 'a' is given twice"),
    "checkpoint without a name": ({"checkpoints": [{"disks": []}]}, "has no text under 'name'"),
    "checkpoint with odd disks": ({"checkpoints": [{"name": "c", "disks": "vda"}]}, "has no list of disks"),
    "id without token": ({"id": "20261123T021500Z-7f3a"}, "is given without token"),
    "token without id": ({"token": "f" * 32}, "is given without id"),
    "bad id": ({"id": "latest", "token": "f"}, "id: 'latest' is not the id of a restore point"),
    "unknown id": ({"id": "20261123T021500Z-7f3a", "token": "f"}, "has no staging directory in this repository"),
    "lease of nothing": ({"lease": 0}, "lease: 0 is not between a second and 30 days"),
    "lease of years": ({"lease": 10**9}, "is not between a second and 30 days"),
    "negative age": ({"max_age": -1}, "max_age: -1 is no duration"),
    "negative days": ({"full_every_days": -1}, "full_every_days: -1 is negative"),
    "negative increments": ({"full_every_increments": -5}, "full_every_increments: -5 is negative"),
    "relative socket": ({"socket": "x.sock"}, "socket: 'x.sock' is a relative path"),
    "relative status file": ({"status_file": "status"}, "status_file: 'status' is a relative path"),
    "no secret": (
        {"encryption": {"secret_file": ""}},
        "encryption: 'neither secret_file nor secret' is not one secret",
    ),
    "two secrets": ({"encryption": {"secret": "q7", "secret_file": "/a"}}, "is not one secret; give exactly one"),
    "no such secret": ({"encryption": {"secret_file": "/none"}}, "encryption.secret_file: '/none' can't be read"),
    "open secret": ({"encryption": {"secret_file": "/etc/passwd"}}, "is open to every user (mode 0644); give it mode"),
    "long secret": ({"encryption": {"secret": "x" * 5000}}, "encryption.secret: '(hidden)' is longer than 4096 bytes"),
    "guesses of no time": ({"encryption": {"secret": "q7", "iter_time": 0}}, "encryption.iter_time: 0 is out of range"),
    "images mean nothing here": ({"images": [{"dest": "/x"}]}, "means nothing with state staged"),
    "break_lock means nothing here": ({"break_lock": True}, "break_lock: True means nothing with state staged"),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("case", STAGED)
def test_staged(repo: str, case: str, check: bool) -> None:
    changes, words = STAGED[case]
    request: dict[str, t.Any] = {"repository": repo, "domain_name": "web", "disks": [raw_disk()], **changes}
    assert words in refused(repo, lambda: run("staged", check, **request))


def edit(**changes: t.Any) -> Callable[[Run], dict[str, t.Any]]:
    """Change the first disk of the claim."""
    return lambda started: {"disks": [{**started.plan["disks"][0], **changes}]}


# a run that is extracted -> changed parameters of present, words
PRESENT: dict[str, tuple[Callable[[Run], dict[str, t.Any]], str]] = {
    "bad id": (lambda _: {"id": "../x"}, "id: '../x' is not the id of a restore point"),
    "unknown id": (lambda _: {"id": "20260101T000000Z-0000"}, "begin with state staged"),
    "wrong token": (lambda _: {"token": "f" * 32}, "lost the lock"),
    "no disks": (lambda _: {"disks": []}, "disks: 'vda' was staged but is missing here"),
    "unknown disk": (edit(name="vdz"), "disks: 'vdz' is not what this run was staged with"),
    "duplicate disks": (lambda r: {"disks": r.plan["disks"] * 2}, "disks: 'vda' is given twice"),
    "no level": (edit(level=None), "has no text under 'level'"),
    "unknown level": (edit(level="differential"), "'differential' is no level (disk vda)"),
    "level that contradicts": (edit(level="incremental"), "contradicts the checkpoint ''"),
    "full with a checkpoint": (edit(incremental="c"), "contradicts the checkpoint 'c'"),
    "increment of a planned full": (
        edit(level="incremental", incremental="virt-backup.x"),
        "is not the checkpoint planned for disk vda (none: it is planned as full)",
    ),
    "images without this one": (lambda _: {"images": [{"dest": "/x/vdb.qcow2"}]}, "does not have vda.qcow2"),
    "image without dest": (lambda _: {"images": [{"digest": "x"}]}, "has no text under 'dest'"),
    "another digest": (
        lambda r: {"images": [{"dest": r.plan["disks"][0]["image"], "digest": "sha256:other"}]},
        "has the digest 'sha256:vda', not 'sha256:other' as given",
    ),
    "file name that leads away": (lambda _: {"files": [{"name": "../x", "content": ""}]}, "is no plain file name"),
    "reserved file name": (lambda _: {"files": [{"name": "manifest.json", "content": ""}]}, "uses itself"),
    "name of a record": (
        lambda _: {"files": [{"name": "vda.json", "content": ""}]},
        "is the name of an image's record",
    ),
    "file given twice": (lambda _: {"files": [{"name": "a", "content": ""}] * 2}, "files: 'a' is given twice"),
    "content and src": (lambda _: {"files": [{"name": "a", "content": "", "src": "/x"}]}, "has both content and src"),
    "file that is nowhere": (lambda _: {"files": [{"name": "a"}]}, "is not to be found as a regular file"),
    "src that is nowhere": (lambda _: {"files": [{"name": "a", "src": "/nonexistent"}]}, "in /nonexistent"),
    "src that is a directory": (lambda _: {"files": [{"name": "a", "src": "/etc"}]}, "as a regular file in /etc"),
    "relative src": (lambda _: {"files": [{"name": "a", "src": "x"}]}, "files.src: 'x' is a relative path"),
    "no base64": (
        lambda _: {"files": [{"name": "a", "content": "?", "encoding": "base64"}]},
        "has content that is no base64",
    ),
    "staging means nothing here": (lambda _: {"staging": True}, "staging: True means nothing with state present"),
    "encryption means nothing here": (
        lambda _: {"encryption": {"secret": "q7"}},
        "encryption: '(hidden)' means nothing",
    ),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("case", PRESENT)
def test_present(repo: str, case: str, check: bool) -> None:
    change, words = PRESENT[case]
    started = Run(repo).extract()
    assert words in refused(repo, lambda: started.present(check, **change(started)))
    assert started.present().changed


def spoil(**changes: t.Any) -> Callable[[dict[str, t.Any], str], None]:
    """Write the image, and a record that says something else."""
    return lambda disk, checkpoint: write_image(disk, checkpoint, **changes)


def _without(suffix: str) -> Callable[[dict[str, t.Any], str], None]:
    def write(disk: dict[str, t.Any], checkpoint: str) -> None:
        write_image(disk, checkpoint)
        os.unlink(disk["image"].removesuffix(".qcow2") + suffix)

    return write


def _linked(disk: dict[str, t.Any], checkpoint: str) -> None:
    write_image(disk, checkpoint)
    os.rename(disk["image"], os.path.dirname(disk["image"]) + "/../elsewhere")
    os.symlink("../elsewhere", disk["image"])


def _no_json(disk: dict[str, t.Any], checkpoint: str) -> None:
    write_image(disk, checkpoint)
    pathlib.Path(disk["image"].removesuffix(".qcow2") + ".json").write_text("[]", encoding="utf-8")


def _not_qcow2(disk: dict[str, t.Any], checkpoint: str) -> None:
    pathlib.Path(disk["image"]).write_bytes(bytes(65536))
    record = disk["image"].removesuffix(".qcow2")
    write_image({**disk, "image": record + ".tmp.qcow2"}, checkpoint, file_bytes=65536)
    os.unlink(record + ".tmp.qcow2")
    os.rename(record + ".tmp.json", record + ".json")


def _other_base(disk: dict[str, t.Any], checkpoint: str) -> None:
    write_image({**disk, "backing_file": "../other/vda.qcow2"}, checkpoint)


def _no_base(disk: dict[str, t.Any], checkpoint: str) -> None:
    write_image({**disk, "backing_file": ""}, checkpoint)


def _stray(disk: dict[str, t.Any], checkpoint: str) -> None:
    write_image(disk, checkpoint)
    (pathlib.Path(disk["image"]).parent / "vdb.qcow2").write_text("", encoding="utf-8")


# what was extracted -> words
IMAGES: dict[str, tuple[Callable[[dict[str, t.Any], str], None], str]] = {
    "no image": (_without(".qcow2"), "disk vda has no image"),
    "no record": (_without(".json"), "disk vda has no record"),
    "a link in its place": (_linked, "disk vda has no image"),
    "record that is none": (_no_json, "is not readable JSON"),
    "record of another format": (spoil(record_format=99), "is no record of an extraction"),
    "image of another moment": (spoil(source_id="virt-backup.other"), "was read from 'virt-backup.other'"),
    "image of no known moment": (spoil(source_id=""), "was read from ''"),
    "record of another level": (spoil(level="full"), "is full where disk vda is listed as incremental"),
    "truncated image": (spoil(file_bytes=10**6), "bytes where its record says 1000000"),
    "image of another size": (spoil(size=1 << 21), "was resized from 1048576 to 2097152 bytes"),
    "record of another size": (spoil(size=4096), "was resized from 1048576 to 4096 bytes"),
    "not qcow2": (_not_qcow2, "qemu-img info failed"),
    "on another base": (_other_base, "builds on '../other/vda.qcow2', but the plan says on '../"),
    "on no base": (_no_base, "builds on nothing, but the plan says on '../"),
    "stray image": (_stray, "holds vdb.qcow2, which nobody named"),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("case", IMAGES)
def test_images(repo: str, case: str, check: bool) -> None:
    write, words = IMAGES[case]
    first = backup(repo)
    started = Run(repo, checkpoints=[raw_checkpoint(first["restore_point"]["checkpoint"], "vda")])
    write(started.plan["disks"][0], started.plan["checkpoint"])
    assert words in refused(repo, lambda: started.present(check, images=[]))
    assert look(InfoRequest(repo, UUID)).result["latest"]["id"] == first["id"]


def test_a_base_that_broke_during_the_run(repo: str) -> None:
    first = backup(repo)
    started = Run(repo, checkpoints=[raw_checkpoint(first["restore_point"]["checkpoint"], "vda")]).extract()
    os.truncate(os.path.join(first["path"], "vda.qcow2"), 10)
    assert "the chain that vda builds on is broken" in refused(repo, started.present)


ABSENT: dict[str, tuple[dict[str, t.Any], str]] = {
    "nothing named": ({}, "id: '' is missing"),
    "bad id": ({"id": "20261123"}, "is not the id of a restore point"),
    "staging of whom": ({"staging": True, "break_lock": True}, "staging: True is given without id"),
    "break_lock with token": (
        {"id": "20261123T021500Z-7f3a", "token": "f", "break_lock": True},
        "break_lock: True contradicts token",
    ),
    "disks mean nothing here": (
        {"id": "20261123T021500Z-7f3a", "disks": [raw_disk()]},
        "means nothing with state absent",
    ),
    "no repository": ({"id": "20261123T021500Z-7f3a", "repository": "/tmp"}, "is not a repository"),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("case", ABSENT)
def test_absent(repo: str, case: str, check: bool) -> None:
    changes, words = ABSENT[case]
    assert words in refused(repo, lambda: run("absent", check, **{"repository": repo, **changes}))


@pytest.mark.parametrize("check", [True, False])
def test_a_removal_waits_for_a_living_run(repo: str, check: bool) -> None:
    point = backup(repo)
    Run(repo)
    assert "holds the lock" in refused(repo, lambda: run("absent", check, repository=repo, id=point["id"]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not readable JSON"),
        ("[]", "holds no object"),
        ('{"format": 2, "id": "4f1c09a2be77"}', "a newer release of virt.backup wrote"),
        ('{"format": 1}', "has no 'id'"),
        ('{"format": 1, "id": "../../x"}', "is no repository id"),
    ],
)
def test_a_repository_file_that_is_not_understood(repo: str, content: str, words: str) -> None:
    (pathlib.Path(repo) / "repository.json").write_text(content, encoding="utf-8")
    request: dict[str, t.Any] = {"repository": repo, "domain_name": "web", "disks": [raw_disk()]}
    assert words in refused(repo, lambda: run("staged", **request))
    assert words in refused(repo, lambda: run("absent", repository=repo, break_lock=True))
    assert words in refused(repo, lambda: look(InfoRequest(repo)))
    assert words in refused(repo, lambda: ensure_repository(RepositoryRequest(repo), check=False))


def test_a_repository_that_is_not_mounted_is_never_taken_for_a_new_one(repo: str) -> None:
    backup(repo)
    os.unlink(os.path.join(repo, "repository.json"))
    request: dict[str, t.Any] = {"repository": repo, "domain_name": "web", "disks": [raw_disk()]}
    assert "check that its file system is mounted" in refused(repo, lambda: run("staged", **request))
    assert "is not empty" in refused(repo, lambda: ensure_repository(RepositoryRequest(repo), check=False))


def test_a_restore_point_of_a_newer_release_stops_every_change(repo: str) -> None:
    point = backup(repo)
    path = pathlib.Path(point["path"]) / "manifest.json"
    path.write_text(json.dumps({"format": 2}), encoding="utf-8")
    request: dict[str, t.Any] = {"repository": repo, "domain_name": "web", "disks": [raw_disk()]}
    assert "upgrade the collection" in refused(repo, lambda: run("staged", **request))
    assert "upgrade the collection" in refused(repo, lambda: run("absent", repository=repo, id=point["id"]))
    assert "upgrade the collection" in look(InfoRequest(repo, UUID)).result["problems"][0]


def test_a_link_in_the_place_of_the_domains_directory(repo: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", os.path.join(repo, UUID))
    request: dict[str, t.Any] = {"repository": repo, "domain_name": "web", "disks": [raw_disk()]}
    assert "is not a directory" in refused(repo, lambda: run("staged", **request))


REPOSITORY: dict[str, tuple[dict[str, t.Any], str]] = {
    "relative": ({"path": "backup"}, "path: 'backup' is a relative path"),
    "no parent": ({"path": "/nonexistent/backup"}, "has no parent directory"),
    "a file": ({"path": "/etc/passwd"}, "is not a directory"),
    "not empty": ({"path": "/etc"}, "is not empty"),
    "mode in words": ({"mode": "u+rwx"}, "mode: 'u+rwx' is not an octal mode"),
    "mode out of range": ({"mode": "70000"}, "is not an octal mode"),
    "mode without the owner": ({"mode": "0070"}, "keeps the owner out"),
    "unknown owner": ({"owner": "nobody-of-that-name"}, "does not exist on this host"),
    "unknown group": ({"group": "nobody-of-that-name"}, "does not exist on this host"),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("case", REPOSITORY)
def test_repository(repo: str, tmp_path: pathlib.Path, case: str, check: bool) -> None:
    changes, words = REPOSITORY[case]
    request = RepositoryRequest(**{"path": str(tmp_path / "new"), **changes})
    assert words in refused(repo, lambda: ensure_repository(request, check=check))


def test_require_mount(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = RepositoryRequest(str(tmp_path / "new"), require_mount=True)
    monkeypatch.setattr(os.path, "ismount", lambda path: path == "/")
    assert "is not on a mounted file system of its own" in refused(
        str(tmp_path / "new"), lambda: ensure_repository(request, check=False)
    )
    monkeypatch.setattr(os.path, "ismount", lambda path: path in ("/", str(tmp_path)))
    assert ensure_repository(request, check=False).changed


def test_a_repository_is_made_once_and_its_rights_are_kept(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new"
    path.mkdir(mode=0o755)
    (path / "lost+found").mkdir()
    request = RepositoryRequest(str(path))
    assert ensure_repository(request, check=True).changed
    assert not (path / "repository.json").exists()
    made = ensure_repository(request, check=False)
    assert made.changed
    assert path.stat().st_mode & 0o7777 == 0o700
    for check in (True, False):
        again = ensure_repository(request, check=check)
        assert (again.changed, again.result) == (False, made.result)
    opened = RepositoryRequest(str(path), mode="0750", group="0")
    assert ensure_repository(opened, check=True).changed
    assert path.stat().st_mode & 0o7777 == 0o700
    assert ensure_repository(opened, check=False).changed
    assert path.stat().st_mode & 0o7777 == 0o750
    assert (path / "repository.json").stat().st_mode & 0o7777 == 0o640
    assert not ensure_repository(opened, check=False).changed
    assert not ensure_repository(request, check=False).changed


INFO = {
    "bad UUID": ({"domain_uuid": "web"}, "is not a domain's UUID"),
    "unknown name": ({"domain_name": "web"}, "domain_name: 'web' has no restore point in this repository"),
    "no repository": ({"repository": "/tmp"}, "is not a repository"),
}


@pytest.mark.parametrize("case", INFO)
def test_info(repo: str, case: str) -> None:
    changes, words = INFO[case]
    assert words in refused(repo, lambda: look(InfoRequest(**{"repository": repo, **changes})))


def test_a_name_of_two_domains(repo: str) -> None:
    other = "0e9d1c1f-52ab-4f4b-8e53-0a4c6d1b9f00"
    backup(repo)
    Run(repo, domain_uuid=other).extract().present(domain_uuid=other)
    assert f"is the name of several domains ({other}, {UUID})" in refused(
        repo, lambda: look(InfoRequest(repo, domain_name="web"))
    )
    assert sorted(os.listdir(os.path.join(repo, "by-name"))) == ["web", f"web.{other}"]
