# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The gateway to QEMU's programs: nothing else starts ``qemu-img``. Never through a shell."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, ToolError

PACKAGES = "qemu-utils (Debian), qemu-img (RHEL)"


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """What ``qemu-img info`` says of one image, the images below it left alone. Sizes in bytes.

    ``backing_file`` is as stored in the image, empty without one; ``bitmaps`` are the names of qcow2's persistent ones.
    """

    format: str
    virtual_size: int
    backing_file: str = ""
    backing_format: str = ""
    bitmaps: tuple[str, ...] = ()


def info(path: str, image_format: str = "") -> ImageInfo:
    """Return what the image is. ``image_format`` empty lets QEMU guess, which is not safe for a guest's raw disk.

    Works on images in use (``--force-share``). Raises :class:`ToolError` for what is no readable image of that format.
    """
    chosen = ["-f", image_format] if image_format else []
    text = _run("qemu-img", "info", "--output=json", "--force-share", *chosen, _as_file(path))
    data = json.loads(text)
    specific = data.get("format-specific", {}).get("data", {})
    return ImageInfo(
        format=data["format"],
        virtual_size=data["virtual-size"],
        backing_file=data.get("backing-filename", ""),
        backing_format=data.get("backing-filename-format", ""),
        bitmaps=tuple(bitmap["name"] for bitmap in specific.get("bitmaps", [])),
    )


def check(path: str, image_format: str = "qcow2") -> None:
    """Raise :class:`ToolError` unless the image's metadata is without errors and leaks."""
    _run("qemu-img", "check", "-q", "-f", image_format, _as_file(path))


def rebase_unsafe(path: str, backing_file: str, backing_format: str) -> None:
    """Store another backing name in a qcow2 image, its content untouched; a relative one counts from the image."""
    _run("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", backing_format, "-b", backing_file, _as_file(path))


def _as_file(path: str) -> str:
    """Return the path in a form that QEMU takes for nothing else: ``a:b`` would name a protocol, ``-x`` an option."""
    return os.path.abspath(path)


def _run(program: str, *arguments: str) -> str:
    """Run a program and return what it printed; raise :class:`ToolError` with its complaint as one line."""
    executable = shutil.which(program) or shutil.which(program, path="/usr/bin:/usr/local/bin:/bin")
    if executable is None:
        raise BackupError(f"The program {program} is missing on this machine; install the package {PACKAGES}.")
    done = subprocess.run(
        [executable, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    if done.returncode:
        complaint = done.stderr.decode(errors="replace") or done.stdout.decode(errors="replace")
        words = " ".join(complaint.split()).removeprefix(f"{program}: ").rstrip(".")
        raise ToolError(f"{program} {arguments[0]} failed with status {done.returncode}: {words or 'no message'}.")
    return done.stdout.decode()
