# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The long run: three domains, and in each round one of them lives, suffers and is backed up, all by the dice.

Round number n throws dice of its own, made from the seed and n, so what is done depends on nothing but these and the
rounds before it: the seed and the number of rounds repeat a run.
"""

from __future__ import annotations

import pathlib
import random
import typing as t

from integration.soak_domain import SoakDomain
from integration.soak_faults import any_fault, call_the_doctor
from lab.domains import Domains

NAMES = ("soak-a", "soak-b", "soak-c")


class Soak:
    """The domains and the log; :meth:`round` may be called for as long as one likes."""

    def __init__(self, seed: str, domains: Domains, repository: pathlib.Path, log: pathlib.Path) -> None:
        self.seed, self.rounds, self.backups = seed, 0, 0
        self._file = log.open("w", encoding="utf-8", buffering=1)
        self.domains = [
            SoakDomain(domains.describe(name=name), repository, self._logger(name), random.Random(f"{seed} {name}"))
            for name in NAMES
        ]

    def _logger(self, name: str) -> t.Callable[[str], None]:
        def log(words: str) -> None:
            self._file.write(f"{self.rounds:4d} {name}: {words}\n")

        return log

    def round(self) -> None:
        """Let a domain live, perhaps suffer, and be backed up; then perhaps tidy up its repository."""
        self.rounds += 1
        domain, dice = self.domains[self.rounds % len(NAMES)], random.Random(f"{self.seed} {self.rounds}")
        self._live(domain, dice)
        before = len(domain.protection.points)
        if domain.protection.points and dice.random() < 0.45:
            any_fault(dice)(domain, dice)
            domain.write(dice, 3)
            if dice.random() < 0.25:
                call_the_doctor(domain, dice)
        domain.wait_for_the_lock()
        domain.backup(dice)
        domain.nothing_left()
        self.backups += len(domain.protection.points) - before
        tidy = dice.choices((None, domain.verify, domain.expire, domain.drop_newest), (10, 2, 3, 1))[0]
        if tidy is not None:
            tidy(dice)

    def _live(self, domain: SoakDomain, dice: random.Random) -> None:
        acts = (
            domain.plug,
            domain.unplug,
            domain.grow,
            domain.shrink,
            domain.cycle,
            domain.crash,
            domain.restart_daemon,
        )
        domain.write(dice)
        for _any in range(dice.choice((0, 1, 1, 2))):
            dice.choices(acts, (4, 2, 2, 1, 2, 1, 1))[0](dice)
            domain.write(dice, 3)

    def end(self) -> None:
        """Check every restore point that is left once more, by qemu-img and by the collection."""
        for domain in [domain for domain in self.domains if domain.protection.points]:
            domain.protection.check_all()
            domain.verify(random.Random(0))
        self._file.close()
