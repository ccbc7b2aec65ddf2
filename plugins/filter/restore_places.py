# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the disks of a restore point go."""

from __future__ import annotations

import posixpath
import re
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Entry = Mapping[str, t.Any]

DOCUMENTATION = r"""
name: restore_places
author: virt.backup contributors (@virt-backup)
version_added: 0.1.0
short_description: Say where the disks of a restore point go
description:
  - Gives each disk to be restored a place - the one that was asked for, or a file in a directory, or where the disk
    was.
  - A disk that was on a block device goes back there as raw, one that was a volume of a storage pool to that volume.
    One that was on a network, or in another format than qcow2 and raw, has no place of its own.
positional: disks, directory, name, overlay_dir, pool, pools
options:
  _input:
    description: The restore point, as RV(virt.backup.restore_point_info#module:chosen) returns it.
    type: dict
    required: true
  disks:
    description:
      - The disks to restore, as C(name) with C(dest), C(format), C(type) (V(file), V(block) or V(volume)) where they
        are known.
      - Empty means all of the restore point.
    type: list
    elements: dict
    default: []
  directory:
    description: The directory for disks without a place, as C(<name>-<disk>.qcow2). Empty means where they were.
    type: str
    default: ""
  name:
    description: The name of the domain to come, when it is a copy. A copy's disks are never where the original's are.
    type: str
    default: ""
  pool:
    description: The storage pool for disks without a place, as C(<name>-<disk>.qcow2). Empty means O(directory).
    type: str
    default: ""
  pools:
    description: Storage pools that have another name on this host, old name to new name.
    type: dict
    default: {}
  overlay_dir:
    description: The directory of the overlays on which an instant restore runs until its disks are copied.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Find the places
  ansible.builtin.set_fact:
    places: "{{ points.chosen | virt.backup.restore_places(directory='/var/lib/libvirt/images') }}"
"""

RETURN = r"""
_value:
  description: The places.
  type: dict
  contains:
    disks:
      description: The disks to restore, each with C(name), C(dest), C(format) and C(type).
      type: list
      elements: dict
    final:
      description: The same for O(virt.backup.virt_restore#module:disks).
      type: list
      elements: dict
    overlays:
      description: The overlays for O(virt.backup.virt_restore#module:disks).
      type: list
      elements: dict
    problem:
      description: What is wrong with the wish, empty when nothing is.
      type: str
"""

_FORMATS = ("qcow2", "raw")

_VOLUME = re.compile(r"([^/:=,]+)/([^/]+)")
"""How a manifest names a volume: no path, no ``protocol://hosts/name``, no attributes of a device."""


def restore_places(
    point: Entry,
    disks: Sequence[Entry] = (),
    directory: str = "",
    name: str = "",
    overlay_dir: str = "",
    pool: str = "",
    pools: Mapping[str, str] | None = None,
) -> dict[str, t.Any]:
    """Return the place of each disk, or what is wrong."""
    stored = {disk["name"]: disk for disk in point["disks"]}
    wishes = list(disks) or [{"name": disk} for disk in stored]
    if pool and directory:
        return _problem(f"restore_pool: '{pool}' and restore_dir '{directory}' are both given; leave one of them out")
    found: list[dict[str, str]] = []
    for wish in wishes:
        disk = str(wish.get("name", ""))
        if disk not in stored:
            known = ", ".join(stored) or "none"
            return _problem(f"restore_disks: '{disk}' is no disk of restore point {point['id']}, which has {known}")
        place = _asked(wish) or _gathered(pool or directory, name or point["domain"]["name"], disk, wish)
        if place and pool and not wish.get("dest"):
            place["type"] = "volume"
        place = place or ({} if name else _as_it_was(stored[disk], wish, pools or {}))
        if not place:
            return _problem(_no_place(stored[disk], name))
        found.append({"name": disk, **place})
    dests = [place["dest"] for place in found]
    twice = next((dest for dest in dests if dests.count(dest) > 1), "")
    if twice:
        return _problem(f"restore_disks: two disks would go to '{twice}'")
    final = [{"name": p["name"], "source": p["dest"], "type": p["type"], "format": p["format"]} for p in found]
    prefix = posixpath.join(overlay_dir, name or str(point["domain"]["name"]))
    overlays = [
        {"name": p["name"], "source": f"{prefix}-{p['name']}.overlay", "type": "file", "format": "qcow2"}
        | {"moves_to": p["dest"]}
        for p in found
    ]
    return {"disks": found, "final": final, "overlays": overlays, "problem": ""}


def _problem(sentence: str) -> dict[str, t.Any]:
    return {"disks": [], "final": [], "overlays": [], "problem": sentence}


def _asked(wish: Entry) -> dict[str, str]:
    dest = str(wish.get("dest") or "")
    if not dest:
        return {}
    kind = str(wish.get("type") or _kind(dest))
    return {"dest": dest, "type": kind, "format": str(wish.get("format") or ("raw" if kind == "block" else "qcow2"))}


def _gathered(where: str, name: str, disk: str, wish: Entry) -> dict[str, str]:
    """Return the place in the directory or pool that takes all disks without a place, if there is one."""
    if not where:
        return {}
    form = str(wish.get("format") or "qcow2")
    return {"dest": posixpath.join(where, f"{name}-{disk}.{form}"), "type": "file", "format": form}


def _as_it_was(stored: Entry, wish: Entry, pools: Mapping[str, str]) -> dict[str, str]:
    source, form = str(stored["source"]), str(wish.get("format") or stored["format"])
    if form not in _FORMATS:
        return {}
    volume = _VOLUME.fullmatch(source)
    if volume:
        return {"dest": f"{pools.get(volume[1], volume[1])}/{volume[2]}", "type": "volume", "format": form}
    if not source.startswith("/"):
        return {}
    kind = _kind(source)
    return {"dest": source, "type": kind, "format": "raw" if kind == "block" else form}


def _kind(path: str) -> str:
    return "block" if path.startswith("/dev/") else "file"


def _no_place(stored: Entry, name: str) -> str:
    disk = stored["name"]
    if name:
        return f"restore_dir: a copy needs a place for disk '{disk}'; set restore_dir, or its dest in restore_disks"
    return (
        f"restore_disks: disk '{disk}' was at '{stored['source']}' ({stored['format']}), where it can't be written "
        "back; set restore_dir, or its dest in restore_disks"
    )


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filter of this file."""
        return {"restore_places": restore_places}
