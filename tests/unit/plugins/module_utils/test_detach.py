# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that outlive the module: in a session of their own, or as a unit of systemd's; ready, or refused in words."""

from __future__ import annotations

import os
import pathlib
import signal
import sys

import pytest

from ansible_collections.virt.backup.plugins.module_utils import _detach
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError

WRITES = """
import os, pathlib, sys
pathlib.Path(sys.argv[1]).write_text(f"{os.getsid(0)} {os.getcwd()}")
"""


@pytest.fixture
def no_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(_detach, "SYSTEMD", str(tmp_path / "nowhere"))


def written(path: pathlib.Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


@pytest.mark.usefixtures("no_systemd")
def test_it_runs_in_a_session_of_its_own(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "written"
    _detach.start("virt-backup-test", WRITES, str(path), lambda: written(path), 20)
    session, folder = path.read_text(encoding="ascii").split()
    assert int(session) != os.getsid(0)
    assert folder == "/"


@pytest.mark.usefixtures("no_systemd")
@pytest.mark.parametrize(("text", "seconds"), [("raise SystemExit(1)", 0.2), ("import time; time.sleep(1)", 0.2)])
def test_what_does_not_become_ready_is_refused(text: str, seconds: float) -> None:
    with pytest.raises(BackupError, match="did not start; nothing was begun"):
        _detach.start("virt-backup-test", text, "", lambda: False, seconds)


def test_where_systemd_runs_it_is_a_unit(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in, path = tmp_path / "systemd-run", tmp_path / "written"
    stand_in.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > "$0.said"\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setattr(_detach, "SYSTEMD", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _detach.start("virt-backup-test", WRITES, str(path), lambda: written(path), 20)
    assert path.read_text(encoding="ascii").endswith(" /")
    said = (tmp_path / "systemd-run.said").read_text(encoding="utf-8").splitlines()
    assert said[:5] == ["--quiet", "--collect", "--unit=virt-backup-test", "--", sys.executable]


def test_where_systemd_takes_no_unit_it_is_a_process(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in, path = tmp_path / "systemd-run", tmp_path / "written"
    stand_in.write_text("#!/bin/sh\nexit 1\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(_detach, "SYSTEMD", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _detach.start("virt-backup-test", WRITES, str(path), lambda: written(path), 20)
    assert path.read_text(encoding="ascii").endswith(" /")


KEPT = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(f"{os.getsid(0)} {os.getcwd()} {os.read(int(sys.argv[2]), 9).decode()}")
time.sleep(60)
"""


def kept(path: pathlib.Path) -> int:
    """Start a program that is kept, and insist on what it was given; return its process id."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"inherited")
        command = [sys.executable, "-c", KEPT, str(path), str(reading)]
        pid = _detach.keep("virt-backup-test", command, (reading,), lambda: written(path), 20)
    finally:
        os.close(reading)
        os.close(writing)
    assert path.read_text(encoding="ascii") == f"{pid} / inherited"
    assert path.stat().st_mode & 0o777 == 0o600, "what it makes is its user's alone"
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("no_systemd")
def test_another_program_is_kept_with_what_it_inherits(tmp_path: pathlib.Path) -> None:
    end(kept(tmp_path / "written"))


@pytest.mark.slow
def test_where_systemd_runs_it_has_a_scope(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a unit it would inherit nothing. The process is the one that was started, so its number is known."""
    stand_in = tmp_path / "systemd-run"
    stand_in.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > "$0.said"\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setattr(_detach, "SYSTEMD", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    end(kept(tmp_path / "written"))
    said = (tmp_path / "systemd-run.said").read_text(encoding="utf-8").splitlines()
    assert said[:6] == ["--scope", "--quiet", "--collect", "--unit=virt-backup-test", "--", sys.executable]


@pytest.mark.slow
@pytest.mark.usefixtures("no_systemd")
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'no such disk.' >&2; exit 1", "The process virt-backup-test did not start. It said: no such disk."),
        ("exec sleep 60", "The process virt-backup-test did not start within 0.3 seconds."),
    ],
)
def test_a_program_that_does_not_become_ready_is_ended(script: str, said: str) -> None:
    with pytest.raises(BackupError) as raised:
        _detach.keep("virt-backup-test", ["sh", "-c", script], (), lambda: False, 0.3)
    assert raised.value.message == said
