# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file system that promises no more than POSIX, and what a power cut may leave of it.

What was synced stays: the bytes of a file with its own fsync, the names in a directory with that of the directory.
Of everything else each change by itself may have reached the disk or not, in any order: bytes of a file, the name of a
new file or directory, a rename (both of its names at once), a removal. Bytes that were lost may show as zeroes where
they made the file longer.
"""

from __future__ import annotations

import hashlib
import os
import random
import typing as t
from pathlib import Path

from integration.power_record import NOWHERE, Call

LOST, ZEROED, KEPT = "lost", "zeroed", "kept"
RANDOM = 3
"""Random subsets of what was not synced, at each point."""


class Blob(t.NamedTuple):
    """The content of a file and its digest."""

    digest: str
    content: bytes


Tree = dict[str, t.Union[Blob, str, None]]
"""What lies under each path: content, the target of a symbolic link, or ``None`` for a directory."""


class Bytes(t.NamedTuple):
    """A write, or with a ``size`` a change of the length."""

    end: int
    offset: int = 0
    data: bytes = b""
    size: int = -1


class Names(t.NamedTuple):
    """Names that change at once."""

    end: int
    names: dict[str, Node | None]


class File:
    """Bytes that were synced, and changes that were not."""

    def __init__(self, content: bytes = b"") -> None:
        self.changes: list[Bytes] = []
        self._synced = content
        self._known: dict[tuple[str, ...], Blob] = {}

    def change(self, change: Bytes) -> None:
        self.changes.append(change)
        self._known.clear()

    def sync(self, begin: int) -> None:
        """Keep every change that had ended before the sync began."""
        kept = [change for change in self.changes if change.end < begin]
        assert kept == self.changes, "written while it was synced: not modelled"
        self._synced = self.content([KEPT] * len(self.changes)).content
        self.changes = []
        self._known.clear()

    def content(self, fates: t.Sequence[str]) -> Blob:
        key = tuple(fates)
        if key not in self._known:
            found = bytearray(self._synced)
            for change, fate in zip(self.changes, fates):
                _apply(found, change, fate)
            self._known[key] = Blob(hashlib.sha256(found).hexdigest(), bytes(found))
        return self._known[key]


def _apply(content: bytearray, change: Bytes, fate: str) -> None:
    if fate == LOST:
        return
    end = change.offset + len(change.data) if change.size < 0 else change.size
    if change.size >= 0:
        del content[end:]
    content.extend(bytes(max(end - len(content), 0)))
    if fate == KEPT:
        content[change.offset : change.offset + len(change.data)] = change.data


class Directory:
    """Names that were synced, and changes that were not."""

    def __init__(self, synced: dict[str, Node] | None = None) -> None:
        self.synced: dict[str, Node] = synced or {}
        self.changes: list[Names] = []

    def change(self, change: Names) -> None:
        self.changes.append(change)

    def sync(self, begin: int) -> None:
        assert all(change.end < begin for change in self.changes), "changed while it was synced: not modelled"
        self.synced = self.entries([KEPT] * len(self.changes))
        self.changes = []

    def entries(self, fates: t.Sequence[str]) -> dict[str, Node]:
        found: dict[str, Node | None] = dict(self.synced)
        for change, fate in zip(self.changes, fates):
            if fate == KEPT:
                found.update(change.names)
        return {name: node for name, node in found.items() if node is not None}

    @property
    def now(self) -> dict[str, Node]:
        """What a process sees."""
        return self.entries([KEPT] * len(self.changes))


class Link(t.NamedTuple):
    """A symbolic link, which is its name."""

    target: str


Node = t.Union[File, Directory, Link]
Fates = t.Callable[[Node, int], str]


class Storage:
    """The folder that is modelled. It begins with what is there, all of it synced."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._top = _load(root)
        self._positions: dict[int, int] = {}
        self.marks: list[str] = []

    def apply(self, call: Call) -> bool:
        """Do what the call did; return whether that changed anything a power cut has to do with."""
        if call.name in ("write", "pwrite64") and call.opened(0) == NOWHERE:
            self.marks.append(call.data(1).decode())
            return True
        act = getattr(self, f"_{call.name}", None)
        if act is None:
            assert self._root not in self._paths(call), f"{call.name} is not modelled"
            return False
        return bool(act(call))

    def _paths(self, call: Call) -> str:
        return " ".join(call.opened(index) for index in range(len(call.arguments)) if "<" in call.arguments[index])

    # where things are

    def _inside(self, path: str) -> bool:
        return path.startswith(self._root + "/")

    def _find(self, path: str) -> Node | None:
        node: Node | None = self._top
        for part in os.path.relpath(path, self._root).split("/"):
            if part != ".":
                node = node.now.get(part) if isinstance(node, Directory) else None
        return node

    def _parent(self, path: str) -> Directory:
        found = self._find(os.path.dirname(path))
        assert isinstance(found, Directory), path
        return found

    def _name(self, call: Call, path: str, node: Node | None) -> bool:
        if self._inside(path):
            self._parent(path).change(Names(call.end, {os.path.basename(path): node}))
        return self._inside(path)

    def _file(self, path: str) -> File | None:
        """Return an open file, unless it lies elsewhere or has no name any more: then nothing of it can be found again."""
        found = self._find(path) if path and (self._inside(path) or path == self._root) else None
        return found if isinstance(found, File) else None

    # files

    def _openat(self, call: Call) -> bool:
        path = call.opened()
        if not self._inside(path):
            return False
        self._positions[int(call.result.partition("<")[0])] = 0
        flags = call.arguments[2].split("|")
        file = self._find(path)
        if file is None and "O_CREAT" in flags:
            return self._name(call, path, File())
        if "O_TRUNC" in flags and isinstance(file, File):
            file.change(Bytes(call.end, size=0))
            return True
        assert "O_APPEND" not in flags, "O_APPEND is not modelled"
        return False

    def _lseek(self, call: Call) -> bool:
        if self._file(call.opened(0)):
            self._positions[call.descriptor] = int(call.result)
        return False

    def _write(self, call: Call) -> bool:
        file = self._file(call.opened(0))
        if file:
            offset = self._positions[call.descriptor]
            data = call.data(1)[: int(call.result)]
            file.change(Bytes(call.end, offset, data))
            self._positions[call.descriptor] = offset + len(data)
        return file is not None

    def _pwrite64(self, call: Call) -> bool:
        file = self._file(call.opened(0))
        if file:
            file.change(Bytes(call.end, call.number(3), call.data(1)[: int(call.result)]))
        return file is not None

    def _ftruncate(self, call: Call) -> bool:
        file = self._file(call.opened(0))
        if file:
            file.change(Bytes(call.end, size=call.number(1)))
        return file is not None

    def _fsync(self, call: Call) -> bool:
        path = call.opened(0)
        node = self._find(path) if self._inside(path) or path == self._root else None
        if node is not None and not isinstance(node, Link):
            node.sync(call.begin)
        return node is not None

    _fdatasync = _fsync

    def _sync_file_range(self, _call: Call) -> bool:
        """Begins to write and promises nothing."""
        return False

    # names

    def _rename(self, call: Call) -> bool:
        old, new = call.path(0), call.path(1)
        if not self._inside(old):
            return False
        assert os.path.dirname(old) == os.path.dirname(new), "a rename between directories is not modelled"
        names = {os.path.basename(old): None, os.path.basename(new): self._find(old)}
        self._parent(old).change(Names(call.end, names))
        return True

    def _link(self, call: Call) -> bool:
        return self._name(call, call.path(1), self._find(call.path(0)) if self._inside(call.path(0)) else None)

    def _symlink(self, call: Call) -> bool:
        return self._name(call, call.path(1), Link(call.path(0)))

    def _mkdir(self, call: Call) -> bool:
        return self._name(call, call.path(0), Directory())

    def _unlink(self, call: Call) -> bool:
        return self._name(call, call.path(0), None)

    _rmdir = _unlink

    def _unlinkat(self, call: Call) -> bool:
        return self._name(call, call.path(1, 0), None)

    # what a power cut leaves

    @property
    def now(self) -> Tree:
        """What a process sees: what the storage would hold if all of it had been synced."""
        return self._tree(lambda _node, _index: KEPT)

    def after_a_cut(self, choice: random.Random) -> t.Iterator[Tree]:
        """Yield what may be left: the extremes, each change alone lost or alone kept, and a few random subsets."""
        changes = [(node, index) for node in self._nodes() for index in range(len(node.changes))]
        for meta in (KEPT, LOST):
            for data in (KEPT, LOST, ZEROED):
                yield self._tree(_all(meta, data))
        for node, index in changes:
            yield self._tree(_but(KEPT, node, index, LOST))
            yield self._tree(_but(LOST, node, index, KEPT))
        for file in {id(node): node for node, _index in changes if isinstance(node, File)}.values():
            yield self._tree(_but(KEPT, file, None, LOST))
        for _number in range(RANDOM if len(changes) > 1 else 0):
            drawn = {(id(node), index): choice.choice((LOST, KEPT)) for node, index in changes}
            yield self._tree(_drawn(drawn))

    def _nodes(self) -> list[File | Directory]:
        """Return all that some name leads to, synced or not."""
        found: dict[int, File | Directory] = {}
        todo: list[Node | None] = [self._top]
        while todo:
            node = todo.pop()
            if node is None or isinstance(node, Link) or id(node) in found:
                continue
            found[id(node)] = node
            if isinstance(node, Directory):
                todo += [*node.synced.values(), *(other for change in node.changes for other in change.names.values())]
        return list(found.values())

    def _tree(self, fates: Fates) -> Tree:
        tree: Tree = {}
        _walk(self._top, "", fates, tree)
        return tree


def _all(meta: str, data: str) -> Fates:
    return lambda node, _index: data if isinstance(node, File) else meta


def _but(most: str, node: Node, index: int | None, other: str) -> Fates:
    def fate(found: Node, number: int) -> str:
        return other if found is node and index in (None, number) else most

    return fate


def _drawn(fates: dict[tuple[int, int], str]) -> Fates:
    return lambda node, index: fates[id(node), index]


def _walk(directory: Directory, path: str, fates: Fates, tree: Tree) -> None:
    for name, node in directory.entries([fates(directory, index) for index in range(len(directory.changes))]).items():
        where = os.path.join(path, name)
        if isinstance(node, Directory):
            tree[where] = None
            _walk(node, where, fates, tree)
        elif isinstance(node, Link):
            tree[where] = node.target
        else:
            tree[where] = node.content([fates(node, index) for index in range(len(node.changes))])


def _load(path: Path) -> Directory:
    found: dict[str, Node] = {}
    known: dict[int, File] = {}
    for item in path.iterdir():
        if item.is_symlink():
            found[item.name] = Link(os.readlink(item))
        elif item.is_dir():
            found[item.name] = _load(item)
        else:
            found[item.name] = known.setdefault(item.stat().st_ino, File(item.read_bytes()))
    return Directory(found)


def tree_of(path: Path) -> Tree:
    """Return what lies in a real folder."""
    return Storage(path).now


def lay_out(tree: Tree, path: Path) -> None:
    """Make a real folder of it."""
    path.mkdir()
    for name, what in tree.items():
        if what is None:
            (path / name).mkdir(parents=True, exist_ok=True)
    for name, what in tree.items():
        if isinstance(what, str):
            (path / name).symlink_to(what)
        elif what is not None:
            (path / name).write_bytes(what.content)


def key_of(tree: Tree) -> frozenset[tuple[str, str]]:
    """Return what tells two trees apart."""
    return frozenset(
        (name, what.digest if isinstance(what, Blob) else f"-> {what}" if what else "/") for name, what in tree.items()
    )
