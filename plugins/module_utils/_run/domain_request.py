# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What somebody asks of ``virt_restore``, and what can be said against it before anything is looked at."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.names import check_given, check_printable
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.definition import NewDisk

# libvirt refuses a slash and control characters; the dot alone would be a directory where its files are.
_NAME = re.compile(r"[^/\x00-\x1f]+")


@dataclasses.dataclass(frozen=True)
class DomainRequest:
    """The parameters of the module, by their names; ``new_name`` is ``as``."""

    uri: str
    restore_point: str = ""
    xml: str = ""
    state_files: tuple[tuple[str, str], ...] = ()
    id: str = ""
    new_name: str = ""
    disks: tuple[NewDisk, ...] = ()
    networks: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    bridges: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    interfaces: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    pools: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    network: str = ""
    network_cards: str = "keep"
    machine: str = ""
    cpu: str = "keep"
    virt_type: str = ""
    loader: str = ""
    missing_disks: str = "fail"
    missing_networks: str = "fail"
    missing_devices: str = "fail"
    state: str = "restored"
    overwrite: bool = False

    @property
    def policies(self) -> dict[str, str]:
        """What is done about a part that the host can't have, by the group of its need."""
        return {name: getattr(self, name) for name in ("missing_disks", "missing_networks", "missing_devices")}


def check_request(request: DomainRequest) -> None:
    """Refuse what can't be meant. Raises :class:`InputError`."""
    check_given("uri", request.uri, "a connection URI such as qemu:///system")
    for name in ("new_name", "network", "machine", "loader", "id"):
        check_printable("as" if name == "new_name" else name, getattr(request, name))
    if request.new_name and (not _NAME.fullmatch(request.new_name) or request.new_name in (".", "..")):
        raise InputError("as", request.new_name, "is no name for a domain", "leave slashes and control characters out")
    if request.restore_point and (request.state_files or request.id):
        given = "state_files" if request.state_files else "id"
        raise InputError(given, getattr(request, given), "is for xml", "a restore_point says it itself; leave it out")
    for disk in request.disks:
        check_given("disks", disk.source, f"where disk {disk.name} is now")
        if disk.type in ("file", "block") and not disk.source.startswith("/"):
            raise InputError("disks", disk.source, "is a relative path", "give an absolute path")
