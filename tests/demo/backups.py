# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups by ansible-playbook, with the README's playbook; and what the repository then says about them."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import typing as t

from demo.readme import DOMAIN, REPOSITORY, ROOT, playbook

FOLDER = pathlib.Path("/run/demo")
"""Where the playbook and the inventory are, in the hypervisor's own /run."""

BUILD = ROOT / "build"
INVENTORY = "[hypervisors]\nhv1 ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n"


@dataclasses.dataclass(frozen=True)
class Row:
    """One disk in one restore point. ``read`` and ``stored`` in bytes."""

    point: str
    disk: str
    level: str
    reason: str
    read: int
    stored: int
    seconds: float


def prepare() -> None:
    """Write playbook and inventory."""
    FOLDER.mkdir()
    (FOLDER / "protect.yml").write_text(playbook(), encoding="utf-8")
    (FOLDER / "inventory").write_text(INVENTORY, encoding="utf-8")


def back_up() -> pathlib.Path:
    """Run the playbook and return the restore point that it made.

    The README's playbook does nothing while the newest restore point is young; the demo wants one now.
    """
    before = set(points())
    argv = ["ansible-playbook", "-i", "inventory", "protect.yml", "-e", "backup_max_age=0"]
    done = subprocess.run(argv, cwd=FOLDER, env=environment(), check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"ansible-playbook failed:\n{done.stdout}\n{done.stderr}")
    (new,) = set(points()) - before
    return new


def points() -> list[pathlib.Path]:
    """Return the published restore points, oldest first."""
    by_name = REPOSITORY / "by-name" / DOMAIN
    return sorted(path.parent for path in by_name.glob("*/manifest.json") if "." not in path.parent.name)


def environment() -> dict[str, str]:
    """Return an environment in which Ansible finds our checkout, and nothing that the caller has set for another."""
    foreign = ("ANSIBLE_", "PYTHON", "PYENV_", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {
        **kept,
        "HOME": str(BUILD / "home"),
        "PATH": f"{BUILD}/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "ANSIBLE_COLLECTIONS_PATH": str(BUILD / "link"),
        "ANSIBLE_PIPELINING": "true",
    }


def rows(point: pathlib.Path) -> list[Row]:
    """Return what the manifest and the records beside the images say."""
    manifest = json.loads((point / "manifest.json").read_text(encoding="utf-8"))
    return [_row(point, disk) for disk in manifest["disks"]]


def _row(point: pathlib.Path, disk: dict[str, t.Any]) -> Row:
    record = json.loads((point / disk["record"]).read_text(encoding="utf-8"))
    stored = (point / disk["image"]).stat().st_blocks * 512
    return Row(
        point.name, disk["name"], disk["level"], disk["reason"], disk["bytes_copied"], stored, float(record["seconds"])
    )
