# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ends that the conformance suite runs, one class each. A new end is a new class and a new line in ``ENDS``."""

from __future__ import annotations

import contextlib
import subprocess
import typing as t

from lab.disks import attach_loop

from ansible_collections.virt.backup.plugins.module_utils._copy import registry
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd

if t.TYPE_CHECKING:
    from pathlib import Path

    import pytest

OLD = b"\xa5"
"""What every end holds before a copy: whatever shows it afterwards was not zeroed."""


class Dest(t.NamedTuple):
    """Where a copy goes; ``show`` is the path in which QEMU finds the content afterwards."""

    dest: str
    show: Path
    format: str = "raw"
    in_place: bool = False
    direct: bool = False


End = t.Callable[..., t.ContextManager[Dest]]
"""Takes a folder for its files, the size of the disk, pytest's monkeypatch, and whether it is ``full`` of old content."""


@contextlib.contextmanager
def loop_device(image: Path, sector_size: int = 512) -> t.Iterator[str]:
    """Attach a loop device."""
    path = attach_loop(image, sector_size)
    try:
        yield path
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


def _old(path: Path, size: int, *, full: bool) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for at in range(0, size if full else 0, nbd.MOST):
            file.write(OLD * min(nbd.MOST, size - at))
    return path


@contextlib.contextmanager
def qcow2_file(folder: Path, size: int, _patch: pytest.MonkeyPatch, *, full: bool = True) -> t.Iterator[Dest]:
    """Our own writer, over an image that was there."""
    old = _old(folder / "a.qcow2", size, full=full)
    yield Dest(str(old), old, "qcow2")


@contextlib.contextmanager
def qcow2_direct(folder: Path, size: int, _patch: pytest.MonkeyPatch, *, full: bool = True) -> t.Iterator[Dest]:
    """Our own writer, past the page cache."""
    old = _old(folder / "a.qcow2", size, full=full)
    yield Dest(str(old), old, "qcow2", direct=True)


@contextlib.contextmanager
def qcow2_by_qemu(folder: Path, size: int, patch: pytest.MonkeyPatch, *, full: bool = True) -> t.Iterator[Dest]:
    """The end that has QEMU write: the cross-check of our own."""
    patch.setitem(registry.ENDS, (Place.FILE, "qcow2"), registry.qemu)
    old = _old(folder / "a.qcow2", size, full=full)
    yield Dest(str(old), old, "qcow2")


@contextlib.contextmanager
def raw_file(folder: Path, size: int, _patch: pytest.MonkeyPatch, *, full: bool = True) -> t.Iterator[Dest]:
    """A raw file, over one that was there."""
    old = _old(folder / "a.raw", size, full=full)
    yield Dest(str(old), old)


def _device(sector_size: int) -> End:
    @contextlib.contextmanager
    def end(folder: Path, size: int, _patch: pytest.MonkeyPatch, *, full: bool = True) -> t.Iterator[Dest]:
        """A loop device that has just the room."""
        backing = _old(folder / "device", -(-size // sector_size) * sector_size, full=full)
        with loop_device(backing, sector_size) as path:
            yield Dest(path, backing, in_place=True)

    return end


@contextlib.contextmanager
def export_of_qemu(folder: Path, size: int, _patch: pytest.MonkeyPatch, *, full: bool = True) -> t.Iterator[Dest]:
    """An export of qemu-nbd, which rounds sizes up to 512 and allows several connections."""
    backing = _old(folder / "export", -(-size // 512) * 512, full=full)
    with nbd.qemu_nbd(backing, image_format="raw") as server:
        yield Dest(server.uri(), backing, in_place=True)


def _export_of_nbdkit(*words: str, block: int = 1) -> End:
    @contextlib.contextmanager
    def end(folder: Path, size: int, _patch: pytest.MonkeyPatch, *, full: bool = True) -> t.Iterator[Dest]:
        backing = _old(folder / "export", -(-size // block) * block, full=full)
        filters = [word for word in words if word.startswith("--")]
        rest = [word for word in words if not word.startswith("--")]
        with nbd.nbdkit(folder, *filters, "file", backing, *rest, writable=True) as server:
            yield Dest(server.uri(), backing, in_place=True)

    return end


ENDS: dict[str, End] = {
    "qcow2": qcow2_file,
    "qcow2-by-qemu": qcow2_by_qemu,
    "raw": raw_file,
    "device": _device(512),
    "device-of-4k-blocks": _device(4096),
    "export-of-qemu": export_of_qemu,
    "export-of-nbdkit": _export_of_nbdkit(),
    "export-without-zero": _export_of_nbdkit("--filter=nozero"),
    "export-over-one-connection": _export_of_nbdkit("--filter=multi-conn", "multi-conn-mode=disable"),
    "export-with-small-requests": _export_of_nbdkit(
        "--filter=blocksize-policy", "blocksize-maximum=128K", "blocksize-error-policy=error"
    ),
    "export-of-4k-blocks": _export_of_nbdkit(
        "--filter=blocksize-policy", "blocksize-minimum=4K", "blocksize-error-policy=error", block=4096
    ),
}

MORE_ENDS: dict[str, End] = {**ENDS, "qcow2-direct": qcow2_direct}
"""With a variant of an end for the tests in which it may differ; it has tests of its own for the rest."""
