# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Reading JSON with types: a field of the wrong type is an error that names file and field, never a guess."""

from __future__ import annotations

import datetime
import enum
import math
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import StateError
from ansible_collections.virt.backup.plugins.module_utils._model.text import is_printable, quoted

_MISSING: t.Any = object()

LARGEST = 2**63 - 1
"""What no size, count or number of seconds exceeds."""


Kind = t.TypeVar("Kind", bound=enum.Enum)


class BadFile(StateError):
    """A file of the repository is there, but doesn't say what it has to say."""


class NewerFormat(StateError):
    """A file of the repository was written by a newer release; nothing is guessed and nothing is changed."""


class Fields:
    """One JSON object, read field by field; ``where`` is how an error names it."""

    def __init__(self, data: t.Any, where: str) -> None:
        if not isinstance(data, dict):
            raise BadFile(f"{where} is no JSON object.")
        self._data: dict[str, t.Any] = data
        self._where = where

    def _get(self, name: str, kinds: tuple[type, ...], default: t.Any) -> t.Any:
        value = self._data.get(name, default)
        if value is _MISSING:
            raise BadFile(f"{self._where} has no '{name}'.")
        if value is default:
            return value
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise BadFile(f"{self._where}: '{name}' has the wrong type ({type(value).__name__}).")
        return value

    def bad(self, name: str, problem: str) -> BadFile:
        """Return the error of a field that says what it can't say."""
        return BadFile(f"{self._where}: '{name}' {problem}.")

    def text(self, name: str, default: str = _MISSING) -> str:
        """Return a string of one line: nothing else is ever written, and what is read here is shown to people."""
        value = str(self._get(name, (str,), default))
        if not is_printable(value):
            raise self.bad(name, f"holds a newline or another control character ({quoted(value)})")
        return value

    def choice(self, name: str, kind: type[Kind], default: str = _MISSING) -> Kind:
        """Return a member of an enumeration by its value."""
        value = self.text(name, default)
        try:
            return kind(value)
        except ValueError:
            raise self.bad(name, f"is unknown ({quoted(value)})") from None

    def integer(self, name: str, default: int = _MISSING) -> int:
        """Return a whole number that is not negative."""
        value = int(self._get(name, (int,), default))
        if not 0 <= value <= LARGEST:
            raise self.bad(name, "is out of range")
        return value

    def number(self, name: str, default: float = _MISSING) -> float:
        """Return a number that is not negative."""
        value = self._get(name, (int, float), default)
        if not (0 <= value <= LARGEST and math.isfinite(value)):
            raise self.bad(name, "is out of range")
        return float(value)

    def flag(self, name: str, default: bool = _MISSING) -> bool:
        """Return a boolean."""
        return bool(self._get(name, (bool,), default))

    def moment(self, name: str) -> datetime.datetime:
        """Return a time; without an offset in it, it is UTC."""
        value = self.text(name)
        moment = parse_moment(value)
        if moment is None:
            raise self.bad(name, f"is no time ({quoted(value)})")
        return moment

    def nested(self, name: str) -> Fields:
        """Return an object inside this one; a missing one is empty."""
        return Fields(self._data.get(name, {}), f"{self._where}: '{name}'")

    def each(self, name: str) -> list[Fields]:
        """Return the objects of a list; a missing list is empty."""
        return [Fields(item, f"{self._where}: '{name}[{index}]'") for index, item in enumerate(self._list(name))]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings; a missing list is empty."""
        found = self._list(name)
        if not all(isinstance(item, str) and is_printable(item) for item in found):
            raise self.bad(name, "is no list of strings of one line")
        return tuple(found)

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """Return an object whose values are strings as sorted pairs."""
        found = self._get(name, (dict,), {})
        if not all(isinstance(text, str) and is_printable(text) for pair in found.items() for text in pair):
            raise self.bad(name, "has a value that is no string of one line")
        return tuple(sorted(found.items()))

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._data.get(name) is not None

    def _list(self, name: str) -> list[t.Any]:
        return list(self._get(name, (list,), []))

    def check_format(self, newest: int) -> int:
        """Return the file's format; raise :class:`NewerFormat` when this release doesn't know it."""
        version = self.integer("format")
        if version > newest:
            raise NewerFormat(
                f"{self._where} has format {version}, which a newer release of virt.backup wrote "
                f"(this one knows up to {newest}); upgrade the collection."
            )
        if version == 0:
            raise BadFile(f"{self._where} has format {version}, which never existed.")
        return version


def parse_moment(value: str) -> datetime.datetime | None:
    """Return an ISO 8601 time as an aware one in UTC, or ``None``. Python before 3.11 doesn't read a trailing Z."""
    try:
        moment = datetime.datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.timezone.utc)
        return moment.astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError):  # the second is for a time that UTC would put before year 1 or after 9999
        return None


def show_moment(moment: datetime.datetime) -> str:
    """Return a time as the repository writes it: UTC, ISO 8601, with a Z."""
    return moment.astimezone(datetime.timezone.utc).replace(tzinfo=None).isoformat() + "Z"
