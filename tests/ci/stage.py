# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of the checkout below ansible_collections/virt/backup, where Ansible's own tools want it.

They resolve links, so that a link does not do. Only what changed is copied: tools that trust modification times stay
quick.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

import paths

# What ansible-test makes inside of the copy and wants to find again.
_KEPT = (".git/", "tests/output/")


def list_checkout(root: Path = paths.ROOT) -> list[str]:
    """Return the files that git knows or would add, as paths relative to ``root``."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return sorted({name for name in listing.split("\0") if name and (root / name).is_file()})


def update(root: Path = paths.ROOT, staged: Path = paths.STAGED) -> int:
    """Make the copy equal to the checkout; return the number of files in it."""
    wanted = list_checkout(root)
    for name in wanted:
        _copy(root / name, staged / name)
    for present in _files_below(staged):
        if str(present) not in set(wanted) and not str(present).startswith(_KEPT):
            (staged / present).unlink()
    _remove_empty_folders(staged)
    # A repository of its own: ansible-test would ask the checkout's, which ignores everything below build.
    if not (staged / ".git").is_dir():
        subprocess.run(["git", "init", "-q", str(staged)], check=True, env=paths.tool_environment())
    return len(wanted)


def _copy(source: Path, target: Path) -> None:
    if target.is_file() and filecmp.cmp(source, target) and source.stat().st_mode == target.stat().st_mode:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _files_below(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or path.is_file()]


def _remove_empty_folders(folder: Path) -> None:
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        kept = f"{path.relative_to(folder)}/".startswith(_KEPT)
        if not kept and not any(path.iterdir()):
            path.rmdir()


if __name__ == "__main__":
    print(f"{update()} files in {paths.STAGED}")
    sys.exit(0)
