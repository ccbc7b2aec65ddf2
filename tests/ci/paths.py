# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where things lie, and the environment in which every tool of the tests runs."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
CI = TESTS / "ci"
BUILD = ROOT / "build"
VENV = BUILD / "venv"
HOME = BUILD / "home"
LOGS = BUILD / "logs"
LINK = BUILD / "link"
STAGE = BUILD / "stage"
STAGED = STAGE / "ansible_collections/virt/backup"

SYSTEM_PYTHON = Path("/usr/bin/python3")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Settings of the caller that would change what a tool of ours reads, or which Python it finds.
_FOREIGN = re.compile(r"ANSIBLE_|MOLECULE_|PYENV_|PYTHON(HOME|PATH|STARTUP)|VIRTUAL_ENV|XDG_|MYPYPATH|PYTEST_|LC_|LANG")


def tool_environment() -> dict[str, str]:
    """Return the environment for the tools: our virtual environment first, then the system, and a home of its own.

    ansible-test breaks on version managers' shims in PATH, and ansible-core prefers a collection that lies in
    ~/.ansible to the checkout: neither can happen here.
    """
    environment = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
    environment.update(
        HOME=str(HOME),
        LC_ALL="C.UTF-8",
        PATH=f"{VENV}/bin:{SYSTEM_PATH}",
        PYTHONUNBUFFERED="1",
        PYTHONDONTWRITEBYTECODE="1",
        ANSIBLE_COLLECTIONS_PATH=str(STAGE),
        ANSIBLE_NOCOLOR="1",
        NO_COLOR="1",
    )
    return environment
