# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Let a machine from a backup go, wait until it lives, ask it what its owner wants to know, and take its picture.

A domain that waits with its processors stopped is let go here, so that no line of its console is missed and the time
counts from its first instruction.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import threading
import time
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.drill import check_drill, why_failed
from ansible_collections.virt.backup.plugins.module_utils._libvirt import connect
from ansible_collections.virt.backup.plugins.module_utils._model.drill import Answer
from ansible_collections.virt.backup.plugins.module_utils._model.errors import (
    BackupError,
    InputError,
    LibvirtFailure,
    StateError,
)
from ansible_collections.virt.backup.plugins.module_utils._model.libvirt_error import NO_DOMAIN
from ansible_collections.virt.backup.plugins.module_utils._model.outcome import Outcome
from ansible_collections.virt.backup.plugins.module_utils._run.domain_remove import unlink
from ansible_collections.virt.backup.plugins.module_utils._run.restore_point_files import world

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._libvirt import DomainHandle
    from ansible_collections.virt.backup.plugins.module_utils._model.drill import Check, DrillRequest

_LOOK_SECONDS = 0.5
_AGENT_SECONDS = 5
"""What one question to the agent may take; a guest that boots has none yet."""
_OPEN_SECONDS = 10
"""What opening the console may take; the machine is let go after that."""
_TAIL = 2000
"""Characters of the console, and of each answer, that the result keeps."""
_KEPT = 1 << 22
"""Bytes of the console that are searched."""
_ENDINGS = {"image/png": ".png"}
"""By media type; QEMU's older form is a portable pixmap."""


class Console:
    """What the serial console has said so far."""

    def __init__(self, handle: DomainHandle) -> None:
        self._heard = bytearray()
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self.problem = ""
        threading.Thread(target=self._listen, args=(handle.uri, handle.uuid), daemon=True).start()
        self._ready.wait(_OPEN_SECONDS)

    def _listen(self, uri: str, uuid: str) -> None:
        try:
            with connect(uri) as hypervisor:
                hypervisor.domain(uuid).read_console(self._ready.set, self._hear)
        except BackupError as error:
            self.problem = error.message
        self._ready.set()

    def _hear(self, data: bytes) -> None:
        with self._lock:
            self._heard += data
            del self._heard[:-_KEPT]

    def text(self) -> str:
        """Return it as text."""
        with self._lock:
            return _lines(bytes(self._heard))


def _lines(data: bytes) -> str:
    """Return the text with line ends that a regular expression knows."""
    return data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def drill(request: DrillRequest, *, check: bool) -> Outcome:
    """Wait for the machine and run the checks; a machine that does not live, or a check that fails, is a result.

    :raises InputError: the wish can't be meant.
    :raises StateError: the domain is off.
    """
    check_drill(request)
    if request.screenshot and not os.path.isdir(os.path.dirname(request.screenshot)):
        raise InputError("screenshot", request.screenshot, "is in no directory that exists", "make the directory")
    with connect(request.uri) as hypervisor:
        handle = hypervisor.domain(request.domain)
        if check:
            return Outcome(False, _result("", 0.0, [], "", ""))
        if not handle.is_active():
            raise StateError(f"domain: '{handle.name}' is off; a drill needs it started, paused is best.")
        console = Console(handle)
        began = time.monotonic()
        if handle.state() == "paused":
            handle.resume()
        problem = _wait(handle, request, console, began)
        seconds = time.monotonic() - began
        answers = [] if problem else [_ask(handle, entry, request.check_timeout) for entry in request.checks]
        picture = _picture(handle, request.screenshot)
        return Outcome(True, _result(problem, seconds, answers, console.text()[-_TAIL:], picture))


def _result(
    problem: str, seconds: float, checks: list[dict[str, t.Any]], console: str, screenshot: str
) -> dict[str, t.Any]:
    failed = [f"{entry['name']}: {entry['reason']}" for entry in checks if not entry["passed"]]
    return {
        "alive": not problem,
        "problem": problem or "; ".join(failed),
        "seconds": round(seconds, 1),
        "checks": checks,
        "passed": not problem and not failed,
        "console": console,
        "screenshot": screenshot,
    }


def _wait(handle: DomainHandle, request: DrillRequest, console: Console, began: float) -> str:
    """Return why the machine does not live within its time, empty when it does."""
    agent, line = not request.agent, not request.console
    while True:
        line = line or bool(re.search(request.console, console.text(), re.MULTILINE))
        agent = agent or (line and _agent_answers(handle))
        if agent and line:
            return ""
        if not _is_on(handle):
            return "the machine went off while it was waited for"
        if console.problem and not line:
            return console.problem
        if time.monotonic() - began >= request.timeout:
            missing = f"no line of the console matched {request.console!r}" if not line else "its agent did not answer"
            return f"{missing} within {request.timeout:g} seconds"
        time.sleep(_LOOK_SECONDS)


def _is_on(handle: DomainHandle) -> bool:
    """Whether it runs; libvirt forgets a transient one that does not."""
    try:
        return handle.is_active()
    except LibvirtFailure as failure:
        if failure.code == NO_DOMAIN:
            return False
        raise


def _agent_answers(handle: DomainHandle) -> bool:
    with contextlib.suppress(LibvirtFailure):
        handle.agent("guest-ping", {}, _AGENT_SECONDS)
        return True
    return False


def _ask(handle: DomainHandle, entry: Check, seconds: float) -> dict[str, t.Any]:
    began = time.monotonic()
    answer = _run(handle, entry, seconds)
    why = why_failed(entry, answer)
    return {
        "name": entry.name,
        "passed": not why,
        "reason": why,
        "rc": answer.rc,
        "stdout": answer.stdout[:_TAIL],
        "seconds": round(time.monotonic() - began, 1),
    }


def _run(handle: DomainHandle, entry: Check, seconds: float) -> Answer:
    program, *arguments = entry.command
    order = {"path": program, "arg": arguments, "capture-output": True}
    until = time.monotonic() + seconds
    try:
        pid = handle.agent("guest-exec", order, _AGENT_SECONDS)["pid"]
        while True:
            status = handle.agent("guest-exec-status", {"pid": pid}, _AGENT_SECONDS)
            if status["exited"]:
                break
            if time.monotonic() >= until:
                return Answer(problem=f"it did not end within {seconds:g} seconds")
            time.sleep(_LOOK_SECONDS)
    except BackupError as error:
        return Answer(problem=error.message)
    if "signal" in status:
        return Answer(problem=f"it was ended by signal {status['signal']}")
    return Answer(int(status.get("exitcode", -1)), _text(status, "out-data"), _text(status, "err-data"))


def _text(status: dict[str, t.Any], key: str) -> str:
    return _lines(base64.b64decode(status.get(key, "")))


def _picture(handle: DomainHandle, path: str) -> str:
    """Take a picture, if one is wanted and there is a screen; return where it is. What it shows is root's alone."""
    if not path or not _is_on(handle):
        return ""
    part = f"{path}.part"
    with world(f"screenshot {path}"), contextlib.ExitStack() as stack:
        stack.callback(unlink, part)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            try:
                kind = handle.screenshot(file)
            except LibvirtFailure:
                return ""
        whole = path + _ENDINGS.get(kind, ".ppm")
        os.replace(part, whole)
        return whole
