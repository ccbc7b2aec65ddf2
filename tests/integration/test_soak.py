# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A long run, here a short one; ``make soak`` runs it for as long as one likes.

``VIRT_BACKUP_SEED`` chooses another life. It ends after ``VIRT_BACKUP_SOAK_BACKUPS`` rounds with a backup each, or after
``VIRT_BACKUP_SOAK_SECONDS``. A failure names the command that repeats it, and the log of all that was done.
"""

from __future__ import annotations

import os
import pathlib
import time
import typing as t

import pytest
from integration.kill_kit import SEED
from integration.soak import NAMES, Soak
from integration.soak_faults import repository_in_memory
from lab.domains import Domains

LOGS = pathlib.Path(__file__).parents[2] / "build" / "logs"
SECONDS, ROUNDS = 20.0, 9
"""What is enough where nothing else was asked for: both."""


@pytest.mark.timeout(0)  # as long as one likes
def test_every_restore_point_of_a_long_run_is_right(
    domains: Domains, workdir: pathlib.Path, record_property: t.Callable[[str, object], None]
) -> None:
    asked_rounds, asked_seconds = (os.environ.get(f"VIRT_BACKUP_SOAK_{what}") for what in ("BACKUPS", "SECONDS"))
    rounds = float(asked_rounds or "inf")
    end = time.monotonic() + float(asked_seconds or ("inf" if asked_rounds else SECONDS))
    least = 1 if asked_rounds or asked_seconds else ROUNDS
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / "soak-actions.log"
    with repository_in_memory(workdir / "memory") as memory:
        soak = Soak(SEED, domains, memory / "repository", log)
        try:
            while soak.rounds < least or (soak.rounds < rounds and time.monotonic() < end):
                soak.round()
                print(f"{soak.rounds} rounds, {soak.backups} restore points", flush=True)
            soak.end()
        except BaseException as error:
            lines = log.read_text(encoding="utf-8").splitlines()[-40:]
            again = f"again: make soak SEED={SEED} BACKUPS={max(1, soak.rounds)}"
            error.add_note("\n".join([*lines, f"all of it: {log}", again]))
            raise
    record_property("tried", soak.backups)
    print(f"seed {SEED}: {soak.rounds} rounds, {soak.backups} restore points of {len(NAMES)} domains, all right")
