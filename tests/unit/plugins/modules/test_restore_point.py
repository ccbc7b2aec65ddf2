# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The life of restore points through what the module calls: twice each, check mode first, with everything that may go wrong."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._copy import digest
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, StateError
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_info import InfoRequest, look
from ansible_collections.virt.backup.plugins.module_utils._store.damage import mark_damage
from ansible_collections.virt.backup.plugins.module_utils._store.lock import LockHeld, LockLost
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    SIZE,
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


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the disk when is for the tests that kill; here it would only cost time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def repo(tmp_path: pathlib.Path) -> str:
    make_repository(tmp_path / "repo")
    return str(tmp_path / "repo")


def info(repo: str, uuid: str = UUID) -> dict[str, t.Any]:
    return look(InfoRequest(repo, uuid)).result


def levels(plan: dict[str, t.Any]) -> dict[str, str]:
    return {disk["name"]: disk["level"] for disk in plan["disks"]}


def expire(repo: str) -> None:
    """Let the lease of the lock end: as if its time had come."""
    path = pathlib.Path(repo) / UUID / "lock"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, "lease_until": "2020-01-01T00:00:00Z"}), encoding="utf-8")


def test_check_mode_predicts_and_changes_nothing(repo: str) -> None:
    before = tree(pathlib.Path(repo))
    request: dict[str, t.Any] = {"repository": repo, "domain_name": "web", "disks": [raw_disk()]}
    predicted = run("staged", check=True, **request)
    assert predicted.changed
    assert predicted.result["token"] == ""
    assert tree(pathlib.Path(repo)) == before
    real = run("staged", **request)
    assert set(real.result) == set(predicted.result)
    for name in ("due", "reason", "left_out", "leftovers", "latest"):
        assert real.result[name] == predicted.result[name]
    for name in ("level", "reason", "base", "backing_file", "incremental"):
        assert real.result["disks"][0][name] == predicted.result["disks"][0][name]


def mismatched(begun: Run, *names: str, **changes: t.Any) -> dict[str, t.Any]:
    """Return the parameters with which a run says that these disks are not what their bases say."""
    found = [{"dest": f"{begun.plan['staging']}/{name}.qcow2", "problem": f"{name} differs"} for name in names]
    own = {"repository": begun.repository, "id": begun.plan["id"], "token": begun.plan["token"]}
    return {**own, "domain_name": "web", "mismatches": found, **changes}


def test_what_a_run_found_wrong_with_a_base_outlives_it(repo: str) -> None:
    disks = [raw_disk("vda"), raw_disk("vdb")]
    first = backup(repo, *disks)["restore_point"]
    state = {"checkpoints": [raw_checkpoint(first["checkpoint"], "vda", "vdb")]}
    failing = Run(repo, *disks, **state)
    assert levels(failing.plan) == {"vda": "incremental", "vdb": "incremental"}
    before = tree(pathlib.Path(repo))
    assert run("staged", check=True, **mismatched(failing, "vdb")).changed
    assert tree(pathlib.Path(repo)) == before
    told = run("staged", **mismatched(failing, "vdb"))
    assert told.changed
    assert told.result["distrusted"] == {first["id"]: {"vdb": "vdb differs"}}
    assert not run("staged", **mismatched(failing, "vdb")).changed
    failing.absent()

    (point,) = info(repo)["restore_points"]
    assert (point["distrusted"], point["complete"], point["problems"]) == ({"vdb": "vdb differs"}, True, [])
    after = Run(repo, *disks, **state)
    assert levels(after.plan) == {"vda": "incremental", "vdb": "full"}
    reason = after.plan["disks"][1]["reason"]
    assert reason == f"an earlier run found its last image ({first['id']}) no base: vdb differs"
    second = after.extract().present().result["restore_point"]
    state = {"checkpoints": [raw_checkpoint(second["checkpoint"], "vda", "vdb")]}
    assert levels(Run(repo, *disks, **state).plan) == {"vda": "incremental", "vdb": "incremental"}


def test_a_note_on_bases_that_cannot_be_read_makes_all_of_them_none(repo: str) -> None:
    first = backup(repo)
    (pathlib.Path(first["path"]) / "distrusted.json").write_bytes(b"\0")
    plan = Run(repo, checkpoints=[raw_checkpoint(first["restore_point"]["checkpoint"], "vda")]).plan
    assert levels(plan) == {"vda": "full"}
    assert "distrusted.json" in plan["disks"][0]["reason"]


def test_a_mismatch_that_is_none_of_the_run(repo: str) -> None:
    begun = Run(repo)
    with pytest.raises(BackupError, match=r"vda\.qcow2' is planned as a full image, which has no base; pass on"):
        run("staged", **mismatched(begun, "vda"))
    with pytest.raises(BackupError, match=r"vdz\.qcow2' is no image of this run; pass on"):
        run("staged", **mismatched(begun, "vdz"))
    with pytest.raises(BackupError, match="is given without id and token; say which run found them"):
        run("staged", **mismatched(begun, "vda", id=None, token=None, disks=[raw_disk()]))
    with pytest.raises(BackupError, match=r"mismatches: .* has no text under 'problem'"):
        run("staged", **mismatched(begun, mismatches=[{"dest": "/x"}]))


def test_staged_again_with_id_and_token_is_unchanged_and_renews_the_lease(repo: str) -> None:
    first = Run(repo).plan
    for check in (True, False):
        again = run("staged", check, repository=repo, id=first["id"], token=first["token"])
        assert not again.changed
        for name in ("id", "checkpoint", "staging", "token", "disks", "status_file"):
            assert again.result[name] == first[name]
        assert (again.result["lease_until"] > first["lease_until"]) is not check


def test_a_second_run_is_kept_out_in_check_mode_too(repo: str) -> None:
    Run(repo, run="hv1 at night")
    for check in (True, False):
        with pytest.raises(LockHeld, match="the run 'hv1 at night' holds the lock"):
            run("staged", check, repository=repo, domain_name="web", disks=[raw_disk()])


def test_present_is_published_once(repo: str) -> None:
    started = Run(repo).extract()
    before = tree(pathlib.Path(repo))
    predicted = started.present(check=True)
    assert predicted.changed
    assert tree(pathlib.Path(repo)) == before
    real = started.present()
    assert real.changed
    expected, found = predicted.result["restore_point"], real.result["restore_point"]
    assert {**expected, "published": "", "stored": []} == {**found, "published": "", "stored": []}
    assert [file["name"] for file in found["stored"]] == ["vda.qcow2", "vda.json", "staging.json"]
    after = tree(pathlib.Path(repo))
    for check in (True, False):
        again = started.present(check)
        assert not again.changed
        assert again.result == real.result
    assert tree(pathlib.Path(repo)) == after
    assert info(repo)["lock"] is None
    assert os.readlink(os.path.join(repo, "by-name", "web")) == f"../{UUID}"


@pytest.mark.parametrize(
    "change",
    [
        {"files": [{"name": "checkpoint.xml", "content": "<other/>"}]},
        {"versions": {"libvirt": "11.3.0"}},
        {"consistency": {"frozen": True, "freeze_seconds": 0.1}},
    ],
)
def test_present_again_with_another_content_is_refused(repo: str, change: dict[str, t.Any]) -> None:
    started = Run(repo).extract()
    started.present()
    before = tree(pathlib.Path(repo))
    with pytest.raises(StateError, match=r"published with another content \((files|versions|consistency) differ\)"):
        started.present(**change)
    assert tree(pathlib.Path(repo)) == before


def test_present_of_another_runs_restore_point_is_refused(repo: str) -> None:
    started = Run(repo).extract()
    started.present()
    with pytest.raises(StateError, match="published by another run"):
        started.present(token="f" * 32)


def test_digests_beside_an_image_are_part_of_the_restore_point(repo: str) -> None:
    started = Run(repo)
    write_image(started.plan["disks"][0], started.plan["checkpoint"], listed=b"the digests")
    point = started.present(images=[]).result
    assert point["restore_point"]["disks"][0]["digests"] == "vda.digests"
    assert (pathlib.Path(point["path"]) / "vda.digests").read_bytes() == b"the digests"


def listed(data: int, zero: int = 0, size: int = SIZE) -> bytes:
    """Return a list of digests with one record; the hash of each cluster is that of its number and the masks."""
    hashes = b"".join(bytes([data, bit]) * 16 for bit in range(16) if data >> bit & 1)
    return digest.header(size) + digest.record(0, data, zero, hashes)


def chain_of_lists(repo: str, *lists: bytes | None) -> list[dict[str, t.Any]]:
    """Publish a chain whose images have these lists; ``None`` is an image without a checksum."""
    known: list[dict[str, t.Any]] = []
    points = []
    for content in lists:
        started = Run(repo, checkpoints=known)
        changes = {"digest": ""} if content is None else {"listed": content}
        write_image(started.plan["disks"][0], started.plan["checkpoint"], **changes)
        points.append(started.present(images=[]).result)
        known.append(raw_checkpoint(points[-1]["restore_point"]["checkpoint"], "vda"))
    return points


def test_the_content_of_a_chain_has_a_digest(repo: str) -> None:
    full, first, second = chain_of_lists(repo, listed(0b0011), listed(0b0100), listed(0b1000, zero=0b0001))
    disks = [point["restore_point"]["disks"][0] for point in (full, first, second)]
    assert [disk["level"] for disk in disks] == ["full", "incremental", "incremental"]
    assert [disk["content_reason"] for disk in disks] == ["", "", ""]
    assert disks[0]["content"] == disks[0]["digest"]
    hashes = bytes([0b0011, 1]) * 16 + bytes([0b0100, 2]) * 16 + bytes([0b1000, 3]) * 16
    shown = digest.header(SIZE) + digest.record(0, 0b1110, 0, hashes)
    assert disks[2]["content"] == f"sha256:{hashlib.sha256(shown).hexdigest()}"


def test_a_chain_with_an_image_without_digests_says_so(repo: str) -> None:
    lists = (listed(1), None, listed(2))
    full, without, above = (point["restore_point"] for point in chain_of_lists(repo, *lists))
    assert full["disks"][0]["content"]
    assert without["disks"][0]["content_reason"] == "the image was copied without a checksum"
    reason = f"the image of vda in {without['id']} has no list of digests"
    assert (above["disks"][0]["content"], above["disks"][0]["content_reason"]) == ("", reason)


def test_a_damaged_list_below_ends_no_backup_and_makes_no_wrong_digest(repo: str) -> None:
    (full,) = chain_of_lists(repo, listed(1))
    path = pathlib.Path(full["path"]) / "vda.digests"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    started = Run(repo, checkpoints=[raw_checkpoint(full["restore_point"]["checkpoint"], "vda")])
    write_image(started.plan["disks"][0], started.plan["checkpoint"], listed=listed(2))
    disk = started.present(images=[]).result["restore_point"]["disks"][0]
    assert disk["content"] == ""
    assert disk["content_reason"] == f"the list of digests of vda in {full['id']} is missing or damaged"


def test_lists_that_contradict_themselves_are_no_content(repo: str) -> None:
    (_full, point) = chain_of_lists(repo, listed(1), listed(0))
    disk = point["restore_point"]["disks"][0]
    assert disk["content"] == ""
    assert disk["content_reason"].startswith("the lists of digests of vda have no sum: one has a wrong record")


def test_digests_of_another_image_are_refused(repo: str) -> None:
    started = Run(repo)
    write_image(started.plan["disks"][0], started.plan["checkpoint"], listed=b"the digests")
    (pathlib.Path(started.plan["staging"]) / "vda.digests").write_bytes(b"thE digests")
    with pytest.raises(StateError, match=r"vda\.digests is not the list that vda\.json has the digest of"):
        started.present(images=[])


def test_the_chain_is_one_for_qemu_img(repo: str) -> None:
    """Each image finds the ones below it by its relative path, also when the repository has moved."""
    first = backup(repo)
    names = [first["restore_point"]["checkpoint"]]
    for _number in range(2):
        result = backup(repo, checkpoints=[raw_checkpoint(name, "vda") for name in names])
        names.append(result["restore_point"]["checkpoint"])
    moved = os.path.join(os.path.dirname(repo), "moved")
    os.rename(repo, moved)
    tip = os.path.join(info(moved)["latest"]["path"], "vda.qcow2")
    command = ["qemu-img", "info", "--backing-chain", "--output=json", tip]
    chain = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(chain) == 3


def test_mixed_levels_and_a_disk_left_out(repo: str) -> None:
    """Three restore points: both disks, vda only, both again; each disk goes on from its own last image."""
    a, b = raw_disk("vda"), raw_disk("vdb")
    first = backup(repo, a, b)["restore_point"]
    known = [raw_checkpoint(first["checkpoint"], "vda", "vdb")]
    second = backup(repo, a, checkpoints=known, skipped=[{"name": "vdb", "reason": "excluded"}])
    assert second["superseded"] == []  # the skipped disk still needs the first checkpoint
    known.append(raw_checkpoint(second["restore_point"]["checkpoint"], "vda", "vdb"))
    third = Run(repo, a, b, raw_disk("vdc"), checkpoints=known)
    found = {disk["name"]: (disk["level"], disk["base"]) for disk in third.plan["disks"]}
    assert found == {"vda": ("incremental", second["id"]), "vdb": ("incremental", first["id"]), "vdc": ("full", "")}
    result = third.extract().present().result
    assert result["superseded"] == [checkpoint["name"] for checkpoint in known]
    chains = info(repo)["latest"]["chain"]
    assert chains == {
        "vda": [first["id"], second["id"], result["id"]],
        "vdb": [first["id"], result["id"]],
        "vdc": [result["id"]],
    }


def test_an_increment_that_libvirt_refused_becomes_full(repo: str) -> None:
    first = backup(repo)["restore_point"]
    started = Run(repo, checkpoints=[raw_checkpoint(first["checkpoint"], "vda")])
    assert levels(started.plan) == {"vda": "incremental"}
    reason = "libvirt refused the bitmap (109)"
    disk = {**started.plan["disks"][0], "level": "full", "reason": reason, "incremental": "", "backing_file": ""}
    write_image(disk, started.plan["checkpoint"])
    found = started.present(disks=[disk]).result["restore_point"]["disks"][0]
    assert (found["level"], found["reason"], found["parent"], found["chain"]) == (
        "full",
        reason,
        "",
        started.plan["id"],
    )


def test_a_disk_that_dropped_out_is_recorded_with_its_reason(repo: str) -> None:
    started = Run(repo, raw_disk("vda"), raw_disk("vdb"))
    write_image(started.plan["disks"][0], started.plan["checkpoint"])
    one = started.plan["disks"][:1]
    with pytest.raises(BackupError, match="disks: 'vdb' was staged but is missing here"):
        started.present(disks=one, images=[])
    result = started.present(disks=one, images=[], skipped=[{"name": "vdb", "reason": "unplugged"}]).result
    (skipped,) = result["restore_point"]["skipped"]
    assert (skipped["name"], skipped["reason"], skipped["source"]) == ("vdb", "unplugged", "/img/vdb")


def test_giving_up_removes_the_staging_and_the_lock(repo: str) -> None:
    started = Run(repo).extract()
    before = tree(pathlib.Path(repo))
    predicted = started.absent(check=True)
    assert predicted.changed
    assert tree(pathlib.Path(repo)) == before
    real = started.absent()
    assert (real.changed, real.result) == (True, predicted.result)
    assert real.result["released"]
    assert not started.absent().changed
    assert not started.absent(check=True).changed
    assert (info(repo)["stagings"], info(repo)["lock"]) == ([], None)


def test_the_next_run_is_told_of_a_dead_one_and_cleans_up_under_its_own_lock(repo: str) -> None:
    dead = Run(repo, run="hv1", socket="/run/virt-backup/x.sock").extract().plan
    expire(repo)
    following = Run(repo)
    (leftover,) = following.plan["leftovers"]
    assert leftover == {
        "id": dead["id"],
        "checkpoint": dead["checkpoint"],
        "socket": "/run/virt-backup/x.sock",
        "run": "hv1",
        "staging": dead["staging"],
    }
    removed = following.absent(id=dead["id"]).result
    assert (removed["removed"], removed["released"]) == ([dead["staging"]], False)
    assert following.extract().present().changed
    assert [point["id"] for point in info(repo)["restore_points"]] == [following.plan["id"]]


def test_a_run_that_lost_its_lock_changes_nothing(repo: str) -> None:
    slow = Run(repo).extract()
    expire(repo)
    faster = Run(repo, run="the faster one")
    before = tree(pathlib.Path(repo))
    for attempt in (slow.present, slow.absent):
        with pytest.raises(LockLost, match="lost the lock of the domain to the run 'the faster one'"):
            attempt()
    with pytest.raises(LockLost):
        run("staged", repository=repo, id=slow.plan["id"], token=slow.plan["token"])
    assert tree(pathlib.Path(repo)) == before
    assert faster.extract().present().changed


def test_a_slow_run_whose_lease_ended_still_publishes_when_nobody_came(repo: str) -> None:
    slow = Run(repo).extract()
    expire(repo)
    assert slow.present().changed


def test_a_copy_that_goes_on_keeps_the_lock(repo: str) -> None:
    copying = Run(repo)
    expire(repo)
    beat = {"updated": "2099-01-01T00:00:00Z", "images": []}
    pathlib.Path(copying.plan["status_file"]).write_text(json.dumps(beat), encoding="utf-8")
    with pytest.raises(LockHeld):
        Run(repo)
    assert copying.extract().present().changed
    assert not os.path.exists(os.path.join(info(repo)["latest"]["path"], "status.json"))


def test_a_run_that_could_not_clean_up_gives_its_lock_back_and_keeps_its_staging(repo: str) -> None:
    run_that_failed = Run(repo)
    token = run_that_failed.plan["token"]
    assert run("absent", True, repository=repo, token=token).result["released"]
    assert info(repo)["lock"]["id"] == run_that_failed.plan["id"]
    given = run("absent", repository=repo, token=token)
    assert (given.changed, given.result["released"], given.result["removed"]) == (True, True, [])
    for check in (True, False):
        assert not run("absent", check, repository=repo, token=token).changed
    following = Run(repo)
    assert [entry["id"] for entry in following.plan["leftovers"]] == [run_that_failed.plan["id"]]
    assert not run("absent", repository=repo, token=token).changed
    assert info(repo)["lock"]["id"] == following.plan["id"]


def test_an_operator_breaks_the_lock(repo: str) -> None:
    dead = Run(repo)
    assert run("absent", True, repository=repo, break_lock=True).result["lock_broken"]
    assert info(repo)["lock"]["id"] == dead.plan["id"]
    broken = run("absent", repository=repo, break_lock=True)
    assert (broken.changed, broken.result["lock_broken"]) == (True, True)
    assert not run("absent", repository=repo, break_lock=True).changed
    assert [entry["id"] for entry in Run(repo).plan["leftovers"]] == [dead.plan["id"]]


def test_removing_what_others_build_on_is_refused(repo: str) -> None:
    first = backup(repo)
    known = [raw_checkpoint(first["restore_point"]["checkpoint"], "vda")]
    second = backup(repo, checkpoints=known)
    before = tree(pathlib.Path(repo))
    for check in (True, False):
        with pytest.raises(StateError, match=f"{second['id']} build on it"):
            run("absent", check, repository=repo, id=first["id"])
    assert tree(pathlib.Path(repo)) == before
    for point in (second, first):
        assert run("absent", True, repository=repo, id=point["id"]).changed
        assert run("absent", repository=repo, id=point["id"]).result["removed"] == [point["path"]]
        assert not run("absent", repository=repo, id=point["id"]).changed
    assert info(repo)["restore_points"] == []


def test_removing_while_a_manifest_above_is_unreadable_is_refused(repo: str) -> None:
    first = backup(repo)
    second = backup(repo)
    (pathlib.Path(second["path"]) / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(StateError, match="nobody knows what builds on what"):
        run("absent", repository=repo, id=first["id"])
    assert run("absent", repository=repo, id=second["id"]).changed


def test_staging_and_published_are_not_confused(repo: str) -> None:
    point = backup(repo)
    with pytest.raises(StateError, match="is published, not a staging"):
        run("absent", repository=repo, id=point["id"], staging=True)
    started = Run(repo)
    with pytest.raises(StateError, match="is a run in progress"):
        run("absent", repository=repo, id=started.plan["id"])


def test_max_age(repo: str) -> None:
    request: dict[str, t.Any] = {"repository": repo, "domain_name": "web", "max_age": 3600, "disks": [raw_disk()]}
    assert run("staged", True, **request).result["due"]
    point = backup(repo, max_age=3600)
    for check in (True, False):
        outcome = run("staged", check, **request)
        assert not outcome.changed
        assert (outcome.result["due"], outcome.result["latest"]) == (False, point["id"])
        assert "holds every disk" in outcome.result["reason"]
    assert run("staged", True, **request, full=True).result["due"]
    assert run("staged", True, **{**request, "disks": [raw_disk(), raw_disk("vdb")]}).result["due"]


def test_damage_that_a_verification_found_ends_the_chain(repo: str) -> None:
    first = backup(repo)
    mark_damage(first["path"], {"vda": "the digest of the cluster at 0 differs"})
    known = [raw_checkpoint(first["restore_point"]["checkpoint"], "vda")]
    (disk,) = Run(repo, checkpoints=known).plan["disks"]
    assert disk["level"] == "full"
    assert "the digest of the cluster at 0 differs" in disk["reason"]
    assert info(repo)["latest"]["complete"] is False


def test_a_truncated_or_missing_image_ends_the_chain(repo: str) -> None:
    first = backup(repo)
    known = [raw_checkpoint(first["restore_point"]["checkpoint"], "vda")]
    image = os.path.join(first["path"], "vda.qcow2")
    os.truncate(image, 100)
    assert (
        "has 100 bytes where the manifest says"
        in run("staged", True, repository=repo, domain_name="web", disks=[raw_disk()], checkpoints=known).result[
            "disks"
        ][0]["reason"]
    )
    os.unlink(image)
    os.symlink("/dev/zero", image)
    assert "is missing" in info(repo)["latest"]["problems"][0]


def test_a_copied_domain_directory_is_not_believed(repo: str, tmp_path: pathlib.Path) -> None:
    """Restore points of another repository, another domain, or under another name don't count."""
    point = backup(repo)
    other = make_repository(tmp_path / "other")
    os.mkdir(os.path.join(other.path, UUID))
    shutil.copytree(point["path"], os.path.join(other.path, UUID, point["id"]))
    shutil.copytree(point["path"], os.path.join(repo, UUID, "20200101T000000Z-0000"))
    assert info(other.path)["restore_points"] == []
    assert "belongs elsewhere: its repository is" in info(other.path)["problems"][0]
    assert [entry["id"] for entry in info(repo)["restore_points"]] == [point["id"]]
    assert "belongs elsewhere: its id is" in info(repo)["problems"][0]


def test_strange_things_are_reported_and_left_alone(repo: str) -> None:
    point = backup(repo)
    home = pathlib.Path(repo) / UUID
    (home / "notes.txt").write_text("mine", encoding="utf-8")
    (home / "20200101T000000Z-0000").symlink_to(point["path"])
    (home / "20200101T000000Z-0001.trash").mkdir()
    found = info(repo)
    assert len(found["restore_points"]) == 1
    assert [sentence.split(" is ", 1)[1] for sentence in found["problems"]] == [
        "left of an interrupted removal; the next run removes it.",
        "nothing that belongs here; it is left alone.",
        "nothing that belongs here; it is left alone.",
    ]
    outcome = run("staged", repository=repo, domain_name="web", disks=[raw_disk()])
    assert outcome.warnings == (f"finished an interrupted removal: {home / '20200101T000000Z-0001.trash'}",)
    assert (home / "notes.txt").exists()
    assert (home / "20200101T000000Z-0000").is_symlink()


def test_bases_carry_what_redefines_a_lost_checkpoint(repo: str) -> None:
    point = backup(repo, raw_disk("vda"), raw_disk("vdb", format="raw", checkpoint=False, checkpoint_reason="raw"))
    assert info(repo)["bases"] == [
        {
            "disk": "vda",
            "id": point["id"],
            "checkpoint": point["restore_point"]["checkpoint"],
            "checkpoint_xml": "<domaincheckpoint/>",
        }
    ]
    (disk, _raw) = Run(repo, raw_disk("vda"), raw_disk("vdb")).plan["disks"]
    assert "it can be redefined from the repository" in disk["reason"]


def test_two_repositories_do_not_disturb_each_other(repo: str, tmp_path: pathlib.Path) -> None:
    other = make_repository(tmp_path / "other").path
    here, there = backup(repo)["restore_point"], backup(other)["restore_point"]
    known = [raw_checkpoint(point["checkpoint"], "vda") for point in (here, there)]
    for path, point in ((repo, here), (other, there)):
        result = backup(path, checkpoints=known)
        assert result["restore_point"]["disks"][0]["parent"] == point["id"]
        assert result["superseded"] == [point["checkpoint"]]


def test_rights_follow_the_repository(repo: str) -> None:
    os.chmod(repo, 0o750)
    path = pathlib.Path(backup(repo)["path"])
    assert path.stat().st_mode & 0o777 == 0o750
    assert {item.name: item.stat().st_mode & 0o777 for item in path.iterdir()} == dict.fromkeys(
        ("SHA256SUMS", "manifest.json", "staging.json", "checkpoint.xml", "vda.json", "vda.qcow2"), 0o640
    )


def test_small_files_by_content_by_path_and_as_they_are(repo: str, tmp_path: pathlib.Path) -> None:
    started = Run(repo).extract()
    (tmp_path / "nvram").write_bytes(bytes(range(256)))
    (pathlib.Path(started.plan["staging"]) / "tpm").write_bytes(b"state")
    files = [
        {"name": "domain.xml", "content": "<domain>ü</domain>"},
        {"name": "binary", "content": "AAEC/w==", "encoding": "base64"},
        {"name": "nvram", "src": str(tmp_path / "nvram")},
        {"name": "tpm"},
    ]
    path = pathlib.Path(started.present(files=files).result["path"])
    assert (path / "domain.xml").read_text(encoding="utf-8") == "<domain>ü</domain>"
    assert (path / "binary").read_bytes() == b"\0\1\2\xff"
    assert (path / "nvram").read_bytes() == bytes(range(256))
    assert [file["size"] for file in info(repo)["latest"]["files"]] == [19, 4, 256, 5]
    assert info(repo)["latest"]["complete"]
    (path / "nvram").write_bytes(b"")
    assert "nvram has 0 bytes where the manifest says 256" in info(repo)["latest"]["problems"][0]


def test_what_a_killed_copy_left_is_not_published(repo: str) -> None:
    started = Run(repo).extract()
    for name in (".vda.qcow2.part-0a1b2c3d", ".status.json.123.new", "manifest.json.0123456789ab.tmp"):
        (pathlib.Path(started.plan["staging"]) / name).write_text("", encoding="utf-8")
    path = started.present().result["path"]
    names = ["SHA256SUMS", "checkpoint.xml", "manifest.json", "staging.json", "vda.json", "vda.qcow2"]
    assert sorted(os.listdir(path)) == names


def test_a_resize_between_plan_and_job(repo: str) -> None:
    """A full image has the size that was read; an increment is refused."""
    first = Run(repo)
    write_image(first.plan["disks"][0], first.plan["checkpoint"], size=2 * SIZE)
    point = first.present().result["restore_point"]
    assert point["disks"][0]["virtual_size"] == 2 * SIZE
    grown = raw_disk(virtual_size=2 * SIZE)
    second = Run(repo, grown, checkpoints=[raw_checkpoint(point["checkpoint"], "vda")])
    assert levels(second.plan) == {"vda": "incremental"}
    write_image(second.plan["disks"][0], second.plan["checkpoint"], size=3 * SIZE)
    with pytest.raises(StateError, match="was resized from 2097152 to 3145728 bytes during the run"):
        second.present()


def test_a_size_that_is_no_multiple_of_a_sector(repo: str) -> None:
    started = Run(repo, raw_disk(virtual_size=1000))
    write_image(started.plan["disks"][0], started.plan["checkpoint"], size=1024)
    assert started.present().result["restore_point"]["disks"][0]["virtual_size"] == 1000


def test_list_of_domains_and_by_name(repo: str) -> None:
    point = backup(repo)
    listed = look(InfoRequest(repo)).result["domains"]
    assert listed == [{"uuid": UUID, "name": "web", "restore_points": 1, "latest": point["id"]}]
    assert look(InfoRequest(repo, domain_name="web")).result["latest"]["id"] == point["id"]
    assert info(repo, "0e9d1c1f-52ab-4f4b-8e53-0a4c6d1b9f00")["latest"] is None


def test_uuid_and_path_in_another_spelling_are_the_same(repo: str) -> None:
    Run(f"{repo}/", domain_uuid=UUID.upper()).extract().present(domain_uuid=UUID.upper())
    assert len(info(f"{repo}//", UUID.upper())["restore_points"]) == 1


def test_an_orphan_checkpoint_is_reported_and_left_alone(repo: str) -> None:
    point = backup(repo)["restore_point"]
    orphan = point["checkpoint"][:-4] + "ffff"
    known = [raw_checkpoint(name, "vda") for name in (point["checkpoint"], orphan, "nightly")]
    outcome = run("staged", repository=repo, domain_name="web", disks=[raw_disk()], checkpoints=known)
    assert outcome.result["orphans"] == [orphan]
    assert outcome.warnings == (
        f"{orphan} looks like a checkpoint of this repository, which has no such restore point; it is left alone",
    )
