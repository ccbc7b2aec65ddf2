# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The short tables at the end of the demo."""

from __future__ import annotations

import re
import typing as t

from demo.backups import Row
from demo.ways import Way

_HEAD = ("restore point", "disk", "level", "reason", "bytes read", "bytes stored", "seconds", "verified")
_WAYS = ("way back", "restore point", "machine", "running after", "answering after", "files", "verified")
_NUMBERS = ("bytes read", "bytes stored", "seconds", "running after", "answering after", "files")


def _cells(row: Row, verified: bool) -> tuple[str, ...]:
    numbers = (f"{row.read:,}", f"{row.stored:,}", f"{row.seconds:.2f}")
    return (row.point, row.disk, row.level, _short(row.reason), *numbers, "yes" if verified else "NO")


def _short(reason: str) -> str:
    """Name a checkpoint of this repository by its restore point alone, as the first column does."""
    return re.sub(r"checkpoint 'virt-backup\.[0-9a-f]+\.([^']+)'", r"\1", reason)


def render(rows: t.Sequence[Row], verified: t.Mapping[str, bool]) -> str:
    """Return the table as text. Bytes stored are what the image file occupies."""
    return _table(_HEAD, [_cells(row, verified[row.point]) for row in rows])


def render_ways(ways: t.Sequence[Way]) -> str:
    """Return the table of the copies as text."""
    return _table(_WAYS, [_way(way) for way in ways])


def _way(way: Way) -> tuple[str, ...]:
    seconds = ("" if way.running is None else f"{way.running:.1f} s", f"{way.answering:.1f} s")
    return (way.name, way.point, way.machine, *seconds, str(way.files), "yes" if way.verified else "NO")


def _table(head: tuple[str, ...], rows: t.Sequence[tuple[str, ...]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(_line(line, widths, head) for line in lines)


def _line(cells: t.Sequence[str], widths: t.Sequence[int], head: t.Sequence[str]) -> str:
    padded = (
        cell.rjust(width) if name in _NUMBERS else cell.ljust(width) for cell, width, name in zip(cells, widths, head)
    )
    return "  ".join(padded).rstrip()
