# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Argument specifications that several modules share; the doc fragments of the same names mirror them."""

from __future__ import annotations

import typing as t

Spec = dict[str, dict[str, t.Any]]


def libvirt_spec() -> Spec:
    """Options of the doc fragment ``virt.backup.libvirt``."""
    return {"uri": {"type": "str", "default": "qemu:///system"}}


def domain_spec() -> Spec:
    """Options of the doc fragment ``virt.backup.libvirt.domain``."""
    return {"domain": {"type": "str", "required": True, "aliases": ["guest"]}}


def point_spec() -> Spec:
    """Options of the doc fragments ``virt.backup.repository`` and ``virt.backup.restore_point_choice``."""
    secret = {
        "secret_file": {"type": "str", "default": ""},
        "secret": {"type": "str", "default": "", "no_log": True},
    }
    return {**choice_spec(), "encryption": {"type": "dict", "options": secret}}


def choice_spec() -> Spec:
    """Which repository, and which of its restore points."""
    names = ("domain_uuid", "domain_name", "id", "before")
    return {"repository": {"type": "path", "required": True}, **{name: {"type": "str"} for name in names}}


def pairs(disks: list[dict[str, t.Any]] | None) -> tuple[tuple[str, bool], ...] | None:
    """Turn a list of ``{name, checkpoint: bitmap|no}`` into (name, has a bitmap); ``None`` stays ``None``."""
    if disks is None:
        return None
    return tuple((disk["name"], disk["checkpoint"] == "bitmap") for disk in disks)
