# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Start a module again under the interpreter that has its libraries.

libvirt's and libnbd's bindings come with the distribution and live in the system's Python; virtual environments and
self-built interpreters lack them. A module calls :func:`respawn_if_missing` first of all in its ``main``.
"""

from __future__ import annotations

import importlib.util
import sys

from ansible.module_utils import basic
from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

SYSTEM_PYTHONS = (
    "/usr/bin/python3",
    "/usr/libexec/platform-python",
    "/usr/bin/python3.14",
    "/usr/bin/python3.13",
    "/usr/bin/python3.12",
    "/usr/bin/python3.11",
    "/usr/bin/python3.9",
)

_hints: dict[str, str] = {}


def respawn_if_missing(module_name: str, package_hint: str) -> None:
    """Run this module again, and end this process, if only another Python of the system can import ``module_name``.

    Returns when the library is here, when no interpreter has it, or when this is no process that Ansible started (a
    unit test): the gateway then fails at its first use, with :func:`missing_library` as its sentence.
    ``package_hint`` names the packages, such as ``python3-libnbd (Debian, RHEL)``.
    """
    _hints[module_name] = package_hint
    if importlib.util.find_spec(module_name) or has_respawned() or not _started_by_ansible():
        return
    interpreter = probe_interpreters_for_module(SYSTEM_PYTHONS, module_name)
    if interpreter:
        respawn_module(interpreter)


def missing_library(module_name: str) -> str:
    """Return the sentence for a library that no Python of this machine has."""
    hint = _hints.get(module_name, f"python3-{module_name}")
    return (
        f"The Python library {module_name} is missing on this machine ({sys.executable} and the system's Pythons); "
        f"install the package {hint}."
    )


def _started_by_ansible() -> bool:
    """Whether the pieces that Ansible's respawn needs are there: it reads them from the wrapper of the module."""
    return bool(getattr(basic, "_ANSIBLE_ARGS", None)) and hasattr(sys.modules["__main__"], "_module_fqn")
