# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks to read: made anew and alike each time (the seeds are fixed), of bytes that zstd halves."""

from __future__ import annotations

import random
import struct
import subprocess
import typing as t
from pathlib import Path

from benchmarks.model import KIB, MIB

_CLUSTER = 64 * KIB


def noise(seed: int = 1) -> bytes:
    """Return 1 MiB of which one half is random and the other repeats it, in pieces of 512 bytes."""
    chance = random.Random(seed)
    return b"".join(chance.randbytes(512) * 2 for unused in range(1024))


def sparse(image: Path, size: int, data: int) -> None:
    """Make a qcow2 disk whose data lies in runs of random lengths, 64 KiB to 4 MiB."""
    chance = random.Random(1)
    taken = bytearray(size // _CLUSTER)
    left = data // _CLUSTER
    raw = image.with_suffix(".source")
    pattern = noise() * 5
    with raw.open("wb") as file:
        file.truncate(size)
        while left > 0:
            length = min(left, chance.choice([1, 2, 8, 64]))
            start = chance.randrange(0, len(taken) - length)
            if any(taken[start : start + length]):
                continue
            taken[start : start + length] = b"\1" * length
            file.seek(start * _CLUSTER)
            turn = chance.randrange(MIB)
            file.write(pattern[turn : turn + length * _CLUSTER])
            left -= length
    to_qcow2(raw, image)


def dense(image: Path, size: int) -> None:
    """Make a qcow2 disk that is all data."""
    raw = image.with_suffix(".source")
    with raw.open("wb") as file:
        for index in range(size // MIB):
            file.write(noise(index % 16))
    to_qcow2(raw, image)


def fragmented(raw: Path, data: int, piece: int) -> None:
    """Make a raw disk of which every other piece is data and the rest holes."""
    pattern = noise()
    with raw.open("wb") as file:
        file.truncate(2 * data)
        for index in range(data // piece):
            file.seek(index * 2 * piece)
            turn = index * piece % MIB
            file.write(pattern[turn : turn + piece])


def zeroes(raw: Path, size: int) -> None:
    """Make a raw disk of zeroes that are written, so that no extent tells of them."""
    with raw.open("wb") as file:
        for _mebibyte in range(size // MIB):
            file.write(bytes(MIB))


def to_qcow2(raw: Path, image: Path) -> None:
    """Turn a raw file into a qcow2 image and remove it."""
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-W", str(raw), str(image)], check=True)
    raw.unlink()


def dirtied(image: Path, size: int, base: Path, bitmaps: t.Mapping[str, int]) -> dict[str, Path]:
    """Record changes in several bitmaps of one image, each of which ends with so many dirty bytes.

    A bitmap records all that comes after its making, so the one for the most is made first. Returns by bitmap the image
    that shows the disk when it was made: ``base``, which must be the same as ``image``, or what is written here on top.
    """
    free = list(range(0, size - 256 * KIB, 256 * KIB))
    chance = random.Random(2)
    chance.shuffle(free)
    order = sorted(bitmaps, key=lambda name: -bitmaps[name])
    before = {}
    for name, later in zip(order, [*order[1:], None], strict=True):
        before[name] = base
        add_bitmap(image, name)
        commands = _writes(chance, free, bitmaps[name] - (bitmaps[later] if later else 0))
        write(image, commands)
        if later:
            base = overlay(base, image.with_name(f"before-{later}.qcow2"))
            write(base, commands)
    return before


def _writes(chance: random.Random, free: list[int], length: int) -> list[str]:
    """Return writes of so many bytes, in runs of 64 to 192 KiB at places not yet written. One in five is zero."""
    commands = []
    while length:
        run = min(chance.choice([64, 128, 192]) * KIB, length)
        kind = "write -z" if chance.randrange(5) == 0 else f"write -P {chance.randrange(1, 255)}"
        commands.append(f"{kind} {free.pop()} {run}")
        length -= run
    return commands


def overlay(base: Path, image: Path) -> Path:
    """Make an image on top of another."""
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(image)]
    subprocess.run(words, check=True)
    return image


def write(image: Path, commands: t.Sequence[str]) -> None:
    """Run commands of qemu-io on an image."""
    words = ["qemu-io", "-t", "unsafe", "-f", "qcow2", str(image)]
    script = "".join(f"{command}\n" for command in commands)
    subprocess.run(words, input=script, text=True, stdout=subprocess.DEVNULL, check=True)


def many_extents(image: Path, runs: int) -> None:
    """Make a qcow2 disk of so many runs of 4 KiB with as many holes between them, in a few MiB.

    All runs are the same cluster of the file. Refcounts say nothing of that, which only a writer would look at.
    """
    cluster = 4 * KIB
    entries = cluster // 8
    tables = -(-runs * 2 // entries)
    table_space = -(-tables * 8 // cluster)
    first_table = 3 + table_space  # header, refcount table and block, L1 table
    data = (first_table + tables) * cluster
    sizes = (0, 0, 12, runs * 2 * cluster, 0, tables, 3 * cluster, cluster, 1, 0, 0, 0, 0, 0, 4, 104)
    header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, *sizes)
    table = struct.pack(">QQ", data | 1 << 63, 0) * (entries // 2)
    with image.open("wb") as file:
        file.write(header.ljust(cluster, b"\0"))
        file.write(struct.pack(">Q", 2 * cluster).ljust(cluster, b"\0"))
        file.write(b"\0\1" * (cluster // 2))
        file.write(
            b"".join(struct.pack(">Q", (first_table + index) * cluster | 1 << 63) for index in range(tables)).ljust(
                table_space * cluster, b"\0"
            )
        )
        file.write(table * tables)
        file.write(bytes(cluster))


def blank(image: Path, size: int) -> None:
    """Make an empty qcow2 disk."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), str(size)], check=True)


def add_bitmap(image: Path, name: str) -> None:
    """Begin to record changes."""
    subprocess.run(["qemu-img", "bitmap", "--add", str(image), name], check=True)
