# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The short table at the end of the demo."""

from __future__ import annotations

import re
import typing as t

from demo.backups import Row

_HEAD = ("restore point", "disk", "level", "reason", "bytes read", "bytes stored", "seconds", "verified")
_NUMBERS = ("bytes read", "bytes stored", "seconds")


def _cells(row: Row, verified: bool) -> tuple[str, ...]:
    numbers = (f"{row.read:,}", f"{row.stored:,}", f"{row.seconds:.2f}")
    return (row.point, row.disk, row.level, _short(row.reason), *numbers, "yes" if verified else "NO")


def _short(reason: str) -> str:
    """Name a checkpoint of this repository by its restore point alone, as the first column does."""
    return re.sub(r"checkpoint 'virt-backup\.[0-9a-f]+\.([^']+)'", r"\1", reason)


def render(rows: t.Sequence[Row], verified: t.Mapping[str, bool]) -> str:
    """Return the table as text. Bytes stored are what the image file occupies."""
    lines = [_HEAD, *(_cells(row, verified[row.point]) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: t.Sequence[str], widths: t.Sequence[int]) -> str:
    padded = (
        cell.rjust(width) if name in _NUMBERS else cell.ljust(width) for cell, width, name in zip(cells, widths, _HEAD)
    )
    return "  ".join(padded).rstrip()
