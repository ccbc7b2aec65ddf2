# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""A disk of a restore point as it is stored: the images of its chain, all of them known to be there."""

from __future__ import annotations

import dataclasses

from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE


@dataclasses.dataclass(frozen=True)
class StoredDisk:
    """The chain of one disk. ``ids`` and ``paths`` begin with the full image; ``size`` in bytes, as QEMU shows it.

    ``content`` is the digest of what shows through the chain, or empty for the reason in ``content_reason``.
    ``plain`` tells that no image holds anything compressed or encrypted, as their records say.
    """

    name: str
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    size: int
    encryption: str = NONE
    content: str = ""
    content_reason: str = ""
    plain: bool = False

    @property
    def encrypted(self) -> bool:
        """Whether a secret is needed to read it."""
        return self.encryption != NONE
