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
from ansible_collections.virt.backup.plugins.module_utils._model.size import parse_size

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.definition import NewDisk

# libvirt refuses a slash and control characters; the dot alone would be a directory where its files are.
_NAME = re.compile(r"[^/\x00-\x1f]+")


@dataclasses.dataclass(frozen=True)
class DomainRequest:
    """The parameters of the module, by their names; ``new_name`` is ``as``."""

    uri: str
    restore_point: str = ""
    repository: str = ""
    domain_uuid: str = ""
    domain_name: str = ""
    before: str = ""
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
    error_policy: str = "keep"
    overwrite: bool = False
    isolated: bool = False
    transient: bool = False
    memory_limit: str = ""
    memory_wait: int = 0
    again: bool = False

    @property
    def policies(self) -> dict[str, str]:
        """What is done about a part that the host can't have, by the group of its need."""
        return {name: getattr(self, name) for name in ("missing_disks", "missing_networks", "missing_devices")}

    @property
    def movable(self) -> dict[str, tuple[str, str]]:
        """Where the disks may be that are going to move, by name: still here, or there already."""
        return {disk.name: (disk.source, disk.moves_to) for disk in self.disks if disk.moves_to}

    @property
    def stopping(self) -> tuple[str, ...]:
        """The disks on whose errors the running domain has to stand still."""
        return tuple(disk.name for disk in self.disks) if self.error_policy == "stop" else ()


# What each way to name the restore point has a use for.
_USED = {
    "restore_point": frozenset[str](),
    "repository": frozenset({"domain_uuid", "domain_name", "before", "id"}),
    "xml": frozenset({"state_files", "id"}),
}


def check_request(request: DomainRequest) -> None:
    """Refuse what can't be meant. Raises :class:`InputError`."""
    check_given("uri", request.uri, "a connection URI such as qemu:///system")
    for name in ("new_name", "network", "machine", "loader", "id"):
        check_printable("as" if name == "new_name" else name, getattr(request, name))
    if request.new_name and (not _NAME.fullmatch(request.new_name) or request.new_name in (".", "..")):
        raise InputError("as", request.new_name, "is no name for a domain", "leave slashes and control characters out")
    _check_origin(request)
    _check_copy(request)
    for name in ("networks", "bridges", "interfaces", "pools"):
        for new in getattr(request, name).values():
            check_given(name, new, "the name on this host")
    for disk in request.disks:
        check_given("disks", disk.source, f"where disk {disk.name} is now")
        if disk.type in ("file", "block") and not disk.source.startswith("/"):
            raise InputError("disks", disk.source, "is a relative path", "give an absolute path")


def _check_copy(request: DomainRequest) -> None:
    """What is only for a copy, and only for one that runs."""
    if request.state == "absent" and not request.new_name:
        remedy = "name the copy to remove; an original is never removed"
        raise InputError("as", "", "is needed with state absent", remedy)
    for name in ("isolated", "transient"):
        if getattr(request, name) and not request.new_name:
            raise InputError(name, True, "is for a copy", "give its name with as, or leave it out")
    if request.transient and request.state == "restored":
        raise InputError("transient", True, "is nothing for a domain that is off", "set state to paused or running")
    if request.memory_limit and not request.isolated:
        raise InputError("memory_limit", request.memory_limit, "counts isolated copies only", "set isolated to true")
    if request.memory_limit and not parse_size(request.memory_limit):
        raise InputError("memory_limit", request.memory_limit, "is no size", "give one such as 16G")
    if request.memory_wait < 0:
        raise InputError("memory_wait", request.memory_wait, "is negative", "give seconds, or 0 not to wait")


def _check_origin(request: DomainRequest) -> None:
    origin = next((name for name in _USED if getattr(request, name)), "xml")
    for name in sorted(frozenset().union(*_USED.values()) - _USED[origin]):
        if getattr(request, name):
            raise InputError(name, getattr(request, name), f"means nothing with {origin}", "leave it out")
    if origin == "xml":
        check_given("xml", request.xml.strip().partition("\n")[0], "the content of domain.xml")
    if origin == "repository" and bool(request.domain_uuid) == bool(request.domain_name):
        remedy = "give exactly one of domain_uuid and domain_name"
        raise InputError("repository", request.repository, "holds many domains", remedy)
