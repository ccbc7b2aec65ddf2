# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore points served over NBD: what is read is what was there, nothing of the repository changes, servers end."""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import tempfile
import typing as t

import pytest
from integration import virt_kit as kit
from integration.restore_kit import ODD, Shop, Vault
from lab.disks import MIB, Disk
from lab.domains import IMAGES, Domains
from lab.tools import call, file_hash
from lab.wait import until

from ansible_collections.virt.backup.plugins.module_utils._run import export_server


@pytest.fixture(scope="module")
def vault(lab_host: str) -> t.Iterator[Vault]:
    domains, folder = Domains(), IMAGES / "export-vault"
    folder.mkdir()
    try:
        made = Vault(domains(Disk("vda", size=8 * MIB), Disk("vdb", size=ODD)), folder)
        made.fill()
        yield made
    finally:
        domains.close()
        call("rm", "-rf", folder)


@pytest.fixture
def sockets() -> t.Iterator[pathlib.Path]:
    """Return a folder with a short name: that of a socket may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="vb-") as folder:
        yield pathlib.Path(folder)


@pytest.fixture
def shop(vault: Vault, sockets: pathlib.Path) -> t.Iterator[Shop]:
    made = Shop(vault, sockets)
    yield made
    for path in made.sockets:
        made.end(socket=path)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_all_disks_from_one_server_and_the_repository_stays_as_it_is(
    vault: Vault, shop: Shop, tmp_path: pathlib.Path
) -> None:
    before = vault.look()
    point = vault.points[3]
    results = [shop.serve(check=check) for check in (True, False, True, False)]
    assert [result["changed"] for result in results] == [True, True, False, False]
    served = results[1]
    assert served["server"]["socket"] == f"{shop.folder}/export-{vault.domain.uuid}.sock"
    assert results[0]["server"]["pid"] == 0
    assert {result["server"]["pid"] for result in results[1:]} == {served["server"]["pid"]}
    assert [disk["name"] for disk in served["disks"]] == ["vda", "vdb", "vdc"]
    listed = json.loads(call("nbdinfo", "--json", "--list", f"nbd+unix:///?socket={served['server']['socket']}"))
    assert {export["export-name"] for export in listed["exports"]} == {"vda", "vdb", "vdc"}
    assert {(export["is_read_only"], export["can_multi_conn"]) for export in listed["exports"]} == {(True, True)}
    for disk in served["disks"]:
        copy = tmp_path / disk["name"]
        call("nbdcopy", disk["uri"], copy)
        assert file_hash(copy) == point.truth[disk["name"]]
        assert (disk["virtual_size"], disk["format"]) == (copy.stat().st_size, "raw")
    write = ["qemu-io", "-f", "raw", "-c", "write 0 512", served["disks"][0]["uri"]]
    assert subprocess.run(write, check=False, capture_output=True).returncode
    assert (os.stat(served["server"]["socket"]).st_mode & 0o777, vault.look()) == (0o600, before)
    ended = [shop.end(check=check) for check in (True, False, True, False)]
    assert [result["changed"] for result in ended] == [True, True, False, False]
    assert not alive(served["server"]["pid"])
    assert (list(shop.folder.iterdir()), vault.look()) == ([], before)


def test_it_outlives_the_module_and_is_no_child_of_its_session(shop: Shop) -> None:
    pid = shop.serve(id="latest", disks=["vdb"])["server"]["pid"]
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1)} == {os.devnull}


def test_another_content_on_the_same_socket_is_refused(vault: Vault, shop: Shop) -> None:
    first, second = vault.points[0], vault.points[1]
    served = shop.serve(id=first.id)
    for options in ({"id": second.id}, {"id": first.id, "disks": ["vda"]}):
        for check in (True, False):
            sentence = shop.refused(check=check, **options)
            assert f"serves vda, vdb of restore point {first.id}; end that with state: absent" in sentence
    beside = shop.serve(id=second.id, socket=str(shop.folder / "b.sock"))
    assert beside["server"]["pid"] != served["server"]["pid"]
    assert shop.end(id=second.id)["changed"], "whatever it serves"
    assert (alive(served["server"]["pid"]), alive(beside["server"]["pid"])) == (False, True)


def test_a_dead_server_is_known_and_its_number_may_be_anyones(vault: Vault, shop: Shop) -> None:
    served = shop.serve()
    pid, path = served["server"]["pid"], pathlib.Path(served["server"]["socket"])
    os.kill(pid, signal.SIGKILL)
    until("it is dead", lambda: not alive(pid), 10)
    assert path.is_socket()
    with subprocess.Popen(["sleep", "60"]) as other:
        path.with_name(f"{path.name}.pid").write_text(f"{other.pid}\n")
        assert shop.serve(check=True)["changed"]
        again = shop.serve()
        assert again["changed"]
        assert again["server"]["pid"] not in (pid, other.pid)
        os.kill(again["server"]["pid"], signal.SIGKILL)
        until("it is dead", lambda: not alive(again["server"]["pid"]), 10)
        path.with_name(f"{path.name}.pid").write_text(f"{other.pid}\n")
        assert shop.end()["changed"]
        assert other.poll() is None
        other.kill()
    assert list(shop.folder.iterdir()) == []


def test_another_server_and_another_file_are_left_alone(shop: Shop) -> None:
    path = shop.folder / "taken.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        for options in ({}, {"state": "absent"}):
            assert "belongs to somebody else; name another socket" in shop.refused(socket=str(path), **options)
        assert path.is_socket()
    (shop.folder / "file.sock").write_text("x")
    for options in ({}, {"state": "absent"}):
        sentence = shop.refused(socket=str(shop.folder / "file.sock"), **options)
        assert "belongs to somebody else" in sentence
    assert (shop.folder / "file.sock").read_text() == "x"


def test_a_stubborn_server_ends_all_the_same(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands still, with a client that waits: SIGTERM does not reach it, the end comes in bounded time."""
    monkeypatch.setattr(export_server, "ORDERLY", 0.5)
    served = shop.serve(disks=["vda"])
    pid = served["server"]["pid"]
    with subprocess.Popen(["nbdsh", "-u", served["disks"][0]["uri"], "-c", "input()"], stdin=subprocess.PIPE) as client:
        os.kill(pid, signal.SIGSTOP)
        assert shop.end()["changed"]
        assert not alive(pid)
        client.kill()


def test_owner_group_and_mode_of_the_socket(shop: Shop) -> None:
    nobody = pwd.getpwnam("nobody")
    wanted = {"disks": ["vda"], "owner": "nobody", "group": str(nobody.pw_gid), "mode": "0660"}
    first = shop.serve(disks=["vda"])
    changed = shop.serve(**wanted)
    assert (changed["changed"], changed["server"]) == (True, first["server"])
    found = os.stat(first["server"]["socket"])
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (nobody.pw_uid, nobody.pw_gid, 0o660)
    assert not shop.serve(**wanted)["changed"]


def test_what_is_not_whole_is_not_served(vault: Vault, shop: Shop, tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "copy"
    call("cp", "-a", vault.repository, copy)
    full = copy / vault.domain.uuid / vault.points[0].id / "vda.qcow2"
    full.unlink()
    sentence = shop.refused(repository=str(copy))
    assert f"{full} is missing; bring the file back from a copy" in sentence
    assert [disk["name"] for disk in shop.serve(repository=str(copy), disks=["vdb", "vdc"])["disks"]] == ["vdb", "vdc"]
    assert "disks[0]: 'vdx' is no disk of the restore point" in shop.refused(disks=["vdx"])
    assert "disks: [] names no disk" in shop.refused(disks=[])
    assert "lies in the repository" in shop.refused(socket=f"{vault.repository}/x.sock")


def test_a_removed_restore_point_stays_readable(vault: Vault, shop: Shop, tmp_path: pathlib.Path) -> None:
    """A reader keeps nobody from removing what is read, and does not lose it."""
    copy = tmp_path / "copy"
    call("cp", "-a", vault.repository, copy)
    last = vault.points[-1]
    served = shop.serve(repository=str(copy), id=last.id)
    place = {**vault.place, "repository": str(copy)}
    assert kit.run("restore_point", **place, id=last.id, state="absent")["changed"]
    assert not (copy / vault.domain.uuid / last.id).exists()
    call("nbdcopy", served["disks"][1]["uri"], tmp_path / "vdb")
    assert file_hash(tmp_path / "vdb") == last.truth["vdb"]
