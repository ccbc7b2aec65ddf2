# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What every use case hands back to its module."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a use case, in check mode as in a real run.

    ``before`` and ``after`` are the two sides of ``--diff``, as plain data or text; both ``None`` means no diff.
    """

    changed: bool
    result: dict[str, t.Any]
    before: t.Any = None
    after: t.Any = None
    warnings: tuple[str, ...] = ()
