# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a pull job whose daemon was restarted in the middle of it."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.backup_request import BackupRequest
from ansible_collections.virt.backup.plugins.module_utils._model.job import BackupJob, Server
from ansible_collections.virt.backup.plugins.module_utils._run import backup_stop


class Handle:
    """A domain whose job ends as soon as it is told to."""

    name, uuid = "web", "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def abort_job(self) -> None:
        self.calls.append("abort")

    def wait_until_job_ended(self, _timeout: float) -> bool:
        return True

    def has_other_job(self) -> bool:
        return False

    def stop_lost_server(self) -> list[str]:
        self.calls.append("stop server")
        return []


@pytest.mark.parametrize(
    ("serves", "check", "calls"),
    [(True, False, ["abort", "stop server"]), (False, False, ["abort"]), (True, True, [])],
)
def test_a_server_that_outlives_its_job_is_stopped(
    monkeypatch: pytest.MonkeyPatch, serves: bool, check: bool, calls: list[str]
) -> None:
    monkeypatch.setattr(backup_stop, "serves", lambda _uuid, _socket: serves)
    handle: t.Any = Handle()
    server = Server("unix", "/run/virt-backup/x.sock")
    request = BackupRequest(uri="qemu:///system", domain="web", server=server)
    outcome = backup_stop._end_pull(handle, request, BackupJob("pull", server, ()), check=check)
    assert outcome.changed
    assert handle.calls == calls
