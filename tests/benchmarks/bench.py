# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare nbd_extract with qemu-img and nbdcopy: whole processes, interleaved, median of the ratios of each round.

The disk has 4 GiB with 1 GiB of data, served by qemu-nbd over a UNIX socket; everything lies in a temporary file system
and is warm. CPU is that of the client and its children, without the server's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "build" / "link"))
MIB = 1024 * 1024

from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd  # noqa: E402

Command = list[str]


class Spent(t.NamedTuple):
    """What one run cost, in seconds."""

    wall: float
    cpu: float


def spend(command: Command) -> Spent:
    """Run a program and measure it."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT / "build/link")}
    )
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Spent(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def make_disk(folder: Path) -> Path:
    """Make the disk: 1 GiB of data that does not compress to nothing, in runs of random lengths."""
    chance = random.Random(1)
    noise = chance.randbytes(MIB)
    raw = folder / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(4096 * MIB)
        written = 0
        while written < 1024 * MIB:
            length = chance.choice([64, 128, 512, 4096]) * 1024
            file.seek(chance.randrange(0, (4096 * MIB - length) // 65536) * 65536)
            while length > 0:
                turn = chance.randrange(MIB // 2)
                written += file.write(noise[turn : turn + min(length, MIB // 2)])
                length -= MIB // 2
    disk = folder / "disk.qcow2"
    nbd.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk)
    raw.unlink()
    return disk


def dirty(disk: Path, bitmap: str, mebibytes: int) -> None:
    """Record writes of 64 to 256 KiB in runs until that much is dirty."""
    chance = random.Random(2)
    nbd.add_bitmap(disk, bitmap)
    commands: list[str] = []
    done = 0
    while done < mebibytes * 1024:
        length = chance.choice([64, 128, 256])
        commands.append(
            f"write -P {chance.randrange(1, 255)} {chance.randrange(0, 4096 * 1024 - 256) // 64 * 64}k {length}k"
        )
        done += length
    script = disk.parent / "script"
    script.write_text("\n".join(commands) + "\n")
    nbd.run("qemu-io", "-t", "unsafe", "-f", "qcow2", disk, stdin=script)


def ours(folder: Path, name: str, uri: str, **options: t.Any) -> Command:
    """Return the command that runs the module's use case, without Ansible around it."""
    image = {"uri": uri, "dest": str(folder / f"{name}.qcow2"), **options.pop("image", {})}
    arguments = folder / f"{name}.arguments"
    arguments.write_text(json.dumps({"images": [image], "force": True, **options}))
    return [sys.executable, "-W", "ignore", str(Path(__file__).with_name("extract.py")), str(arguments)]


def cases(folder: Path, full: str, changed: str) -> dict[str, tuple[Command, Command]]:
    """Return what is compared: ours, theirs."""
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-W", "-m", "16"]
    target = ["[", "qemu-nbd", "-f", "qcow2", str(folder / "target.qcow2"), "]"]
    increment = {"bitmap": "b", "backing_file": "theirs.qcow2"}
    plain = ours(folder, "plain", full, checksum="none")
    whole = [*convert, full, str(folder / "theirs.qcow2")]
    return {
        "full → qcow2 / qemu-img convert -W -m 16": (plain, whole),
        "full → qcow2 / nbdcopy → qemu-nbd": (plain, ["nbdcopy", "--", full, *target]),
        "full → qcow2 / qemu-img, synced": (plain, [*convert, "-t", "writeback", full, str(folder / "theirs.qcow2")]),
        "full → raw / nbdcopy": (
            ours(folder, "raw", full, checksum="none", image={"format": "raw"}),
            ["nbdcopy", full, str(folder / "theirs.raw")],
        ),
        "full, sha256 / ours without": (ours(folder, "summed", full), plain),
        "full, zstd / qemu-img convert -c zstd": (
            ours(folder, "zstd", full, checksum="none", compression="zstd"),
            [*convert, "-c", "-o", "compression_type=zstd", full, str(folder / "theirs-zstd.qcow2")],
        ),
        "increment of 200 MiB / full by qemu-img": (
            ours(folder, "step", changed, checksum="none", image=increment),
            whole,
        ),
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default="/dev/shm")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        disk = make_disk(folder)
        changed = folder / "changed.qcow2"
        changed.write_bytes(disk.read_bytes())
        dirty(changed, "b", 200)
        nbd.create(folder / "target.qcow2", 4096 * MIB)
        with nbd.qemu_nbd(disk, "-r") as one, nbd.qemu_nbd(changed, "-r", "-B", "b") as two:
            measure(cases(folder, one.uri(), two.uri()), options.rounds, options.only)


def measure(pairs: dict[str, tuple[Command, Command]], rounds: int, only: str) -> None:
    """Run all pairs in turn, one round after the other, and print the medians of the ratios."""
    chosen = {name: pair for name, pair in pairs.items() if only in name}
    spent: dict[str, list[tuple[Spent, Spent]]] = {name: [] for name in chosen}
    for turn in range(rounds + 1):
        for name, (mine, theirs) in chosen.items():
            both = (spend(mine), spend(theirs))
            if turn:
                spent[name].append(both)
    print("| case | wall | CPU of the client | ours, s | theirs, s |\n|---|---|---|---|---|")
    for name, runs in spent.items():
        wall, cpu = (statistics.median(a[kind] / b[kind] for a, b in runs) for kind in (0, 1))
        times = [statistics.median(run[side].wall for run in runs) for side in (0, 1)]
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {times[0]:.2f} | {times[1]:.2f} |")


if __name__ == "__main__":
    main()
