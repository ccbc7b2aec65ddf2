# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A random sample of what a bitmap calls clean, drawn while the disk is planned, in memory that does not grow with it.

Pure but for the ``random.Random`` that it is given. The method is Vitter's reservoir with the skips of Li ("Algorithm
L", ACM TOMS 20 (1994) 4): it asks for chance when it takes a cluster, and not for each that it passes.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER, Run, round_up

if t.TYPE_CHECKING:
    import random


class CleanSample:
    """Up to ``most`` different clusters of those offered, every set of that many being as likely as any other."""

    def __init__(self, most: int, chance: random.Random) -> None:
        self._most = most
        self._chance = chance
        self._kept: list[Run] = []
        self._offered = 0
        self._next = 0
        self._weight = 1.0

    def offer(self, start: int, end: int) -> None:
        """Offer a range that begins with a cluster and ends with one, or with the disk."""
        before, self._offered = self._offered, self._offered + round_up(end - start, CLUSTER) // CLUSTER
        while self._next < self._offered:
            first = start + (self._next - before) * CLUSTER
            self._take(Run(first, min(first + CLUSTER, end)))

    def drawn(self) -> list[Run]:
        """Return the sample in random order, so that each beginning of it is a smaller sample."""
        found = list(self._kept)
        self._chance.shuffle(found)
        return found

    def _take(self, cluster: Run) -> None:
        self._next += 1
        if len(self._kept) < self._most:
            self._kept.append(cluster)
            if len(self._kept) < self._most:
                return
        else:
            self._kept[self._chance.randrange(self._most)] = cluster
        self._weight *= math.exp(math.log(self._unit()) / self._most)
        if self._weight < 1.0:
            self._next += int(math.log(self._unit()) / math.log1p(-self._weight))

    def _unit(self) -> float:
        """Return a number between 0 and 1 that is neither."""
        return (self._chance.getrandbits(52) + 0.5) / (1 << 52)
