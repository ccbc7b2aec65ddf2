# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proof by QEMU that what was measured is right: a fast wrong copy must not win."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from benchmarks.model import BenchError, Check, Program


def same(source: Path, output: Path) -> None:
    """Raise unless both show the same bytes; the formats are told by the suffixes."""
    formats = [path.suffix[1:] for path in (source, output)]
    words = ["qemu-img", "compare", "-U", "-f", formats[0], "-F", formats[1], str(source), str(output)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    # Without -s, which would also compare what is allocated, another size is only a warning.
    if done.returncode or "size mismatch" in done.stdout:
        raise BenchError(f"{output.name} is not a copy of {source.name}: {done.stdout.strip()}")


def check(source: Path, program: Program) -> Check:
    """Return what proves the program's first output against the disk it read."""
    return functools.partial(same, source, program.outputs[0])
