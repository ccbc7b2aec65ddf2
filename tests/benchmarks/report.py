# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table and the page. Pure."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.figures import Figures
    from benchmarks.model import Spent

BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"

PEERS = {
    "convert": "qemu-img convert -W",
    "convert-raw": "qemu-img convert -W → raw",
    "convert-synced": "qemu-img convert -W -t writeback, sync",
    "convert-zstd": "qemu-img convert -W -c zstd",
    "nbdcopy": "nbdcopy → raw",
    "nbdcopy-qcow2": "nbdcopy → qemu-nbd",
    "virtnbdbackup": "virtnbdbackup",
    "ours": "the same without",
    "b20": "the same without",
    "4 in turn": "one call after another",
    "16 in turn": "one call after another",
}

_HEAD = (
    "| case | against | wall | CPU | ours: s, CPU s, MiB | theirs: s, CPU s, MiB | target | verdict |",
    "|---|---|---|---|---|---|---|---|",
)


def table(rows: Sequence[Figures]) -> str:
    """Return the figures as a table of Markdown."""
    return "\n".join([*_HEAD, *(_line(row) for row in rows)])


def _line(found: Figures) -> str:
    theirs = found.theirs
    targets = ", ".join(f"{target} ({value:.2f})" for target, value in found.values)
    cells = (
        found.row.case,
        PEERS.get(found.row.theirs, "-"),
        f"{found.wall:.2f}" if theirs else "-",
        f"{found.cpu:.2f}" if theirs else "-",
        _spent(found.ours),
        _spent(theirs) if theirs else "-",
        targets or "-",
        f"**{found.verdict}**" if found.verdict == "missed" else found.verdict or "-",
    )
    return f"| {' | '.join(cells)} |"


def _spent(spent: Spent) -> str:
    return f"{spent.wall:.2f}, {spent.cpu:.2f}, {spent.memory:.0f}"


def summary(rows: Sequence[Figures]) -> str:
    """Return how many targets were met, and how much of the machine others took meanwhile."""
    judged = [row for row in rows if row.values]
    met = sum(row.verdict == "met" for row in judged)
    busy = max(row.ours.others for row in rows)
    text = f"{met} of {len(judged)} rows with a target met it."
    if busy > 0.1:
        text += f" Other processes took up to {busy:.0%} of the machine meanwhile: trust the CPU more than the wall."
    return text


def replace(page: str, generated: str) -> str:
    """Return the page with what is between the markers replaced."""
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise AssertionError("Contract violation: the page has lost its markers")
    return f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}"
