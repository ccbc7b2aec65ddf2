# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Freeze the guest around the begin of a job. Whatever happens in between, the guest thaws."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, StateError
from ansible_collections.virt.backup.plugins.module_utils._watchdog import ThawWatchdog

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle
    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain

# Longer than a freeze and a begin may take: a freeze is given up after a minute, and a begin that waits for another job
# after half of one. A guest that is frozen for so long has lost us.
_WATCHDOG_SECONDS = 120.0


@dataclasses.dataclass
class Freeze:
    """What came of the wish to freeze; filled in while the context runs."""

    quiesced: bool = False
    seconds: float = 0.0
    warnings: list[str] = dataclasses.field(default_factory=list)


def foresee_freeze(domain: Domain, wish: str) -> list[str]:
    """Return in words why the wish to freeze will not come true, empty when it may.

    :raises StateError: it is required, and the domain has no connected guest agent or is paused.
    """
    obstacle, remedy = _obstacle(domain)
    if wish == "never" or not obstacle:
        return []
    if wish == "require":
        raise StateError(f"quiesce: require cannot be met: {obstacle}; {remedy} or use quiesce: try.")
    return [f"Not frozen: {obstacle}; the backup is crash-consistent."]


def _obstacle(domain: Domain) -> tuple[str, str]:
    """Return what keeps the guest from freezing, and what to do about it; two empty texts when nothing is known to."""
    if not domain.agent_connected:
        sentence = f"domain '{domain.name}' has no connected guest agent (channel org.qemu.guest_agent.0)"
        return sentence, "start qemu-guest-agent in it"
    if domain.paused:
        # libvirt refuses to freeze it ("domain is not running") and to thaw it, so the watchdog would stay behind.
        return f"domain '{domain.name}' is paused", "resume it"
    return "", ""


@contextlib.contextmanager
def frozen(handle: DomainHandle, wish: str, domain: Domain) -> Iterator[Freeze]:
    """Hold the guest frozen (``never``, ``try`` or ``require``) while the body runs.

    The thaw follows a freeze that failed as well: it may have frozen and only its answer got lost. A watchdog process,
    armed before the freeze, thaws when this process is killed.
    """
    outcome = Freeze(warnings=foresee_freeze(domain, wish))
    if wish == "never" or outcome.warnings:
        yield outcome
        return
    watchdog = _armed(handle, wish, outcome)
    if watchdog is None:
        yield outcome
        return
    began = time.monotonic()
    try:
        _freeze(handle, wish, outcome)
        yield outcome
        if outcome.quiesced and watchdog.has_acted():
            _thawed_too_early(wish, outcome, time.monotonic() - began)
    finally:
        _thaw(handle, watchdog, outcome)
        if outcome.quiesced:
            outcome.seconds = round(time.monotonic() - began, 3)


def _thawed_too_early(wish: str, outcome: Freeze, took: float) -> None:
    """Take back that the moment was frozen: what was to begin in the freeze took longer than a guest is kept waiting.

    :raises StateError: it was required.
    """
    outcome.quiesced, outcome.seconds = False, _WATCHDOG_SECONDS
    problem = f"the guest was thawed after {_WATCHDOG_SECONDS:.0f} seconds, and the begin took {took:.0f}"
    if wish == "require":
        remedy = "look at what keeps libvirt busy, or use quiesce: try"
        raise StateError(f"quiesce: require was not met: {problem}; {remedy}.")
    outcome.warnings.append(f"Not frozen in the moment of the backup: {problem}; the backup is crash-consistent.")


def _armed(handle: DomainHandle, wish: str, outcome: Freeze) -> ThawWatchdog | None:
    """Return the watchdog, or ``None`` when it cannot be had and the wish was only to try."""
    try:
        return ThawWatchdog(handle.uri, handle.uuid, _WATCHDOG_SECONDS)
    except BackupError as error:
        if wish == "require":
            raise
        outcome.warnings.append(f"The backup is crash-consistent: {error.message}")
        return None


def _freeze(handle: DomainHandle, wish: str, outcome: Freeze) -> None:
    try:
        handle.freeze()
    except BackupError as error:
        if wish == "require":
            raise
        outcome.warnings.append(f"Not frozen, the backup is crash-consistent: {error.message}")
    else:
        outcome.quiesced = True


def _thaw(handle: DomainHandle, watchdog: ThawWatchdog, outcome: Freeze) -> None:
    try:
        handle.thaw()
    except BackupError as error:
        watchdog.take_over()
        if outcome.quiesced:
            outcome.warnings.append(f"{error.message} A watchdog goes on trying for five minutes; look at the guest.")
    else:
        watchdog.thawed()
