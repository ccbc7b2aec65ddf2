# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""What the use cases of a restore point share: errors of the file system as a sentence, the small files."""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import datetime
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import StoredFile
from ansible_collections.virt.backup.plugins.module_utils._store.files import chunks_of, digest_of, regular_size
from ansible_collections.virt.backup.plugins.module_utils._store.layout import checked_file_name, checked_path

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def utc_now() -> datetime.datetime:
    """Return the time, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc)


@contextlib.contextmanager
def world(what: str) -> Iterator[None]:
    """Turn an ``OSError`` into the sentence that says at what it happened."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StateError(f"{what}: {error.strerror or error}{where}; check space, rights and the mount.") from error


@dataclasses.dataclass(frozen=True)
class FileRequest:
    """A small file of the restore point: its content, or the path to read; neither when it is in the staging."""

    name: str
    content: bytes | None = None
    src: str | None = None

    def chunks(self, staging: str) -> Iterable[bytes]:
        """Yield the content, wherever it comes from."""
        if self.content is not None:
            return [self.content]
        return chunks_of(self.src or os.path.join(staging, self.name))

    def stored(self, staging: str) -> StoredFile:
        """Return what the manifest says about the file. Raises :class:`InputError` when there is nothing to read."""
        if self.content is None and regular_size(self.src or os.path.join(staging, self.name)) is None:
            where = self.src or "the staging directory"
            raise InputError(
                "files", self.name, f"is not to be found as a regular file in {where}", "give content or src"
            )
        size, digest = digest_of(self.chunks(staging))
        return StoredFile(self.name, size, digest)


def file_requests(items: Iterable[dict[str, t.Any]]) -> tuple[FileRequest, ...]:
    """Return the files from the module's parameter."""
    files: list[FileRequest] = []
    for item in items:
        name = checked_file_name("files", item["name"])
        if any(file.name == name for file in files):
            raise InputError("files", name, "is given twice", "give each file once")
        content, src = item.get("content"), item.get("src")
        if content is not None and src is not None:
            raise InputError("files", name, "has both content and src", "give one of them")
        raw = None if content is None else _bytes(name, content, item.get("encoding") or "text")
        files.append(FileRequest(name, raw, None if src is None else checked_path("files.src", src)))
    return tuple(files)


def _bytes(name: str, content: str, encoding: str) -> bytes:
    if encoding == "text":
        return content.encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        raise InputError(
            "files", name, "has content that is no base64", "give encoding text, or fix the content"
        ) from None
