# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who else sees a secret: looks through the processes of the machine while something is done with it."""

from __future__ import annotations

import contextlib
import os
import threading
import typing as t
from pathlib import Path


class Watch:
    """Looks for secrets in the command line and environment of every process, until it is closed."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._end = threading.Event()
        self.found: set[str] = set()
        self.programs: set[bytes] = set()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> t.Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.01):
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        content = (folder / name).read_bytes()
                        self.programs.add(Path(os.fsdecode(content.partition(b"\0")[0])).name.encode())
                        if any(secret in content for secret in self._secrets):
                            self.found.add(f"{folder}/{name}: {content!r}")
