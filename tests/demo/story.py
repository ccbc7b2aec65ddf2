# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo: a real guest is backed up three times while it works, and brought back to each of the three moments.

Then copies of it run beside it: under a second name, at once from the backup, and for a drill. What is compared are
checksums that the guest computed itself, at the moment of each backup and when it is back. ``tests/demo/run`` starts it
all inside a hypervisor of the lab.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import typing as t

from lab.disks import MIB, Disk, create_image
from lab.guest import Guest

from demo import backups, table, ways
from demo.checks import Sums, same, say
from demo.readme import DOMAIN, IMAGES, restore_lines


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
        guest.wait_for_agent()
        verified[point.name] = same(guest, sums)
        say(f"{len(sums)} files, the guest's own checksums {'agree' if verified[point.name] else 'DIFFER'}")
    beside = list(copies(moments))
    print()
    print(table.render([row for point, _sums in moments for row in backups.rows(point)], verified))
    print()
    print(table.render_ways(beside))
    return all([*verified.values(), *(way.verified for way in beside)])


def copies(moments: list[tuple[pathlib.Path, Sums]]) -> t.Iterator[ways.Way]:
    """Bring copies back beside the original, each in another way, and tell what came of each."""
    for bring, moment in ((ways.second_name, 1), (ways.instant, 2), (ways.drill, 2)):
        way = bring(*moments[moment])
        ran = "" if way.running is None else f"ran after {way.running:.1f} s and "
        told = f"{way.files} files, the guest's own checksums {'agree' if way.verified else 'DIFFER'}"
        say(f"{way.name}: {way.machine} {ran}answered after {way.answering:.1f} s; {told}")
        yield way


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
