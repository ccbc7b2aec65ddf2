# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""``distrusted.json``: what a disk held was not what its newest image and its bitmap said, so that image is no base.

A run that copied an increment found it, and failed. The image itself may be good, and then restores as ever; only the
next increment must not build on it. So this is neither a damage nor taken back: the full image of the next run makes it
history.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._durable import sync_directory
from ansible_collections.virt.backup.plugins.module_utils._store.fields import BadFile, Fields, NewerFormat
from ansible_collections.virt.backup.plugins.module_utils._store.files import NotJson, read_sealed, sealed, write_file
from ansible_collections.virt.backup.plugins.module_utils._store.layout import DISTRUSTED

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FORMAT = 1


def read_distrust(directory: str, disks: Iterable[str]) -> dict[str, str]:
    """Return why images of a restore point are no bases, per disk in words.

    A file that can't be read says it of all of ``disks``: somebody found something, and a full image is never wrong.
    """
    path = os.path.join(directory, DISTRUSTED)
    try:
        fields = Fields(read_sealed(path), path)
        fields.check_format(FORMAT)
        return dict(fields.pairs("disks"))
    except FileNotFoundError:
        return {}
    except (BadFile, NewerFormat, NotJson) as error:
        return dict.fromkeys(disks, error.message.rstrip("."))


def write_distrust(directory: str, disks: Mapping[str, str]) -> None:
    """Record why the images of these disks are no bases, beside what is known of others."""
    content = {"format": FORMAT, "disks": {**read_distrust(directory, ()), **disks}}
    write_file(os.path.join(directory, DISTRUSTED), [sealed(content)])
    sync_directory(directory)
