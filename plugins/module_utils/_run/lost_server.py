# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Who listens at a socket: the kernel knows, without a word being said to the server."""

from __future__ import annotations

import socket
import struct

_SECONDS = 2.0
_CREDENTIALS = struct.Struct("3i")


def serves(uuid: str, path: str) -> bool:
    """Whether it is the QEMU of the domain with that UUID that listens at a UNIX socket of this machine."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_SECONDS)
        try:
            probe.connect(path)
            raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid = _CREDENTIALS.unpack(raw)[0]
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                arguments = file.read().split(b"\0")
        except OSError:
            return False
    return any(pair == (b"-uuid", uuid.encode()) for pair in zip(arguments, arguments[1:]))
