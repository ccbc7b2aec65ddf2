# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Debian 13 root: made once by debootstrap, kept in build/debian13, made anew when the lists of packages change."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "build" / "debian13"
LISTS = (CHECKOUT / "tests/packages.txt", Path(__file__).with_name("packages.txt"))
RELEASE = "trixie"
_POLICY = "usr/sbin/policy-rc.d"


class RootError(Exception):
    """The root can't be made; the text says what to do."""


def ensure() -> Path:
    """Return the root, after making it if it is not there. Two who ask at the same time get one."""
    if os.geteuid() != 0:
        raise RootError("only root can make and enter another root: use sudo")
    FOLDER.mkdir(parents=True, exist_ok=True)
    root = FOLDER / f"root-{_fingerprint()}"
    with (FOLDER / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            for old in FOLDER.glob("root-*"):
                shutil.rmtree(old)
            _make(root)
    return root


def _fingerprint() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in LISTS)).hexdigest()[:12]


def _make(root: Path) -> None:
    """Make it under another name, so that what was broken off is never taken for whole."""
    if not shutil.which("debootstrap"):
        raise RootError("debootstrap is missing: run make setup")
    print(f"debian13: making a root of {RELEASE} in {FOLDER.relative_to(CHECKOUT)}: a minute or two", file=sys.stderr)
    draft = FOLDER / "root-draft"
    _run("debootstrap", "--variant=minbase", RELEASE, str(draft), *_mirror())
    # No daemon is to start in there (Debian's policy-rc.d, 101 = forbidden).
    (draft / _POLICY).write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    (draft / _POLICY).chmod(0o755)
    _copy_settings(draft)
    names = [line for path in LISTS for line in path.read_text(encoding="utf-8").split("\n") if line and line[0] != "#"]
    apt = ("apt-get", "-q", "-o", "Dpkg::Use-Pty=0", "--yes", "--no-install-recommends")
    _inside(draft, *apt, "update")
    _inside(draft, *apt, "install", *names)
    _inside(draft, "apt-get", "clean")
    draft.rename(root)


def _mirror() -> list[str]:
    """Return the mirror from which this machine has its packages; debootstrap knows one if it is no Debian."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        return [uri for uri in told if "security" not in uri][:1]
    return []


def _copy_settings(root: Path) -> None:
    """Give the root this machine's way to the mirror: names and proxies."""
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    words = ["apt-config", "dump", "Acquire::http::Proxy", "Acquire::https::Proxy"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        proxies = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        (root / "etc/apt/apt.conf.d/99proxy").write_text(proxies, encoding="utf-8")


def _inside(root: Path, *command: str) -> None:
    """Run a command in the root, in namespaces that end with it and with all that it started."""
    space = ("unshare", "--mount", "--pid", "--fork", f"--root={root}", "--mount-proc=/proc")
    _run(*space, "env", "DEBIAN_FRONTEND=noninteractive", *command)


def _run(*command: str) -> None:
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        output: t.Any = done.stdout.decode(errors="replace")[-2000:]
        raise RootError(f"{' '.join(command[:6])} ... failed with {done.returncode}: {output}")
