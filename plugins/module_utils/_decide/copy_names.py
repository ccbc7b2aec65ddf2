# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Which paths a copy of a domain gets in the place of the original's own. Pure."""

from __future__ import annotations

import posixpath


def path_of_copy(path: str, old_name: str, new_name: str, old_uuid: str = "", new_uuid: str = "") -> str:
    """Return the path for a copy: the original's name and UUID replaced where they occur in it as a whole word.

    Where neither does, the new name is put before the extension, so that the two never share a file.
    """
    replaced = path
    for old, new in ((old_uuid, new_uuid), (old_name, new_name)):
        replaced = _replace_word(replaced, old, new) if old and new else replaced
    if replaced != path:
        return replaced
    folder, name = posixpath.split(path)
    stem, extension = posixpath.splitext(name)
    return posixpath.join(folder, f"{stem}-{new_name}{extension}")


def _replace_word(path: str, old: str, new: str) -> str:
    """Replace ``old`` where no letter or digit touches it: ``web`` is in ``web_VARS.fd`` and not in ``webmail``."""
    pieces: list[str] = []
    rest = path
    while True:
        before, found, after = rest.partition(old)
        if not found:
            return "".join([*pieces, before])
        whole = not (before[-1:].isalnum() or after[:1].isalnum())
        pieces += [before, new if whole else old]
        rest = after
