# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A controller that can lose its power, and a hypervisor that can become unreachable, with real SSH between them.

A playbook stands still before a task of the test's choice (``callback_plugins/announce.py``), so nobody waits by the
clock, and the role knows nothing of it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import typing as t

from integration import playbook
from lab import processes
from lab.hypervisor import SSHD, prepare_sshd
from lab.pid1 import answers
from lab.tools import call
from lab.wait import until

if t.TYPE_CHECKING:
    from typing_extensions import Self  # noqa: UP035  mypy checks for 3.10

PLUGINS = pathlib.Path(__file__).parent / "callback_plugins"
PATIENCE = 120
"""Seconds for a playbook to come to a task, or to its end."""


class Sshd:
    """The SSH daemon of the hypervisor that we are in; :meth:`cut` closes every connection and lets nobody in."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._key = folder / "id_ed25519"
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._key)
        prepare_sshd(pathlib.Path("/etc"), self._key.with_suffix(".pub").read_text(encoding="ascii"))
        self._log = folder / "sshd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Let people in."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(SSHD.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("sshd answers", lambda: answers(SSHD.ready))

    def cut(self) -> None:
        """Close every connection, as a network does that goes away: what the sessions run is not told."""
        if self._process is not None:
            for pid in [self._process.pid, *_sessions(self._process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def reached(self) -> playbook.Data:
        """Return the variables with which Ansible reaches this hypervisor."""
        options = "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR"
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_user": "root",
            "ansible_port": 22,
            "ansible_ssh_private_key_file": str(self._key),
            "ansible_ssh_common_args": options,
            "ansible_control_path_dir": "/run/ssh",
        }


def _sessions(pid: int) -> list[int]:
    """Return the processes of sshd below one, and none of what they run."""
    found = []
    for child in processes.children(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if pathlib.Path(f"/proc/{child}/comm").read_text(encoding="utf-8").startswith("sshd"):
                found += [child, *_sessions(child)]
    return found


class Controller:
    """One run of ansible-playbook, in a namespace of processes that ends with it, as a machine does."""

    def __init__(self, folder: pathlib.Path, stop_at: str, text: str = playbook.PLAY, **hosts: playbook.Data) -> None:
        """Begin. The run stands still before the task whose name ends with ``stop_at``, if that is not empty."""
        folder.mkdir()
        self.folder, self._hosts = folder, hosts
        os.mkfifo(folder / "go")
        argv, environment = playbook.command(folder, hosts, text=text)
        environment |= (
            {"ANSIBLE_CALLBACK_PLUGINS": str(PLUGINS), "ANSIBLE_CALLBACKS_ENABLED": "announce"} if stop_at else {}
        )
        environment |= {"VIRT_BACKUP_STOP_AT": stop_at, "VIRT_BACKUP_STOP_IN": str(folder)}
        self._log = folder / "output"
        alone = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*alone, *argv], stdout=log, stderr=log, env=environment)

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(encoding="utf-8")

    def wait_until_reached(self) -> None:
        """Return when the run stands still."""
        self.wait_until((self.folder / "reached").exists)

    def wait_until(self, reached: t.Callable[[], object]) -> None:
        """Return when something is reached, for which the run has to live."""
        until("the playbook is there, or has ended", lambda: reached() or self._process.poll() is not None, PATIENCE)
        assert self._process.poll() is None, self.output

    def let_go(self) -> None:
        """Let it go on."""
        (self.folder / "go").write_bytes(b"")

    def kill(self) -> None:
        """End it and everything that it has started, at once."""
        for pid in processes.children(self._process.pid):
            os.kill(pid, signal.SIGKILL)
        self._process.wait(PATIENCE)

    def end(self) -> str:
        """Wait for its end; return what it printed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        assert self._process.poll() is not None, self.output
        return self.output

    def ended(self) -> dict[str, playbook.Ended]:
        """Wait for its end; return what became of each host, all of which have to have been reachable."""
        return playbook.ended(self.folder, self._hosts, self.end())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self.kill()
