# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A repair that an enemy's repository asks for: only what is ours is touched, whatever its files name."""

from __future__ import annotations

import json
import pathlib
import socket
import typing as t

import pytest
from integration import virt_kit as kit
from integration.hostile_kit import seen
from integration.protection import Protection
from integration.virt_kit import SOCKETS, Result
from lab.disks import MIB, Disk
from lab.domains import Domains
from lab.tools import virsh


class Scene(t.NamedTuple):
    """A domain with one restore point and a run that died, and a folder of somebody else's."""

    protection: Protection
    folder: pathlib.Path
    staging: pathlib.Path
    outside: pathlib.Path

    def tell(self, file: pathlib.Path, **changes: t.Any) -> None:
        """Let a file of the repository say something else."""
        content = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**content, **changes}), encoding="utf-8")

    def doctor(self, *, check: bool = False) -> Result:
        """Repair, successfully or not, but with a result and not with a traceback."""
        place = {"domain": self.protection.domain.name, "repository": str(self.protection.repository)}
        result = kit.attempt("virt_backup_doctor", check=check, **place, scratch_dir=str(kit.SCRATCH))
        assert "exception" not in result
        assert str(result.get("msg", "")).isprintable()
        return result


@pytest.fixture
def scene(domains: Domains, workdir: pathlib.Path) -> Scene:
    domain = domains(Disk("vda", size=8 * MIB))
    domain.make_checkpoint("foreign", "vda")
    protection = Protection(domain, workdir / "repository")
    protection.backup()
    run = protection.stage(lease=1)
    lock = protection.repository / domain.uuid / "lock"
    content = json.loads(lock.read_text(encoding="utf-8"))
    lock.write_text(json.dumps({**content, "lease_until": "2026-01-01T00:00:00Z"}), encoding="utf-8")
    outside = workdir / "outside"
    outside.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(outside / "others.sock"))
    (outside / "others.sock.lease").write_text("1", encoding="ascii")
    return Scene(protection, workdir, pathlib.Path(run.plan["staging"]), outside)


def look_outside(scene: Scene) -> dict[str, t.Any]:
    """Return what can be seen of the folder that is nobody's business."""

    class _World(t.NamedTuple):
        folder: pathlib.Path
        repository: pathlib.Path

    return seen(t.cast(t.Any, _World(scene.folder, scene.protection.repository)), links=False)


def test_a_socket_of_others_is_not_removed(scene: Scene) -> None:
    """Although the run that named it is dead, and nobody listens there."""
    scene.tell(scene.staging / "staging.json", socket=str(scene.outside / "others.sock"))
    before = look_outside(scene)
    for check in (True, False):
        result = scene.doctor(check=check)
        assert "remove_socket" not in [repair["kind"] for repair in result["repairs"]]
        assert look_outside(scene) == before
    assert not scene.staging.exists()


def test_a_socket_of_this_domain_is(scene: Scene) -> None:
    """The harmless twin."""
    path = SOCKETS / f"libvirt-{scene.protection.domain.uuid}-old.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    scene.tell(scene.staging / "staging.json", socket=str(path))
    assert [repair["kind"] for repair in scene.doctor()["repairs"]] == ["remove_socket", "remove_staging"]
    assert not path.exists()


def test_a_checkpoint_of_others_is_not_removed(scene: Scene) -> None:
    """Nor that of a restore point: a staging that names another checkpoint than its own can't be read."""
    base = scene.protection.points[-1].checkpoint
    for name in ("foreign", base, "../../x"):
        scene.tell(scene.staging / "staging.json", checkpoint=name)
        result = scene.doctor(check=True)
        assert "remove_checkpoint" not in [repair["kind"] for repair in result["repairs"]]
        assert any("belongs elsewhere" in problem for problem in result["problems"])
    scene.doctor()
    assert scene.protection.domain.checkpoints() == ["foreign", base]
    assert not scene.staging.exists()


def test_a_lock_whose_token_is_a_path_moves_nothing(scene: Scene) -> None:
    """The token is a part of the names under which an expired lock is moved away."""
    lock = scene.staging.parent / "lock"
    (scene.staging.parent / "lock.").mkdir()
    scene.tell(lock, token=f"/../../../outside/{'a' * 8}")
    before = look_outside(scene)
    result = scene.doctor()
    assert result["failed"]
    assert "'token' is none that a run has" in result["msg"]
    assert look_outside(scene) == before


def test_a_definition_of_another_checkpoint_is_not_given_to_libvirt(scene: Scene) -> None:
    point, domain = scene.protection.points[-1], scene.protection.domain
    virsh("checkpoint-delete", domain.name, point.checkpoint, "--metadata")
    path = point.path / "checkpoint.xml"
    path.write_text(path.read_text(encoding="utf-8").replace(point.checkpoint, "evil"), encoding="utf-8")
    result = scene.doctor()
    told = {repair["kind"]: repair["problem"] for repair in result["repairs"]}
    assert told["redefine_checkpoint"] == "its stored definition is that of 'evil'"
    assert domain.checkpoints() == ["foreign"]


@pytest.mark.parametrize(
    "content", ["", "<a>", "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><a>&e;</a>", "\x00"]
)
def test_a_definition_that_is_none(scene: Scene, content: str) -> None:
    point, domain = scene.protection.points[-1], scene.protection.domain
    virsh("checkpoint-delete", domain.name, point.checkpoint, "--metadata")
    (point.path / "checkpoint.xml").write_text(content, encoding="utf-8")
    result = scene.doctor()
    assert domain.checkpoints() == ["foreign"]
    assert not result["failed"]
    assert "root:" not in json.dumps(result)
