# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disks of a running job, in the words of ``nbd_extract``."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = r"""
name: extract_images
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Turn the disks of a running job into images to extract
description:
  - An incremental disk is read by its bitmap and lies on its backing file; a full disk is read whole and lies on
    nothing.
positional: source_id
options:
  _input:
    description: The disks, as P(virt.backup.merge_disks#filter) returns them.
    type: list
    elements: dict
    required: true
  source_id:
    description: What names the moment that is read, for the record beside each image.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Copy all disks at the same time
  virt.backup.nbd_extract:
    images: "{{ disks | virt.backup.extract_images(plan.checkpoint) }}"
"""

RETURN = r"""
_value:
  description: Entries for the option O(virt.backup.nbd_extract#module:images).
  type: list
  elements: dict
"""


def extract_images(disks: list[dict[str, t.Any]], source_id: str) -> list[dict[str, t.Any]]:
    """Return one image per disk."""
    return [extract_image(disk, source_id) for disk in disks]


def extract_image(disk: dict[str, t.Any], source_id: str) -> dict[str, t.Any]:
    """Read the whole disk, or what its bitmap says on top of its backing file."""
    image = {"uri": disk["uri"], "dest": disk["image"], "format": "qcow2", "source_id": source_id}
    if disk["level"] == "incremental":
        image.update(bitmap=disk["exportbitmap"], backing_file=disk["backing_file"], backing_format="qcow2")
    return image


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"extract_images": extract_images}
