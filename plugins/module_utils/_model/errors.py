# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The one family of exceptions that a module turns into a failure.

Everything a user or an operator can meet is a :class:`BackupError` whose text is one sentence for a human.
What cannot happen is an ``AssertionError`` and stays a traceback.
"""

from __future__ import annotations

import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.text import shown


class BackupError(Exception):
    """A failure that is explained in one sentence, which is one line whatever the names in it hold.

    ``details`` travels into the module's result beside ``msg``; ``notes`` are failures met while cleaning up, which
    are told beside the first error and never instead of it.
    """

    def __init__(self, message: str, **details: t.Any) -> None:
        self.message = shown(message)
        super().__init__(self.message)
        self.details = details
        self.notes: list[str] = []

    def note(self, sentence: str) -> None:
        """Record what went wrong while cleaning up after this error."""
        self.notes.append(sentence)

    def as_result(self) -> dict[str, t.Any]:
        """Return the keys that ``fail_json`` gets."""
        message = self.message
        if self.notes:
            message = f"{message} While cleaning up: {' '.join(self.notes)}"
        return {"msg": message, **self.details}


class InputError(BackupError):
    """The user's fault: names the parameter, the value, what is wrong with it and what to do."""

    def __init__(self, parameter: str, value: object, problem: str, remedy: str) -> None:
        super().__init__(f"{parameter}: {value!r} {problem}; {remedy}.")
        self.parameter = parameter


class StateError(BackupError):
    """The world's fault: the object named in the sentence is not in a state that allows what was asked."""


class LibvirtFailure(BackupError):
    """An error of libvirt, with its code and text kept and what to do added.

    ``code`` is a ``virErrorNumber`` (https://libvirt.org/html/libvirt-virterror.html).
    """

    def __init__(self, action: str, code: int, text: str, remedy: str = "") -> None:
        sentence = f"{action} failed: libvirt error {code}: {text.rstrip('.')}."
        super().__init__(f"{sentence} {remedy}".rstrip(), libvirt_code=code, libvirt_message=text)
        self.code = code
        self.text = text


class ToolError(BackupError):
    """A program of QEMU's that we started did not succeed."""
