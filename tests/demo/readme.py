# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the README promises, taken from the README itself: the playbook that protects, the lines that restore."""

from __future__ import annotations

import pathlib
import re
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = ROOT / "README.md"

# The names that the README uses, and so the demo.
DOMAIN = "web"
REPOSITORY = pathlib.Path("/srv/backup")
IMAGES = pathlib.Path("/var/lib/libvirt/images")
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")


def block(name: str) -> list[str]:
    """Return the lines of the fenced block between the README's markers of that name."""
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name}:begin -->\s*```\w+\n(.*?)```\s*<!-- {name}:end -->", text, re.DOTALL)
    assert found, f"README.md has no block {name}"
    return found.group(1).splitlines()


def playbook() -> str:
    """Return the README's playbook."""
    return "\n".join(block("playbook")) + "\n"


def restore_lines(point: pathlib.Path) -> list[str]:
    """Return the README's lines with this restore point's id, the line for an image repeated for each of its disks."""
    lines = [_ID.sub(point.name, line) for line in block("restore")]
    assert len(lines) == 5, f"the README restores with {len(lines)} lines"
    at = next(number for number, line in enumerate(lines) if line.startswith("qemu-img convert"))
    return lines[:at] + [_for_disk(lines[at], *disk) for disk in _disks(point)] + lines[at + 1 :]


def _for_disk(line: str, target: str, source: str) -> str:
    command = line.split()
    return " ".join([*command[:-2], f"{target}.qcow2", source])


def _disks(point: pathlib.Path) -> list[tuple[str, str]]:
    """Return target and path of each disk of the restore point, as its domain.xml gives them."""
    root = ElementTree.parse(point / "domain.xml").getroot()
    found = []
    for disk in root.iterfind("devices/disk"):
        target, source = disk.find("target"), disk.find("source")
        assert target is not None
        assert source is not None
        found.append((target.get("dev", ""), source.get("file", "")))
    return found
