# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMU's block layer without a guest: one disk that is written through NBD, bitmaps, and the export of a frozen moment.

It does with the same commands what libvirt does with a running domain's QEMU, in a hundredth of the time.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import typing as t
from pathlib import Path

from ansible_collections.virt.backup.tests.integration.nbd_fixtures import Server

SECONDS = 30


class StorageDaemon:
    """A ``qemu-storage-daemon`` with one disk, which its user writes at :attr:`guest_uri`. A context manager."""

    def __init__(self, disk: Path, image_format: str) -> None:
        self._socket = disk.with_suffix(".sock")
        self.guest_uri = f"nbd+unix:///guest?socket={self._socket}"
        node = {"driver": image_format, "node-name": "disk", "discard": "unmap"}
        node["file"] = {"driver": "file", "filename": str(disk), "discard": "unmap"}  # type: ignore[assignment]
        words = ["qemu-storage-daemon", "--chardev", "stdio,id=monitor", "--monitor", "chardev=monitor"]
        words += ["--nbd-server", f"addr.type=unix,addr.path={self._socket},max-connections=0"]
        words += ["--blockdev", json.dumps(node)]
        words += ["--export", "type=nbd,id=guest,node-name=disk,name=guest,writable=on"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()
        self.ask("qmp_capabilities")

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.terminate()
        self._process.wait(timeout=SECONDS)
        self._process.stdout.close()  # type: ignore[union-attr]

    def ask(self, command: str, **arguments: t.Any) -> t.Any:
        """Run a command of QMP and return its answer. Names are written with underscores."""
        told = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._process.stdin.write(json.dumps({"execute": command, "arguments": told}) + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        while True:
            answer = self._read()
            assert "error" not in answer, f"{command} {told}: {answer}"
            if "return" in answer:
                return answer["return"]

    def begin_bitmap(self, name: str, granularity: int) -> None:
        """Begin to record what changes, as a checkpoint does."""
        self.ask("block-dirty-bitmap-add", node="disk", name=name, granularity=granularity)

    def end_bitmap(self, name: str) -> None:
        """Record no longer."""
        self.ask("block-dirty-bitmap-disable", node="disk", name=name)

    @contextlib.contextmanager
    def still(self, *bitmaps: str) -> t.Iterator[Server]:
        """Serve the disk itself. Nobody may write meanwhile."""
        yield from self._export("disk", bitmaps)

    @contextlib.contextmanager
    def frozen(self, scratch: Path, *bitmaps: str) -> t.Iterator[Server]:
        """Serve this moment, as a backup job in pull mode does: what is overwritten is first copied to ``scratch``."""
        file = {"driver": "file", "filename": str(scratch)}
        self.ask("blockdev-add", driver="qcow2", node_name="scratch", file=file, backing="disk")
        self.ask("blockdev-backup", job_id="backup", device="disk", target="scratch", sync="none")
        yield from self._export("scratch", bitmaps)
        self.ask("job-cancel", id="backup")
        self._until(lambda: not self.ask("query-jobs"))
        self.ask("blockdev-del", node_name="scratch")

    def _export(self, node: str, bitmaps: t.Sequence[str]) -> t.Iterator[Server]:
        self.ask("block-export-add", type="nbd", id="backup", node_name=node, name="", bitmaps=[*bitmaps])
        yield Server(self._process.pid, self._socket)
        self.ask("block-export-del", id="backup", mode="hard")
        self._until(lambda: all(export["id"] != "backup" for export in self.ask("query-block-exports")))

    def _until(self, done: t.Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def _read(self) -> dict[str, t.Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        assert line, "qemu-storage-daemon ended"
        answer: dict[str, t.Any] = json.loads(line)
        return answer
