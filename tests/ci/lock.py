# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write requirements.txt: every package behind requirements.in with its version, for all Pythons that we support."""

from __future__ import annotations

import os
import subprocess
import sys

import paths
import pipconfig

_HEADER = "# Written by `make lock` from requirements.in: every package, with its exact version.\n"


def main() -> int:
    """Resolve and write; return uv's status."""
    settings = pipconfig.read_settings(paths.VENV / "bin/pip")
    quiet = ["-q", "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    command = [str(paths.VENV / "bin/uv"), "pip", "compile", "--universal", "--python-version=3.11", *quiet]
    environment = {**os.environ, **pipconfig.as_uv_environment(settings)}
    done = subprocess.run(
        [*command, str(paths.CI / "requirements.in")], check=False, env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode == 0:
        (paths.CI / "requirements.txt").write_text(_HEADER + done.stdout, encoding="utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
