# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong in the lab itself."""

from __future__ import annotations


class LabError(Exception):
    """The lab could not do what was asked; the text says what and shows the tail of the log that knows why."""


class LeftoverError(LabError):
    """Something outlived its hypervisor. It is a bug of the lab or of the code under test, never to be ignored."""
