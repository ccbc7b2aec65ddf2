# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Names on a disk that may fail: make them durable, and never take one that can't be looked at for a missing one."""

from __future__ import annotations

import errno
import os


def is_there(path: str) -> bool:
    """Whether anything has that name. Raises ``OSError`` where nobody can tell, for which ``lexists`` says no."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def sync_directory(path: str) -> None:
    """Make the names in the directory durable; POSIX promises nothing about a rename before that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # What a file system answers that cannot sync a directory at all, such as CIFS: there is nothing more to be had.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
