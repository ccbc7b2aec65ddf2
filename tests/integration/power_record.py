# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Record every system call by which a piece of work changes files, with all bytes, as strace sees them.

The work is done in a forked child that waits until strace has attached, so a test can patch what it will do.
"""

from __future__ import annotations

import os
import re
import subprocess
import typing as t

if t.TYPE_CHECKING:
    from pathlib import Path

CHANGES = (
    "open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,copy_file_range,sendfile,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,mknod,mknodat,"
    "fsync,fdatasync,sync,syncfs,sync_file_range,lseek"
)
NOWHERE = "/dev/null"
_LINE = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)")
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<rest>.*)", re.DOTALL)
_DESCRIPTOR = re.compile(r"(?:AT_FDCWD|-?\d+)<(?P<path>[^>]*)>(?P<deleted>\(deleted\))?")
_HEX = re.compile(r"\\x([0-9a-f]{2})")


class Call(t.NamedTuple):
    """A system call that succeeded. ``begin`` and ``end`` are its places in the record."""

    begin: int
    end: int
    name: str
    arguments: tuple[str, ...]
    result: str

    def number(self, index: int) -> int:
        """Return an argument that is a number."""
        return int(self.arguments[index], 0)

    def data(self, index: int) -> bytes:
        """Return an argument that is a string or a buffer."""
        return _bytes(self.arguments[index])

    def path(self, index: int, below: int | None = None) -> str:
        """Return an argument that is a path, taken from the directory that argument ``below`` is open at."""
        return os.path.join(self.opened(below) if below is not None else "", os.fsdecode(self.data(index)))

    def opened(self, index: int | None = None) -> str:
        """Return the path that a descriptor is open at (without index: the one returned); "" when it lost its name."""
        found = _DESCRIPTOR.match(self.result if index is None else self.arguments[index])
        return os.fsdecode(_bytes(found["path"])) if found and not found["deleted"] else ""

    @property
    def descriptor(self) -> int:
        """Return the number of the descriptor that is the first argument."""
        return int(self.arguments[0].partition("<")[0])


def mark(label: str) -> None:
    """Say in the record that the work has come so far."""
    descriptor = os.open(NOWHERE, os.O_WRONLY)
    os.write(descriptor, label.encode())
    os.close(descriptor)


def record(work: t.Callable[[], None], log: Path) -> list[Call]:
    """Do the work in a child and return its calls in the order in which they ended."""
    let_go, go = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.read(let_go, 1)
            work()
            status = 0
        finally:
            os._exit(status)
    try:
        with _strace(pid, log):
            os.write(go, b"!")
            _pid, status = os.waitpid(pid, 0)
    finally:
        os.close(go)
        os.close(let_go)
    assert status == 0, "the work failed"
    return read(log.read_text(encoding="ascii"))


def _strace(pid: int, log: Path) -> subprocess.Popen[str]:
    """Attach strace; it follows threads and children, and ends with them."""
    filters = ("-e", f"trace={CHANGES}", "-e", "signal=none")
    words = ["strace", "-f", "-y", "-xx", "-s", str(1 << 24), *filters, "-o", str(log), "-p", str(pid)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert "attached" in said, said
    return process


def read(log: str) -> list[Call]:
    """Return the calls that succeeded. Two lines tell of one during which another thread did something."""
    calls: list[Call] = []
    pending: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(log.splitlines()):
        found = _LINE.fullmatch(line)
        assert found, line
        pid, rest, begin = found["pid"], found["rest"], number
        if rest.startswith(("+++", "---")):
            continue
        if rest.endswith("<unfinished ...>"):
            pending[pid] = (number, rest[: -len("<unfinished ...>")].rstrip())
            continue
        resumed = _RESUMED.fullmatch(rest)
        if resumed:
            begin, before = pending.pop(pid)
            rest = before + resumed["rest"]
        call = _CALL.fullmatch(rest)
        assert call, rest[:300]
        if not call["result"].startswith(("-1", "?")):
            arguments = tuple(word.strip() for word in call["arguments"].split(", "))
            calls.append(Call(begin, number, call["name"], arguments, call["result"]))
    return calls


def _bytes(text: str) -> bytes:
    text = text.strip('"')
    assert _HEX.sub("", text) == "", text[:100]
    return bytes.fromhex(text.replace("\\x", ""))
