# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What follows when a host lacks something that a part of a domain needs. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.definition import (
    DEVICES,
    DISKS,
    HOST,
    MEDIA,
    NETWORKS,
    RESTORED,
    Verdict,
)

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.definition import Lack

_REMEDIES = {
    DISKS: "name its new place in disks, or set missing_disks to remove",
    NETWORKS: "give another with networks, bridges, interfaces or network, or set missing_networks to remove",
    DEVICES: "provide it, or set missing_devices to remove",
    RESTORED: "restore its content first",
    HOST: "provide it on this host",
}


def judge(lacks: Sequence[Lack], policies: Mapping[str, str], *, start: bool) -> Verdict:
    """Return what to do. ``policies`` says ``fail`` or ``remove`` for the groups that have a choice.

    What only hinders the start is a warning for a domain that stays off.
    """
    problems: list[str] = []
    remove: list[str] = []
    eject: list[str] = []
    warnings: list[str] = []
    for lack in lacks:
        group, sentence = lack.need.group, f"{lack.need.words}{lack.problem and ': '}{lack.problem}"
        if group == MEDIA:
            eject.append(lack.need.part)
            warnings.append(f"{sentence}: it was taken out of the drive.")
        elif lack.later:
            (problems if start else warnings).append(sentence if start else f"{sentence}.")
        elif lack.need.part and policies.get(group) == "remove":
            remove.append(lack.need.part)
            warnings.append(f"{sentence}: it was removed from the domain.")
        else:
            problems.append(f"{sentence}; {_REMEDIES[group]}")
    return Verdict(*(tuple(dict.fromkeys(found)) for found in (problems, remove, eject, warnings)))
