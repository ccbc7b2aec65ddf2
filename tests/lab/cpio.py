# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A writer of cpio archives in the kernel's initramfs format ("newc"), so that the same input gives the same bytes."""

from __future__ import annotations

import pathlib
import stat

_HEADER = "070701" + "%08x" * 13


class Archive:
    """Collects entries; every one is root's and has no time."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._names: set[str] = set()

    def directory(self, name: str) -> None:
        """Add a directory and those above it, once."""
        parent = name.rpartition("/")[0]
        if parent:
            self.directory(parent)
        if name not in self._names:
            self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, content: bytes, mode: int = 0o755) -> None:
        """Add a file with the directories above it."""
        self.directory(name.rpartition("/")[0])
        self._add(name, stat.S_IFREG | mode, content)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self.directory(name.rpartition("/")[0])
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def copy(self, path: pathlib.Path, name: str = "") -> None:
        """Add a file of this machine, by default under its own name."""
        self.file((name or str(path)).lstrip("/"), path.read_bytes())

    def _add(self, name: str, mode: int, content: bytes) -> None:
        self._names.add(name)
        number = len(self._parts) + 1
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        self._parts.append(_padded((_HEADER % fields).encode() + path) + _padded(content))

    def to_bytes(self) -> bytes:
        """Return the archive."""
        path = b"TRAILER!!!\0"
        trailer = (_HEADER % (0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(path), 0)).encode() + path
        return b"".join(self._parts) + _padded(trailer)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
