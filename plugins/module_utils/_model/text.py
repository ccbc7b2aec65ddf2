# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What a line of text is. No other place defines it."""

from __future__ import annotations

import unicodedata

# Control characters, line and paragraph separators, and surrogates: bytes that were never UTF-8.
_UNPRINTABLE = ("Cc", "Zl", "Zp", "Cs")

_LONGEST = 200


def is_printable(text: str) -> bool:
    """Whether the text is one line that can be shown, and stand in XML and JSON."""
    return all(map(_is_printable, text))


def _is_printable(character: str) -> bool:
    """Whether it may stand in a line of text; XML has no place for the last two code points of the basic plane."""
    return unicodedata.category(character) not in _UNPRINTABLE and character not in "\ufffe\uffff"


def shown(text: str) -> str:
    """Return the text as it is where it is one printable line, else with escapes in the place of what is not."""
    if is_printable(text):
        return text
    return "".join(one if _is_printable(one) else one.encode("unicode_escape").decode() for one in text)


def quoted(value: object) -> str:
    """Return a value that somebody else wrote as an error shows it: in quotes, and not all of it when it is long."""
    return brief(shown(repr(value)))


def brief(text: str) -> str:
    """Return as much of a text as has room in a sentence."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
