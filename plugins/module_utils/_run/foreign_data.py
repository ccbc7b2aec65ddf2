# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Images that would have QEMU read another file than themselves.

A backing file is never followed: whoever opens an image here names those below it, or none. Nothing but a look at the
header keeps QEMU from the external data file that it may name: any path, a pipe that blocks, or a server.
"""

from __future__ import annotations

import os
import stat

from ansible_collections.virt.backup.plugins.module_utils._copy.qcow2_format import HEAD_BYTES, keeps_data_elsewhere

PROBLEM = "keeps its data in another file"


def is_led_elsewhere(path: str) -> bool:
    """Whether the file is a qcow2 image with an external data file. To be asked before QEMU opens it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # QEMU has words for it
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and keeps_data_elsewhere(os.pread(fd, HEAD_BYTES, 0))
    except OSError:
        return False
    finally:
        os.close(fd)
