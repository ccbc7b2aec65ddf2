# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""``damaged.json``: a verification found that images of a restore point are not what they were.

The manifest never changes once it is published; this file beside it says what is no longer true. A disk that is listed
here is no base for an increment, nor is anything that builds on it.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._durable import sync_directory
from ansible_collections.virt.backup.plugins.module_utils._store.fields import BadFile, Fields
from ansible_collections.virt.backup.plugins.module_utils._store.files import (
    NotJson,
    read_sealed,
    sealed,
    write_file,
)
from ansible_collections.virt.backup.plugins.module_utils._store.layout import DAMAGED

if t.TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FORMAT = 1


def read_damage(directory: str) -> dict[str, str]:
    """Return what is wrong with the images of a restore point, per disk; nothing when no verification complained."""
    path = os.path.join(directory, DAMAGED)
    try:
        fields = Fields(read_sealed(path), path)
    except FileNotFoundError:
        return {}
    fields.check_format(FORMAT)
    return dict(fields.pairs("disks"))


def mark_damage(directory: str, disks: Mapping[str, str]) -> None:
    """Record what a verification found, per disk in words, beside what was known before."""
    _write(directory, {**read_damage(directory), **disks})


def replace_damage(directory: str, before: Collection[tuple[str, str]], now: Mapping[str, str]) -> None:
    """Record what a verification finds ``now``, and take back the (disk, words) of ``before`` that it doesn't.

    What others said about a disk stays as they said it: a verification can't refute what it did not find. A file that
    can't be read is written anew.
    """
    try:
        known = read_damage(directory)
    except (BadFile, NotJson):
        known = {"": "unreadable"}
        before = [*before, *known.items()]
    others = {disk: words for disk, words in known.items() if (disk, words) not in before}
    found = {**now, **others}
    if found == known:
        return
    if found:
        _write(directory, found)
        return
    os.unlink(os.path.join(directory, DAMAGED))
    sync_directory(directory)


def _write(directory: str, disks: Mapping[str, str]) -> None:
    write_file(os.path.join(directory, DAMAGED), [sealed({"format": FORMAT, "disks": dict(disks)})])
    sync_directory(directory)
