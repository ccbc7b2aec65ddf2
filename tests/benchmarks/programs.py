# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs: ours without Ansible around it, and its peers at their best settings."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

from benchmarks.model import Command, Program
from benchmarks.vault import DISK, UUID

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.servers import Server

_EXTRACT = str(Path(__file__).with_name("extract.py"))
_RESTORE = str(Path(__file__).with_name("restore.py"))


def ours(folder: Path, name: str, images: Sequence[dict[str, t.Any]], server: Server, **options: t.Any) -> Program:
    """Return one call of the use case of nbd_extract; what no peer has, checksum and samples, is off unless named."""
    arguments = folder / f"{name}.arguments"
    given = {"images": list(images), "checksum": "none", "clean_samples": 0, **options}
    arguments.write_text(json.dumps(given), encoding="utf-8")
    command = (sys.executable, "-W", "ignore", _EXTRACT, str(arguments))
    return Program((command,), tuple(Path(image["dest"]) for image in images), server.pids)


def one(folder: Path, name: str, server: Server, export: str = "", **options: t.Any) -> Program:
    """Return a call of ours for one image, ``name`` with the suffix of its format."""
    image_format = options.pop("format", "qcow2")
    image = {"uri": server.uri(export), "dest": str(folder / f"{name}.{image_format}"), "format": image_format}
    for key in ("bitmap", "backing_file"):
        if key in options:
            image[key] = options.pop(key)
    return ours(folder, f"{name}-{image_format}", [image], server, **options)


def restored(folder: Path, name: str, repository: Path, checksum: str = "none", **options: t.Any) -> Program:
    """Return a call of the use case of restore_disks for the newest restore point's only disk."""
    image_format = options.get("format", "qcow2")
    dest = folder / f"{name}.{image_format}"
    arguments = folder / f"{name}-{image_format}.arguments"
    disk = {"name": DISK, "dest": str(dest), **options}
    point = {"repository": str(repository), "domain_uuid": UUID}
    arguments.write_text(json.dumps({"point": point, "disks": [disk], "checksum": checksum}), encoding="utf-8")
    return Program(((sys.executable, "-W", "ignore", _RESTORE, str(arguments)),), (dest,), ())


def convert_file(folder: Path, name: str, image: Path, image_format: str = "qcow2") -> Program:
    """Return ``qemu-img convert`` of an image and those below it."""
    dest = folder / f"{name}.{image_format}"
    command = ("qemu-img", "convert", "-f", "qcow2", "-O", image_format, "-W", "-m", "16", str(image), str(dest))
    return Program((command,), (dest,), ())


def convert(folder: Path, name: str, server: Server, *options: str, export: str = "") -> Program:
    """Return ``qemu-img convert`` with out-of-order writes and its most coroutines."""
    dest = folder / f"{name}.qcow2"
    command = _convert(options, server.uri(export), dest)
    return Program((command,), (dest,), server.pids)


def convert_synced(folder: Path, name: str, server: Server) -> Program:
    """Return ``qemu-img convert`` whose data is on the disk when it is done."""
    dest = folder / f"{name}.qcow2"
    command = _convert(("-t", "writeback"), server.uri(), dest)
    return Program((command, ("sync", str(dest))), (dest,), server.pids)


def _convert(options: Sequence[str], uri: str, dest: Path) -> Command:
    return ("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-W", "-m", "16", *options, uri, str(dest))


def nbdcopy_raw(folder: Path, name: str, server: Server) -> Program:
    """Return nbdcopy into a raw file."""
    dest = folder / f"{name}.raw"
    return Program((("nbdcopy", server.uri(), str(dest)),), (dest,), server.pids)


def nbdcopy_qcow2(folder: Path, name: str, server: Server, size: int) -> Program:
    """Return nbdcopy into a qcow2 file that qemu-nbd writes; making the empty image belongs to it."""
    dest = folder / f"{name}.qcow2"
    create = ("qemu-img", "create", "-q", "-f", "qcow2", str(dest), str(size))
    copy = ("nbdcopy", "--", server.uri(), "[", "qemu-nbd", "-f", "qcow2", str(dest), "]")
    return Program((create, copy), (dest,), server.pids)


def in_turn(programs: Sequence[Program]) -> Program:
    """Return one program that runs others one after another."""
    return Program(
        tuple(command for program in programs for command in program.commands),
        tuple(output for program in programs for output in program.outputs),
        programs[0].servers,
    )
