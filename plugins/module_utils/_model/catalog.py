# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a repository holds of one domain, as it was found: nothing here was decided from a name alone."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import Manifest
from ansible_collections.virt.backup.plugins.module_utils._model.staging import Staging


@dataclasses.dataclass(frozen=True)
class Point:
    """A published restore point; ``faults``: (disk, sentence) of images that are missing, cut or damaged.

    ``distrusted``: (disk, words) of images that may restore well, but are no base for what comes next.
    """

    manifest: Manifest
    path: str
    faults: tuple[tuple[str, str], ...] = ()
    distrusted: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        """The id of the restore point."""
        return self.manifest.id

    def fault(self, disk: str) -> str:
        """What is wrong with the image of that disk, empty when nothing is."""
        return next((sentence for name, sentence in self.faults if name == disk), "")

    def distrust(self, disk: str) -> str:
        """Why nothing may build on the image of that disk any more, empty when something may."""
        return dict(self.distrusted).get(disk, "")


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A directory named like a restore point whose manifest doesn't say so; ``newer``: a newer release wrote it."""

    id: str
    path: str
    problem: str
    newer: bool = False


@dataclasses.dataclass(frozen=True)
class FoundStaging:
    """The staging directory of a run; ``staging`` is ``None`` when it can't be read, ``problem`` then says why."""

    id: str
    path: str
    staging: t.Optional[Staging] = None
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Catalog:
    """Everything in a domain's directory: restore points oldest first, and all that is none."""

    points: tuple[Point, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    stagings: tuple[FoundStaging, ...] = ()
    unfinished: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()

    def point(self, identifier: str) -> Point | None:
        """Return the published restore point of that id, or ``None``."""
        return next((point for point in self.points if point.id == identifier), None)

    def staging(self, identifier: str) -> FoundStaging | None:
        """Return the staging directory of that id, or ``None``."""
        return next((staging for staging in self.stagings if staging.id == identifier), None)

    @property
    def newest_id(self) -> str:
        """The highest id in use by anything, published or not; empty when there is none."""
        ids = [point.id for point in self.points]
        ids += [unreadable.id for unreadable in self.unreadable]
        ids += [staging.id for staging in self.stagings]
        return max(ids, default="")
