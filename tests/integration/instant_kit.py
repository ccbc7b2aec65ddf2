# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An instant restore by the real role, in the middle of which something dies."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import typing as t

from integration.controller import PATIENCE, Controller
from integration.protection import Protection
from integration.role_restore import PLAY
from integration.virt_kit import Result
from lab.domains import LabDomain
from lab.tools import file_hash, virsh
from lab.wait import until


class Restoration:
    """The restore of a domain to where it was, as itself, running from its repository at once."""

    def __init__(self, protection: Protection, folder: pathlib.Path, **wish: t.Any) -> None:
        self.domain, self.folder, self._protection = protection.domain, folder, protection
        self.wish: Result = {
            "restore_domain": self.domain.name,
            "restore_repository": str(protection.repository),
            "restore_mode": "instant",
            "restore_overwrite": True,
            "restore_overlay_dir": str(folder),
            **wish,
        }
        self._plays = 0
        self._stored = self._repository()

    def begin(self, stop_at: str = "", **more: t.Any) -> Controller:
        """Run the play, up to a task if that is named."""
        self._plays += 1
        return Controller(self.folder / f"play-{self._plays}", stop_at, PLAY, hv={**self.wish, **more})

    def finish(self, **more: t.Any) -> tuple[int, Result]:
        """Run the play to its end, which has to be a good one; return how many tasks changed something, and the result."""
        with self.begin(**more) as play:
            output = play.end()
        changed = re.search(r"^hv +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0", output, re.MULTILINE)
        assert changed, output
        return int(changed[1]), json.loads((play.folder / "result.json").read_text(encoding="utf-8"))

    def fail(self, **more: t.Any) -> str:
        """Run the play to its end, which has to be an error in words; return what it printed."""
        with self.begin(**more) as play:
            output = play.end()
        assert re.search(r"^hv +: .*unreachable=0 +failed=1", output, re.MULTILINE), output
        assert "Traceback" not in output
        return output.replace("\\'", "'")

    def repository_is_as_it_was(self) -> bool:
        """Compare every file of the repository, byte for byte, and all their names."""
        assert self._repository() == self._stored
        return True

    def nothing_is_left(self) -> bool:
        """Insist that neither an overlay, a server, an older disk nor a mark is left."""
        left = [*self.folder.rglob("*.overlay"), *self.folder.rglob("*.before-copy"), *self.folder.rglob("*.copying*")]
        left += [*self.domain.folder.rglob(".*"), *pathlib.Path("/run/virt-backup").iterdir()]
        assert left == []
        return True

    def server(self) -> int:
        """Return the process that serves the backup."""
        (path,) = pathlib.Path("/run/virt-backup").glob("*-restore.sock.pid")
        return int(path.read_text(encoding="ascii"))

    def _repository(self) -> dict[str, str]:
        files = [path for path in self._protection.repository.rglob("*") if path.is_file() and not path.is_symlink()]
        return {str(path): file_hash(path) for path in files}


def copies(domain: LabDomain, name: str = "vda") -> bool:
    """Whether that disk of the domain is being copied."""
    disk = domain.disk_element(name) if domain.exists() else None
    return disk is not None and disk.find("mirror") is not None


def sources(domain: LabDomain, *options: str) -> dict[str, str]:
    """Return where its disks are."""
    return dict(re.findall(r"^ *(vd\w) +(\S+)$", virsh("domblklist", domain.name, *options), re.MULTILINE))


def kill(pid: int) -> None:
    """Kill a process that is nobody's child here, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    until(f"{pid} is gone", lambda: not pathlib.Path(f"/proc/{pid}/exe").exists(), PATIENCE)
