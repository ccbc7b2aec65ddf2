# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The sample of one increment, from the plan of the copy, in which it is drawn, to what came of the comparison."""

from __future__ import annotations

import os
import random
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy import plan
from ansible_collections.virt.backup.plugins.module_utils._copy.against_chain import CANDIDATES, Comparison
from ansible_collections.virt.backup.plugins.module_utils._copy.chain_paths import ChainUnreadable
from ansible_collections.virt.backup.plugins.module_utils._copy.chain_server import served_chain
from ansible_collections.virt.backup.plugins.module_utils._copy.clean_sample import CleanSample
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER, Run
from ansible_collections.virt.backup.plugins.module_utils._model.extraction import Mismatch
from ansible_collections.virt.backup.plugins.module_utils._nbd import BITMAP_PREFIX

if t.TYPE_CHECKING:
    import threading

    from ansible_collections.virt.backup.plugins.module_utils._copy.against_chain import Findings
    from ansible_collections.virt.backup.plugins.module_utils._copy.chain_server import ServedChain
    from ansible_collections.virt.backup.plugins.module_utils._copy.rate import RateLimit
    from ansible_collections.virt.backup.plugins.module_utils._model.encryption import Encryption
    from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
    from ansible_collections.virt.backup.plugins.module_utils._nbd import Connection


class Terms(t.NamedTuple):
    """What the comparison shares with the copy; ``timeout`` in seconds."""

    encryption: Encryption | None
    limit: RateLimit
    timeout: float
    cancel: threading.Event


class CleanCheck:
    """Draws from what :meth:`offer` gets; :meth:`run` compares ``wanted`` clusters of each kind with the chain."""

    def __init__(self, image: ImageRequest, wanted: int, chance: random.Random | None = None) -> None:
        self._image = image
        self._wanted = wanted
        self._chance = chance or random.Random()
        self._sample = CleanSample(CANDIDATES * wanted, self._chance)

    def offer(self, start: int, end: int) -> None:
        """Learn of a clean range."""
        if self._wanted:
            self._sample.offer(start, end)

    def run(self, export: Connection, export_name: str, terms: Terms) -> tuple[int, Mismatch | None]:
        """Return how many clusters were compared, and what is wrong.

        Raises ``NbdError`` when the export fails; that the chain can't be read is a finding.
        """
        drawn = self._sample.drawn()
        if not drawn:
            return 0, None
        image = self._image
        base = os.path.join(os.path.dirname(image.dest), image.backing_file)
        try:
            with served_chain(base, image.backing_format, terms.encryption, terms.timeout, terms.cancel) as chain:
                found = self._compare(export, chain, drawn, terms)
        except ChainUnreadable as error:
            return 0, Mismatch(image.dest, export_name, base, f"its chain can't be read: {error.message}")
        if not found.differing:
            return found.compared, None
        first = found.differing[0]
        problem = (
            f"{len(found.differing)} of {found.compared} clean ranges that were compared differ from it, "
            f"the first one at offset {first.start}"
        )
        return 0, Mismatch(image.dest, export_name, base, problem, first.start, first.end - first.start)

    def _compare(self, export: Connection, chain: ServedChain, drawn: list[Run], terms: Terms) -> Findings:
        comparison = Comparison(export, chain, self._wanted, lambda length: terms.limit.wait(length, terms.cancel))
        comparison.take(drawn)
        # Fewer drawn than asked for are all there are.
        if comparison.few and len(drawn) == CANDIDATES * self._wanted:
            comparison.take_held(self._held(chain, export.size), lambda run: self._is_clean(export, run))
        return comparison.end()

    def _held(self, chain: ServedChain, size: int) -> list[Run]:
        """Draw from all that the chain holds, beginning anywhere, as it may be in too many pieces to look at all."""
        sample = CleanSample(CANDIDATES * self._wanted, self._chance)
        for run in chain.held(self._chance.randrange(size) // CLUSTER * CLUSTER, size):
            sample.offer(*run)
        return sample.drawn()

    def _is_clean(self, export: Connection, run: Run) -> bool:
        """Whether the increment leaves the cluster out: it holds whole clusters of its own size."""
        (whole,) = plan.rounded_out([run], export.size, self._image.cluster_size)
        return not any(plan.dirty_runs(export.extents(BITMAP_PREFIX + self._image.bitmap, *whole)))
