# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is resumed when our job has ended, and the files beside the socket that remember what was before."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.job import Server
from ansible_collections.virt.backup.plugins.module_utils._run import job_files
from ansible_collections.virt.backup.plugins.module_utils._run.resume import resume_after


class Guest:
    """A domain that is paused by an I/O error or not, and can be resumed or not."""

    name, uuid = "web", "uuid"

    def __init__(self, *, stuck: bool, fails: bool = False) -> None:
        self.stuck, self.fails = stuck, fails
        self.resumed = 0

    def is_paused_by_io_error(self) -> bool:
        return self.stuck

    def resume(self) -> None:
        if self.fails:
            raise BackupError("no.")
        self.resumed += 1


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Server:
    return Server(socket=str(tmp_path / "a.sock"))


CASES = [
    (Guest(stuck=True), False, True, "An I/O error had paused domain 'web' during the job, and it was resumed"),
    (Guest(stuck=True), True, False, ""),
    (Guest(stuck=False), False, False, ""),
    (Guest(stuck=True, fails=True), False, False, "and it could not be resumed: no."),
]


@pytest.mark.parametrize(("guest", "before", "resumed", "word"), CASES)
def test_who_is_resumed(server: Server, guest: Guest, word: str, *, before: bool, resumed: bool) -> None:
    job_files.remember_pause(server, guest.uuid, paused=before)
    done, remark = resume_after(t.cast(t.Any, guest), server)
    assert (done, guest.resumed) == (resumed, int(resumed))
    assert word in remark
    assert bool(word) is bool(remark)
    assert not job_files.was_paused(server, guest.uuid)


def test_a_push_job_has_no_scratch() -> None:
    assert resume_after(t.cast(t.Any, Guest(stuck=True)), None) == (False, "")


def test_what_an_earlier_job_left_beside_the_socket_goes(server: Server, tmp_path: pathlib.Path) -> None:
    job_files.remember_pause(server, "uuid", paused=True)
    (tmp_path / "a.sock.note").write_text("old", encoding="ascii")
    job_files.remember_pause(server, "uuid", paused=False)
    assert [*tmp_path.iterdir()] == []


def test_what_cannot_be_remembered_is_refused() -> None:
    nowhere = Server(socket="/nowhere/a.sock")
    job_files.remember_pause(nowhere, "uuid", paused=False)
    with pytest.raises(StateError, match=r"An I/O error has paused the guest, and '/nowhere/a.sock.paused'"):
        job_files.remember_pause(nowhere, "uuid", paused=True)


def test_a_port_has_its_files_where_sockets_are() -> None:
    tcp = Server("tcp", name="127.0.0.1", port=10809)
    assert job_files.note_file(tcp, "uuid") == "/run/virt-backup/uuid-10809.note"
    assert job_files.lease_file(tcp, "uuid") == "/run/virt-backup/uuid-10809.lease"


def test_a_note_is_read_by_many_and_taken_once(server: Server, tmp_path: pathlib.Path) -> None:
    note = tmp_path / "a.sock.note"
    note.write_text("ended\n for a\x07 reason" + "x" * 5000, encoding="ascii")
    uri = f"nbd+unix:///vda?socket={server.socket}"
    read = job_files.note_of(uri)
    assert read.startswith("ended for a")
    assert len(read) <= 1000
    assert job_files.take_note(server, "uuid") == read
    assert job_files.take_note(server, "uuid") == ""
    assert not note.exists()


@pytest.mark.parametrize(
    "uri", ["nbd://127.0.0.1/vda", "nbd+unix:///vda", "nbd+unix:///vda?socket=/nowhere", "nbd://[::1/vda", "", "x"]
)
def test_where_there_is_no_note(uri: str) -> None:
    assert job_files.note_of(uri) == ""


def test_a_note_by_a_link_or_in_a_pipe_is_none(server: Server, tmp_path: pathlib.Path) -> None:
    import os

    secret, note = tmp_path / "secret", tmp_path / "a.sock.note"
    secret.write_text("secret", encoding="ascii")
    note.symlink_to(secret)
    assert job_files.take_note(server, "uuid") == ""
    note.unlink()
    os.mkfifo(note)
    assert job_files.take_note(server, "uuid") == ""
