# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs that tests ask, all of them independent of the code under test: virsh, qemu-img, losetup."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shlex
import subprocess
import tempfile
import typing as t

from lab.errors import LabError

URI = "qemu:///system"


def call(*argv: str | pathlib.Path, check: bool = True, timeout: float = 120) -> str:
    """Run a program and return its output; raise :class:`LabError` with what it said when it fails."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode:
        raise LabError(f"{' '.join(words)}: status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def virsh(*arguments: str | pathlib.Path, check: bool = True, timeout: float = 120) -> str:
    """Run one virsh command on the hypervisor that we are in."""
    return call("virsh", "--quiet", "--connect", URI, *arguments, check=check, timeout=timeout)


def virsh_names(*arguments: str) -> list[str]:
    """Return the words that a virsh listing prints."""
    return virsh(*arguments).split()


def hmp(domain: str, *commands: str) -> str:
    """Give commands to the human monitor of a domain's QEMU, by one virsh, and return the answers, stripped."""
    words = (["qemu-monitor-command", domain, "--hmp", command] for command in commands)
    return virsh("; ".join(map(shlex.join, words))).strip()


def image_info(path: pathlib.Path | str) -> dict[str, t.Any]:
    """Return ``qemu-img info`` of an image, in use or not."""
    info: dict[str, t.Any] = json.loads(call("qemu-img", "info", "-U", "--output=json", path))
    return info


def image_map(path: pathlib.Path | str) -> list[dict[str, t.Any]]:
    """Return ``qemu-img map``: the extents with ``start``, ``length``, ``depth``, ``present``, ``zero``, ``data``."""
    extents: list[dict[str, t.Any]] = json.loads(call("qemu-img", "map", "-U", "--output=json", path))
    return extents


def same_content(one: pathlib.Path | str, other: pathlib.Path | str) -> str:
    """Compare what a guest would see in two images; return "" when equal, else what differs.

    A longer tail of zeroes is a difference; how the zeroes are stored is none.
    """
    sizes = [int(image_info(path)["virtual-size"]) for path in (one, other)]
    if sizes[0] != sizes[1]:
        return f"sizes differ: {sizes[0]} and {sizes[1]}"
    argv = ["qemu-img", "compare", "-U", str(one), str(other)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode > 1:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout.strip() if done.returncode else ""


def content_hash(path: pathlib.Path | str) -> str:
    """Return the SHA-256 of what a guest would read from an image, chain included."""
    with tempfile.NamedTemporaryFile(prefix="virt-backup-hash-") as raw:
        call("qemu-img", "convert", "-U", "-O", "raw", path, raw.name)
        return file_hash(raw.name)


def file_hash(path: pathlib.Path | str) -> str:
    """Return the SHA-256 of the bytes of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
