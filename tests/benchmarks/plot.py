# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plot: one bar for each ratio, with its target, as an SVG written here. Pure.

A library would be a dependency of hundreds of times this file's size for one picture of rectangles.
"""

from __future__ import annotations

import typing as t
from xml.sax.saxutils import escape

from benchmarks.model import Metric
from benchmarks.report import PEERS

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.figures import Figures

_LEFT, _WIDTH, _LINE, _TOP = 430, 420, 24, 64
_MOST = 1.5
"""The ratio at the right edge; what is slower ends there, with its figure."""

_STYLE = (
    "text{font:13px sans-serif;fill:#222}.title{font-weight:bold;font-size:15px}.note{fill:#666}"
    ".met{fill:#3a7d44}.missed{fill:#b3442e}.plain{fill:#6b7f99}.grid{stroke:#ccc}.target{stroke:#222;stroke-width:2}"
)


def svg(rows: Sequence[Figures]) -> str:
    """Return the picture of all rows that are compared with a peer."""
    shown = [row for row in rows if row.theirs]
    height = _TOP + len(shown) * _LINE + 30
    bottom = height - 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 60} {height}" role="img">',
        f"<title>Wall time of nbd_extract relative to its peers</title><style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        '<text class="title" x="12" y="24">Wall time relative to the peer: shorter is faster, 1 is as fast</text>',
        '<text class="note" x="12" y="44">The stroke is the target. Green reaches all targets of its row.</text>',
        *(_grid(mark / 4, bottom) for mark in range(7)),
    ]
    for index, row in enumerate(shown):
        parts += _bar(row, _TOP + index * _LINE)
    return "\n".join([*parts, "</svg>", ""])


def _x(ratio: float) -> float:
    return round(_LEFT + min(ratio, _MOST) / _MOST * _WIDTH, 1)


def _grid(ratio: float, bottom: int) -> str:
    x = _x(ratio)
    line = f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{bottom}"/>'
    return f'{line}<text class="note" x="{x}" y="{bottom + 18}" text-anchor="middle">{ratio:g}</text>'


def _bar(row: Figures, y: int) -> list[str]:
    label = escape(f"{row.row.case} / {PEERS[row.row.theirs]}")
    width = round(_x(row.wall) - _LEFT, 1)
    parts = [
        f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{label}</text>',
        f'<rect class="{row.verdict or "plain"}" x="{_LEFT}" y="{y + 3}" width="{width}" height="{_LINE - 8}"/>',
        f'<text x="{_LEFT + _WIDTH + 12}" y="{y + 14}">{row.wall:.2f}</text>',
    ]
    for target in row.row.targets:
        if target.metric is Metric.WALL:
            x = _x(target.bound)
            parts.append(f'<line class="target" x1="{x}" x2="{x}" y1="{y}" y2="{y + _LINE - 3}"/>')
    return parts
