# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What is said when an increment was copied that must not become an image: all of its disks at once."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible_collections.virt.backup.plugins.module_utils._model.extraction import Mismatch


def refuse_mismatches(found: Iterable[tuple[str, Mismatch | None]]) -> None:
    """Raise :class:`StateError` when any image, each with the name of its parameter, is not on a base of its disk's.

    All are in its details, so that the next run need not find them one by one.
    """
    bad = [(parameter, mismatch) for parameter, mismatch in found if mismatch]
    if bad:
        sentences = [_sentence(parameter, mismatch) for parameter, mismatch in bad]
        raise StateError(" ".join(sentences), mismatches=[mismatch.as_dict() for _parameter, mismatch in bad])


def _sentence(parameter: str, mismatch: Mismatch) -> str:
    cause = "the disk changed without its bitmap, or that image is damaged" if mismatch.length else ""
    return (
        f"{parameter}: the disk {mismatch.export!r} can't be incremental on {mismatch.backing_file!r}: "
        f"{mismatch.problem}{'; ' if cause else ''}{cause}; no image was made, take a full one of this disk."
    )
