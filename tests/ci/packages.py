# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Debian packages of the tests: installed when missing, and only then."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

_POLICY = Path("/usr/sbin/policy-rc.d")
_LISTS = Path("/var/lib/apt/lists")


class SetupError(Exception):
    """Set-up can't go on; the text says what to do."""


def read_list(path: Path) -> list[str]:
    """Return the package names in a file: one a line, # starts a comment."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def find_missing(wanted: list[str]) -> list[str]:
    """Return those of the wanted packages that are not installed."""
    if shutil.which("dpkg-query") is None:
        raise SetupError(f"This is no Debian: install the equivalents of these packages yourself: {' '.join(wanted)}")
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n", *wanted]
    found = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    installed = {line.split()[1] for line in found.splitlines() if line.startswith("installed ")}
    return [name for name in wanted if name not in installed]


def install(missing: list[str]) -> None:
    """Install packages with apt, without starting the services in them."""
    prefix = _root_prefix(missing)
    with _no_service_starts(prefix):
        if not any(_LISTS.glob("*_Packages*")):
            _apt(prefix, "update")
        if _apt(prefix, "install", *missing):
            # The lists may be older than what the mirror still has.
            _apt(prefix, "update")
            _apt(prefix, "install", *missing)
    left = find_missing(missing)
    if left:
        raise SetupError(f"apt-get could not install {' '.join(left)}; its messages are above")


def _root_prefix(missing: list[str]) -> list[str]:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        return ["sudo"]
    raise SetupError(f"Not root and no sudo: as root, run: apt-get install --no-install-recommends {' '.join(missing)}")


def _apt(prefix: list[str], verb: str, *names: str) -> int:
    options = ["-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    if verb == "install":
        options += ["--yes", "--no-install-recommends"]
    command = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l", "apt-get", *options, verb]
    return subprocess.run([*command, *names], check=False, stdin=subprocess.DEVNULL).returncode


@contextlib.contextmanager
def _no_service_starts(prefix: list[str]) -> t.Iterator[None]:
    """Tell the packages' scripts not to start daemons (Debian's policy-rc.d, 101 = forbidden); ours run in the lab."""
    if _POLICY.exists():
        yield
        return
    script = f"printf '#!/bin/sh\nexit 101\n' > {_POLICY} && chmod 755 {_POLICY}"
    subprocess.run([*prefix, "sh", "-c", script], check=True)
    try:
        yield
    finally:
        subprocess.run([*prefix, "rm", "-f", str(_POLICY)], check=True)
