# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo: a real guest is backed up three times while it works, and brought back to each of the three moments.

Run by ``tests/demo/run`` inside a hypervisor of the lab. What is compared are checksums that the guest computed itself,
at the moment of each backup and after each restore.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import time

from lab.disks import MIB, Disk, create_image
from lab.guest import Guest

from demo import backups, table
from demo.readme import DOMAIN, IMAGES, restore_lines

Sums = dict[str, str]
_BEGUN = time.monotonic()


def say(words: str) -> None:
    """Print a line of the story with the seconds since its begin."""
    print(f"{time.monotonic() - _BEGUN:6.1f} s  {words}", flush=True)


def image(target: str, name: str, size: int) -> Disk:
    """Return a new disk at the place where the README has its images."""
    disk = Disk(target, size=size, image=IMAGES / name)
    create_image(disk, IMAGES / name)
    return disk


def first_moment(guest: Guest) -> Sums:
    """Fill the first disk, and return the checksums."""
    guest.make_filesystem("vda", "/data")
    guest.sh(
        "cd /data; mkdir -p etc; cp /init etc/init; dd if=/dev/urandom of=big bs=1M count=24 2>/dev/null;"
        "dd if=/dev/urandom of=old bs=1M count=8 2>/dev/null; echo one > note; sync"
    )
    return guest.checksums("/data")


def second_moment(guest: Guest) -> Sums:
    """Write to the first disk, hot-plug and fill a second one."""
    guest.sh("cd /data; echo two > note; dd if=/dev/urandom of=more bs=1M count=2 2>/dev/null; sync")
    say("a second disk is plugged in while the guest runs")
    guest.attach(image("vdb", "web-vdb.qcow2", 128 * MIB))
    guest.make_filesystem("vdb", "/more")
    guest.sh("cd /more; dd if=/dev/urandom of=table bs=1M count=6 2>/dev/null; echo new > note; sync")
    return guest.checksums("/data", "/more")


def third_moment(guest: Guest) -> Sums:
    """Delete files on both disks, trim, and write a little."""
    guest.sh("rm /data/old /data/more /more/table; echo three > /data/note; echo three > /more/note; sync")
    guest.sh("fstrim /data; fstrim /more; sync")
    return guest.checksums("/data", "/more")


def back_up(moment: Sums) -> pathlib.Path:
    """Make a restore point and tell what it is."""
    point = backups.back_up()
    say(f"restore point {point.name}, {len(moment)} files in the guest")
    for row in backups.rows(point):
        print(f"          {row.disk}: {row.level}, {row.reason}", flush=True)
    return point


def restore(point: pathlib.Path) -> None:
    """Run the README's lines, as they are, in one shell that stops at the first failure."""
    lines = restore_lines(point)
    say("restore with: " + "; ".join(lines))
    done = subprocess.run(["sh", "-e"], input="\n".join(lines), check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"restore failed:\n{done.stdout}\n{done.stderr}")


def verify(guest: Guest, expected: Sums) -> bool:
    """Boot what was restored, and compare the guest's files and checksums with those of the moment."""
    guest.wait_for_agent()
    guest.mount("vda", "/data")
    folders = ["/data"]
    if any(path.startswith("/more/") for path in expected):
        guest.mount("vdb", "/more")
        folders.append("/more")
    found = guest.checksums(*folders)
    for path in sorted(found.keys() | expected.keys()):
        if found.get(path) != expected.get(path):
            say(f"WRONG {path}: {found.get(path)} instead of {expected.get(path)}")
    return found == expected


def tell(guest: Guest) -> bool:
    """Tell the story; return whether every moment came back."""
    guest.define()
    guest.start()
    guest.wait_for_agent()
    say("a guest with ext4 and its agent runs")
    moments: list[tuple[pathlib.Path, Sums]] = []
    for change in (first_moment, second_moment, third_moment):
        sums = change(guest)
        moments.append((back_up(sums), sums))
    verified = {}
    for point, sums in moments:
        restore(point)
        verified[point.name] = verify(guest, sums)
        say(f"{len(sums)} files, the guest's own checksums {'agree' if verified[point.name] else 'DIFFER'}")
    print()
    print(table.render([row for point, _sums in moments for row in backups.rows(point)], verified))
    return all(verified.values())


def main() -> int:
    """Run in the lab; 0 when all came back."""
    backups.prepare()
    with contextlib.ExitStack() as stack:
        guest = stack.enter_context(Guest(DOMAIN, image("vda", "web.qcow2", 256 * MIB)))
        whole = tell(guest)
    say("done, and everything is gone again")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
