# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a command in a Debian 13 root, in which this checkout is /checkout: ``tests/debian13/enter -- COMMAND...``.

/checkout/build is a folder of the root's own, so that nothing that was made for this machine's Python gets in. The lab
works inside: ``tests/debian13/enter -- tests/lab/enter -- virsh version``. The exit status is the command's.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import typing as t

if __package__ in (None, ""):
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from debian13.root import CHECKOUT, FOLDER, RootError, ensure

# As process 1 of namespaces of its own, so that no mount and no process outlives it. pivot_root and not chroot: the lab
# makes its mounts private, which needs / to be a mount.
_SCRIPT = """
set -eu
root=$1 checkout=$2 build=$3
shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/checkout" "$root/outside"
mount --bind "$checkout" "$root/checkout"
mount --bind "$build" "$root/checkout/build"
mkdir -p "$root/checkout/build/link/ansible_collections/virt"
ln -sfn ../../../.. "$root/checkout/build/link/ansible_collections/virt/backup"
cd "$root"
pivot_root . outside
umount -l /outside
cd /checkout
exec "$@"
"""
_ENVIRONMENT = {
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def main(arguments: t.Sequence[str]) -> None:
    """Make the root if it is not there, and become the command."""
    parser = argparse.ArgumentParser(prog="tests/debian13/enter", description=__doc__.splitlines()[0])
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    command = parser.parse_args(arguments).command
    command = command[1:] if command[:1] == ["--"] else command
    if not command:
        parser.error("a command is needed, after --")
    try:
        root = ensure()
    except RootError as error:
        parser.exit(125, f"debian13: {error}\n")
    build = FOLDER / "build"
    build.mkdir(exist_ok=True)
    space = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _SCRIPT, "enter")
    os.execvpe("unshare", [*space, str(root), str(CHECKOUT), str(build), *command], _ENVIRONMENT)


if __name__ == "__main__":
    main(sys.argv[1:])
