# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a domain that comes back shall be, and what it needs of the host it comes to."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class NewDisk:
    """Where the content of a disk is now.

    ``name`` is the target name. ``source`` is an absolute path (``type`` ``file`` or ``block``), ``pool/volume``
    (``volume``), or a URI such as ``nbd+unix:///vda?socket=/run/a.sock`` (``network``). ``moves_to`` is the path or
    volume to which it is going to be copied while the domain runs, empty for a disk that stays.
    """

    name: str
    source: str
    type: str = "file"
    format: str = "qcow2"
    moves_to: str = ""


@dataclasses.dataclass(frozen=True)
class Identity:
    """Who a copy is. ``macs`` are those of its network cards, in the order of the XML."""

    name: str
    uuid: str
    macs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """What is to be changed in a stored definition. Empty texts and maps leave a thing as it was stored.

    ``copy`` is ``None`` for a domain that stays itself. ``emulator`` and ``secmodels`` (the security models there are)
    are the host's. ``choose_firmware`` lets libvirt look for a firmware anew, where the definition lets it.
    ``isolated`` cuts every tie of the copy but the one to ``network``.
    """

    copy: Identity | None = None
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
    emulator: str = ""
    secmodels: frozenset[str] | None = None
    choose_firmware: bool = False
    isolated: bool = False


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """The XML after a step. ``notes`` tell what was adapted; ``warnings`` what the domain lost by it."""

    xml: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Need:
    """Something that a part of the definition needs of the host.

    ``part`` is what would have to go without it: ``disk:vda``, ``interface:0``, ``hostdev:1``, or empty for what can't
    go. ``kind`` says what ``value`` is: a ``file`` (of any type), ``loader``, ``volume``, ``network``, ``link`` (an
    interface of the host), ``pci``, ``usb``, ``mdev``, ``secret``, ``emulated_tpm``; or ``never``, for what no host can
    fulfil.
    ``words`` begin the sentence that tells of it, ``group`` says who decides what happens then.
    """

    part: str
    kind: str
    value: str
    words: str
    group: str


# The groups of needs: the parameter that decides about them, or what else happens.
DISKS, NETWORKS, DEVICES = "missing_disks", "missing_networks", "missing_devices"
MEDIA = "eject"
RESTORED = "restored"
HOST = "host"


@dataclasses.dataclass(frozen=True)
class Lack:
    """A need that the host does not meet. ``later``: it hinders the start, and not the definition."""

    need: Need
    problem: str
    later: bool = False


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What follows from all lacks: sentences that forbid the restore, and the parts that go or lose their medium."""

    problems: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    eject: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Claim:
    """A place that a domain writes to: ``whose`` in words, such as ``disk vda``; ``kind`` is ``file`` or ``volume``."""

    kind: str
    value: str
    whose: str
