# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Look at the host that a domain comes to: what it lacks, and which places and names other domains have."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.definition import RESTORED, Claim, Lack
from ansible_collections.virt.backup.plugins.module_utils._model.errors import LibvirtFailure
from ansible_collections.virt.backup.plugins.module_utils._model.libvirt_error import NO_DOMAIN
from ansible_collections.virt.backup.plugins.module_utils._run.observe import QCOW2_MAGIC
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_isolated import bridge_of, leads_out, lines_of
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_needs import holds_of, macs_of, writes_of
from ansible_collections.virt.backup.plugins.module_utils._xml.definition_record import read_record

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle, Hypervisor
    from ansible_collections.virt.backup.plugins.module_utils._model.definition import Need, NewDisk
    from ansible_collections.virt.backup.plugins.module_utils._model.host import Abilities

_LINKS, _PCI, _USB, _MDEV = (
    "/sys/class/net",
    "/sys/bus/pci/devices",
    "/sys/bus/usb/devices",
    "/sys/bus/mdev/devices",
)


class Inspector:
    """Answers whether the host has what a definition needs. ``foresee``: what will be restored need not be there yet.

    A host that is not this machine is asked only what libvirt can tell.
    """

    def __init__(self, hypervisor: Hypervisor, abilities: Abilities, *, foresee: bool) -> None:
        self._hypervisor, self._abilities, self._foresee = hypervisor, abilities, foresee
        self._looks: dict[str, t.Callable[[Need], Lack | None]] = {
            "emulated_tpm": self._emulated_tpm,
            "file": self._file,
            "link": self._link,
            "loader": self._loader,
            "mdev": self._mdev,
            "network": self._network,
            "pci": self._pci,
            "secret": self._secret,
            "usb": self._usb,
            "volume": self._volume,
        }

    def lacks(self, needs: Iterable[Need]) -> list[Lack]:
        """Return the needs that are not met, each with the reason."""
        return [lack for need in needs if (lack := self._lack(need)) is not None]

    def _lack(self, need: Need) -> Lack | None:
        if need.kind == "never":
            return Lack(need, "")
        if self._foresee and need.group == RESTORED:
            return None
        return self._looks[need.kind](need)

    @functools.cached_property
    def _networks(self) -> dict[str, bool]:
        return self._hypervisor.networks()

    @functools.cached_property
    def _pools(self) -> dict[str, bool]:
        return self._hypervisor.pools()

    def _network(self, need: Need) -> Lack | None:
        return _listed(need, "network", self._networks, need.value)

    def _volume(self, need: Need) -> Lack | None:
        pool, _slash, volume = need.value.partition("/")
        lack = _listed(need, "storage pool", self._pools, pool)
        if lack is not None or self._hypervisor.volume_path(pool, volume):
            return lack
        return Lack(need, f"storage pool {pool} has no volume {volume}")

    def _file(self, need: Need) -> Lack | None:
        return self._path(need, need.value, f"{need.value} is not there")

    def _loader(self, need: Need) -> Lack | None:
        known = ", ".join(self._abilities.loaders)
        hint = f" (this host has: {known}; set loader)" if known else ""
        return self._path(need, need.value, f"firmware {need.value} is not there{hint}")

    def _link(self, need: Need) -> Lack | None:
        return self._path(need, f"{_LINKS}/{need.value}", f"this host has no interface or bridge {need.value}")

    def _pci(self, need: Need) -> Lack | None:
        return self._path(need, f"{_PCI}/{need.value}", f"this host has none at {need.value}")

    def _mdev(self, need: Need) -> Lack | None:
        return self._path(need, f"{_MDEV}/{need.value}", f"this host has no mediated device {need.value}")

    def _path(self, need: Need, path: str, problem: str) -> Lack | None:
        return Lack(need, problem) if self._hypervisor.is_local and not os.path.exists(path) else None

    def _usb(self, need: Need) -> Lack | None:
        if not self._hypervisor.is_local or need.value in _usb_ids():
            return None
        return Lack(need, f"no USB device {need.value} is plugged in")

    def _secret(self, need: Need) -> Lack | None:
        if self._hypervisor.has_secret(need.value):
            return None
        return Lack(need, f"this host's libvirt has no secret {need.value} (virsh secret-define)")

    def _emulated_tpm(self, need: Need) -> Lack | None:
        known = self._abilities.tpm
        return None if known is None or "emulator" in known else Lack(need, "this host has no swtpm; install it")


def wrong_formats(disks: Iterable[NewDisk]) -> list[str]:
    """Return which of the restored files that are there are no qcow2 images although they should be."""
    return [
        f"disk {disk.name}: {disk.source} is no {disk.format} image; restore it as one, or set its format"
        for disk in disks
        if disk.format == "qcow2" and disk.type in ("file", "block") and _head(disk.source) not in (QCOW2_MAGIC, None)
    ]


def _head(path: str) -> bytes | None:
    try:
        with open(path, "rb") as image:
            return image.read(len(QCOW2_MAGIC))
    except OSError:
        return None


def _listed(need: Need, what: str, known: dict[str, bool], name: str) -> Lack | None:
    """Look a name up in what libvirt lists; one that is only not active hinders no definition."""
    if name not in known:
        return Lack(need, f"this host has no {what} {name} (it has: {', '.join(sorted(known)) or 'none'})")
    return None if known[name] else Lack(need, f"{what} {name} is not active; start it", later=True)


def _usb_ids() -> set[str]:
    """Return the plugged devices as ``vendor:product``."""
    found = set()
    for name in os.listdir(_USB) if os.path.isdir(_USB) else ():
        with contextlib.suppress(OSError):
            found.add(":".join(_line(f"{_USB}/{name}/{part}") for part in ("idVendor", "idProduct")))
    return found


def _line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline().strip()


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """Another domain: what it is called, the places it uses, the MAC addresses it has and the networks it is on.

    ``isolated`` is the copy of a drill.
    """

    name: str
    uuid: str
    holds: tuple[Claim, ...]
    macs: frozenset[str]
    lines: frozenset[str]
    isolated: bool


def neighbours(hypervisor: Hypervisor) -> list[Neighbour]:
    """Return all domains of the host, running or not, each as it runs and as it is defined."""
    return [found for handle in hypervisor.domains() if (found := _neighbour(handle)) is not None]


def _neighbour(handle: DomainHandle) -> Neighbour | None:
    try:
        texts = [handle.xml(), *([handle.definition(secure=False)] if handle.is_persistent() else [])]
    except LibvirtFailure as failure:
        if failure.code == NO_DOMAIN:
            return None  # it ended while we looked
        raise
    holds = tuple(dict.fromkeys(claim for text in texts for claim in holds_of(text)))
    return Neighbour(
        name=handle.name,
        uuid=handle.uuid,
        holds=holds,
        macs=frozenset(mac for text in texts for mac in macs_of(text)),
        lines=frozenset().union(*(lines_of(text) for text in texts)),
        isolated=any(record is not None and record.isolated for record in map(read_record, texts)),
    )


def ways_out(hypervisor: Hypervisor, network: str, others: Iterable[Neighbour]) -> list[str]:
    """Return why a network would not keep an isolated copy apart, a sentence each; one that there is not has none."""
    xml = hypervisor.network_xml(network) if network else ""
    if not xml:
        return []
    mode, found = leads_out(xml), []
    if mode:
        found.append(f"network {network} leads out of the host (forward mode {mode}); give one without a forward mode")
    names = {network, bridge_of(xml)} - {""}
    found += [
        f"network {network} is that of domain '{other.name}' too; give one that only drills are on"
        for other in others
        if not other.isolated and names & other.lines
    ]
    return found


def clashes(hypervisor: Hypervisor, xml: str, others: Iterable[Neighbour]) -> list[str]:
    """Return the places that the domain would write to while another domain uses them, a sentence each."""
    used = {
        _place(hypervisor, claim): f"domain '{other.name}' ({claim.whose})" for other in others for claim in other.holds
    }
    found = []
    for claim in writes_of(xml):
        whose = used.get(_place(hypervisor, claim), "")
        if whose:
            found.append(f"{claim.whose}: {claim.value} is used by {whose}; restore it to another place")
    return found


def users_of(hypervisor: Hypervisor, path: str) -> list[tuple[Neighbour, Claim]]:
    """Return which domains have a file or device, under any name, running or not, and what it is there."""
    place = _place(hypervisor, Claim("file", path, ""))
    found = [(other, claim) for other in neighbours(hypervisor) for claim in other.holds]
    return [(other, claim) for other, claim in found if _place(hypervisor, claim) == place]


def _place(hypervisor: Hypervisor, claim: Claim) -> str:
    """Return what is the same for two names of one place: the file or device behind it, where one is."""
    path = claim.value
    if claim.kind == "volume":
        pool, _slash, volume = claim.value.partition("/")
        path = hypervisor.volume_path(pool, volume) or claim.value
    if not hypervisor.is_local:
        return path
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return f"device {found.st_rdev}" if stat.S_ISBLK(found.st_mode) else f"file {found.st_dev}:{found.st_ino}"
