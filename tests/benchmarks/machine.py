# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machine class and versions that figures belong to. No names: of a machine, of a host, of a path."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path


def describe(folder: Path, disk: Path) -> list[str]:
    """Return lines about processor, memory, file systems, versions."""
    system = re.search(r'^PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE)
    return [
        f"{os.cpu_count()} cores ({_processor()}), {_memory_gib():.0f} GiB of memory",
        f"{file_system(folder)} for sources and images, {file_system(disk)} for the durable case",
        f"{system[1] if system else 'unknown system'}, Linux {platform.release().split('-')[0]}",
        f"QEMU {_version('qemu-img')}, libnbd {_version('nbdcopy')}, Python {platform.python_version()}",
    ]


def _processor() -> str:
    """Return the class of the processor by what the figures depend on: its maker and whether it hashes in hardware."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*:\s*(.*)", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.*)", text, re.MULTILINE)
    hashes = "with" if flags and "sha_ni" in flags[1].split() else "without"
    return f"{model[1] if model else platform.machine()}, {hashes} SHA instructions"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def available_memory() -> int:
    """Return the bytes that can be used without pushing anything out."""
    found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"))
    return int(found[1]) * 1024 if found else 0


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder lies on."""
    words = ["stat", "-f", "-c", "%T", str(folder)]
    name = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return {"ext2/ext3": "ext4"}.get(name, name)


def _version(program: str) -> str:
    text = subprocess.run([program, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else "unknown"
