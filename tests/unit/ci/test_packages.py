# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is missing is installed, quietly and once; without the right to do so there is one clear sentence."""

from __future__ import annotations

import subprocess
import typing as t
from pathlib import Path

import packages
import pytest


class Machine:
    """A Debian whose packages and package lists are as told; remembers the commands."""

    def __init__(self, *, installed: set[str], stale: bool = False) -> None:
        self.installed = installed
        self.stale = stale
        self.commands: list[str] = []

    def run(self, command: list[str], **_options: t.Any) -> subprocess.CompletedProcess[str]:
        line = " ".join(command)
        if command[0] == "dpkg-query":
            known = [f"installed {name}" for name in command[3:] if name in self.installed]
            return subprocess.CompletedProcess(command, 1, "\n".join(["not-installed other", *known]))
        self.commands.append(line)
        status = self._apt(command) if "apt-get" in command else 0
        return subprocess.CompletedProcess(command, status, "")

    def _apt(self, command: list[str]) -> int:
        if command[-1] == "update":
            self.stale = False
        elif not self.stale:
            self.installed |= {name for name in command[command.index("install") + 1 :] if name != "unknown"}
        return 100 if self.stale or "unknown" in command else 0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    made = Machine(installed={"git"})
    (tmp_path / "mirror_Packages").touch()
    monkeypatch.setattr(packages, "_LISTS", tmp_path)
    monkeypatch.setattr(packages, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(packages.subprocess, "run", made.run)  # type: ignore[attr-defined]
    monkeypatch.setattr(packages.os, "geteuid", lambda: 0)  # type: ignore[attr-defined]
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/usr/bin/{name}")  # type: ignore[attr-defined]
    return made


def test_a_list_is_one_name_a_line(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# for the lab\nnbdkit\n\n  qemu-utils  # qemu-img\n")
    assert packages.read_list(tmp_path / "list") == ["nbdkit", "qemu-utils"]


@pytest.mark.usefixtures("machine")
def test_only_what_is_missing_is_found() -> None:
    assert packages.find_missing(["git", "nbdkit"]) == ["nbdkit"]


def test_one_install_when_the_lists_are_there(machine: Machine) -> None:
    packages.install(["nbdkit"])
    assert [line.partition("apt-get ")[2] for line in machine.commands if "apt-get" in line] == [
        "-q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 --yes --no-install-recommends install nbdkit"
    ]


def test_old_lists_are_read_anew_and_the_install_repeated(machine: Machine) -> None:
    machine.stale = True
    packages.install(["nbdkit"])
    assert [line.split()[-2:] for line in machine.commands if "apt-get" in line] == [
        ["install", "nbdkit"],
        ["Dpkg::Use-Pty=0", "update"],
        ["install", "nbdkit"],
    ]


def test_no_daemon_starts_and_the_policy_goes_again(machine: Machine) -> None:
    packages.install(["nbdkit"])
    assert "exit 101" in machine.commands[0]
    assert machine.commands[-1].startswith("rm -f")


def test_sudo_where_we_are_not_root(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.os, "geteuid", lambda: 1000)  # type: ignore[attr-defined]
    packages.install(["nbdkit"])
    assert all(line.startswith("sudo ") for line in machine.commands)


@pytest.mark.usefixtures("machine")
def test_neither_root_nor_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.os, "geteuid", lambda: 1000)  # type: ignore[attr-defined]
    monkeypatch.setattr(packages.shutil, "which", lambda _name: None)  # type: ignore[attr-defined]
    with pytest.raises(packages.SetupError, match="as root, run: apt-get install --no-install-recommends nbdkit"):
        packages.install(["nbdkit"])


@pytest.mark.usefixtures("machine")
def test_a_package_that_does_not_exist_is_named() -> None:
    with pytest.raises(packages.SetupError, match="could not install unknown"):
        packages.install(["nbdkit", "unknown"])


def test_no_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda _name: None)  # type: ignore[attr-defined]
    with pytest.raises(packages.SetupError, match="no Debian"):
        packages.find_missing(["nbdkit"])
