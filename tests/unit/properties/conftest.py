# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How Hypothesis looks for examples: always the same ones, unless VIRT_BACKUP_EXAMPLES asks for more, and then by chance."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import configuration, settings

MORE = int(os.environ.get("VIRT_BACKUP_EXAMPLES", "0"))

configuration.set_hypothesis_home_dir(Path(__file__).parents[3] / "build/cache/hypothesis")
settings.register_profile(
    "virt.backup", deadline=None, derandomize=not MORE, database=None, max_examples=MORE or 100, print_blob=True
)
settings.load_profile("virt.backup")
