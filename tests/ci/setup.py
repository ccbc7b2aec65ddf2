# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make this machine ready for the tests: packages, virtual environment, links. Does nothing when all is there.

Runs on a bare Debian, hence on the standard library of /usr/bin/python3 alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import bootstrap
import packages
import paths
import pipconfig

_REQUIREMENTS = paths.CI / "requirements.txt"
_STAMP = paths.VENV / "made-from"
_FORMAT = "1"  # raised when a change in this file asks for new environments


def main() -> int:
    """Set up; return 0, or 1 after one sentence about what is missing."""
    paths.BUILD.mkdir(exist_ok=True)
    try:
        with (paths.BUILD / "setup.lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ensure_packages()
            ensure_environment()
            ensure_link()
    except (packages.SetupError, subprocess.CalledProcessError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def ensure_packages() -> None:
    """Install the Debian packages that are missing."""
    missing = packages.find_missing(packages.read_list(paths.TESTS / "packages.txt"))
    if missing:
        print(f"setup: installing {len(missing)} Debian packages: {' '.join(missing)}", flush=True)
        packages.install(missing)


def ensure_environment() -> None:
    """Make build/venv on the Python that has libvirt, nbd and lxml; make it anew when the pins change."""
    fingerprint = _fingerprint()
    if _STAMP.is_file() and _STAMP.read_text(encoding="utf-8") == fingerprint:
        return
    print("setup: making build/venv", flush=True)
    shutil.rmtree(paths.VENV, ignore_errors=True)
    # Not this process's environment: a variable like PYTHONPATH or a shim must not decide what gets in.
    _run([str(paths.SYSTEM_PYTHON), "-m", "venv", "--system-site-packages", str(paths.VENV)])
    pip = paths.VENV / "bin/pip"
    settings = pipconfig.read_settings(pip)
    _install_pins(pip, settings)
    pipconfig.write_file(settings, paths.HOME / ".config/pip/pip.conf")
    bootstrap.provide(pip, next(paths.VENV.glob("lib/python3*/site-packages")), paths.HOME)
    _STAMP.write_text(fingerprint, encoding="utf-8")


def ensure_link() -> None:
    """Let the checkout be found under its collection's name (build/link goes on PYTHONPATH)."""
    link = paths.LINK / "ansible_collections/virt/backup"
    if not link.is_symlink() or link.resolve() != paths.ROOT:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(paths.ROOT, link.parent))


def _install_pins(pip: Path, settings: dict[str, str]) -> None:
    """Install the pinned packages with uv (seconds); with pip (minutes) where uv can't use this machine's index."""
    _run([str(pip), "install", "-q", "uv==0.13.9"])
    uv = [str(paths.VENV / "bin/uv"), "pip", "install", "-q", "--python", str(paths.VENV / "bin/python")]
    try:
        _run([*uv, "-r", str(_REQUIREMENTS)], pipconfig.as_uv_environment(settings))
    except subprocess.CalledProcessError:
        print("setup: uv could not install the pins, pip tries now", flush=True)
        _run([str(pip), "install", "-q", "-r", str(_REQUIREMENTS)])


def _run(command: t.Sequence[str], variables: t.Mapping[str, str] | None = None) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYENV_"))}
    subprocess.run(command, check=True, env={**environment, **(variables or {})}, stdin=subprocess.DEVNULL)


def _fingerprint() -> str:
    pins = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()
    return f"{_FORMAT} {pins} {paths.ROOT} {paths.SYSTEM_PYTHON.resolve()}"


if __name__ == "__main__":
    sys.exit(main())
