# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""How images are encrypted at rest: LUKS inside of qcow2."""

from __future__ import annotations

import dataclasses

LUKS = "luks"
NONE = "none"


@dataclasses.dataclass(frozen=True)
class Encryption:
    """The secret that opens the images, as bytes: UTF-8 without NUL, as QEMU wants it. Never shown.

    ``iter_time`` is how long one guess at the secret shall take on this machine, in milliseconds of CPU time; opening
    an image takes as long.
    """

    secret: bytes = dataclasses.field(repr=False)
    iter_time: int = 2000
