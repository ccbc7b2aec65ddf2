# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for the pip bootstrap that ansible-test would download from a site of its own.

ansible-test looks for ~/.ansible/test/cache/get_pip_<version>.py before it downloads anything. Ours installs that very
pip from the wheel beside it, which came from the package index of this machine.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_STAND_IN = """import os
import runpy
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "{wheel}"))
dropped = ("--no-setuptools", "--no-wheel")
sys.argv[1:] = ["install", "--find-links", here] + [a for a in sys.argv[1:] if a not in dropped]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def wanted_pip_version(site_packages: Path) -> str:
    """Return the version of pip that the installed ansible-test bootstraps."""
    source = (site_packages / "ansible_test/_internal/python_requirements.py").read_text(encoding="utf-8")
    found = re.search(r"default_packages = dict\(\s*pip='([0-9.]+)'", source)
    if found is None:
        raise RuntimeError("This ansible-test names the pip that it bootstraps in another way: adapt bootstrap.py")
    return found.group(1)


def provide(pip: Path, site_packages: Path, home: Path) -> None:
    """Put the stand-in and its wheel into the cache of ansible-test below ``home``."""
    cache = home / ".ansible/test/cache"
    version = wanted_pip_version(site_packages)
    wheel = f"pip-{version}-py3-none-any.whl"
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / wheel).exists():
        subprocess.run([pip, "download", "-q", "--no-deps", "-d", cache, f"pip=={version}"], check=True)
    script = cache / f"get_pip_{version.replace('.', '_')}.py"
    script.write_text(_STAND_IN.format(wheel=wheel), encoding="utf-8")
