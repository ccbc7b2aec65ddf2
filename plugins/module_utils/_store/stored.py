# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The SHA-256 of every stored file: taken by several threads, kept in ``SHA256SUMS``, compared again.

The sums are plain ones, so that ``sha256sum -c SHA256SUMS`` does the same without us. The last line is a comment to
that program, and the sum of all lines above it to us: it tells a damaged list from a damaged file.
"""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import os
import re
import threading
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._store.files import chunks_of, digest_of, regular_size
from ansible_collections.virt.backup.plugins.module_utils._store.layout import MANIFEST, SUMS, is_plain_name

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import Manifest

    _Digest = Callable[[Iterable[bytes]], tuple[int, str]]

THREADS = 4
TICK = 10.0
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)")
_UNREADABLE = "unreadable: "
_LAST = "# sha256 of the lines above: "


class Damage(t.NamedTuple):
    """A file that is not what was stored, and a sentence of what is wrong with it."""

    name: str
    problem: str


def hash_files(
    paths: Sequence[str], tick: Callable[[], None] = lambda: None, *, digest: _Digest = digest_of
) -> dict[str, tuple[int, str]]:
    """Return length and digest of each file. ``tick`` is called every few seconds; an error of it ends all."""
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        futures = {path: pool.submit(digest, _until(stop, path)) for path in paths}
        waiting: set[concurrent.futures.Future[tuple[int, str]]] = set(futures.values())
        try:
            while waiting:
                waiting = concurrent.futures.wait(waiting, TICK, concurrent.futures.FIRST_EXCEPTION).not_done
                if waiting:
                    tick()
                for future in futures.values():
                    if future.done():
                        future.result()
        finally:
            stop.set()
    return {path: future.result() for path, future in futures.items()}


def _until(stop: threading.Event, path: str) -> Iterator[bytes]:
    for chunk in chunks_of(path):
        if stop.is_set():
            return
        yield chunk


def sums_bytes(digests: Mapping[str, str]) -> bytes:
    """Return the content of ``SHA256SUMS``. ``digests`` are by file name; a file without one is left out."""
    known = sorted((name, value) for name, value in digests.items() if value)
    lines = "".join(f"{value.partition(':')[2]}  {name}\n" for name, value in known)
    return f"{lines}{_LAST}{hashlib.sha256(lines.encode()).hexdigest()}\n".encode()


def read_sums(directory: str) -> dict[str, str] | None:
    """Return the digests by file name, or ``None`` when the list is missing or not as it was written."""
    path = os.path.join(directory, SUMS)
    if regular_size(path) is None:
        return None
    content = b"".join(chunks_of(path))
    found = [_LINE.fullmatch(line) for line in content.decode("utf-8", "replace").splitlines()]
    digests = {match[2]: f"sha256:{match[1]}" for match in found if match and is_plain_name(match[2])}
    return digests if sums_bytes(digests) == content else None


def _digest_or_complaint(chunks: Iterable[bytes]) -> tuple[int, str]:
    """Return length and digest, or in its place what a storage says that has lost the content."""
    try:
        return digest_of(chunks)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EUCLEAN):
            raise
        return 0, f"{_UNREADABLE}{error.strerror}"


def damaged_files(
    directory: str,
    manifest: Manifest | None,
    tick: Callable[[], None] = lambda: None,
    *,
    only: Callable[[str], bool] = lambda _name: True,
) -> list[Damage]:
    """Return which files of a restore point are missing or not as they were stored, the manifest included.

    ``SHA256SUMS`` is believed before the manifest, for it can tell whether it is whole. A restore point from before
    there was one is checked as far as its manifest tells; a file without a digest only for its length. Without a
    manifest, because it can't be read, the sums alone tell. ``only`` chooses by their names what is looked at.
    """
    stored = (*manifest.files, *manifest.stored) if manifest else ()
    sizes = {file.name: file.size for file in stored}
    sums = read_sums(directory)
    found = []
    if sums is None and (manifest is None or manifest.stored):
        found.append(Damage(SUMS, f"{SUMS} is missing or damaged."))
    digests = {**{file.name: file.digest for file in stored}, **(sums or {})}
    expected = {name: digest for name, digest in digests.items() if only(name)}
    present = [name for name in expected if regular_size(os.path.join(directory, name)) is not None]
    paths = {name: os.path.join(directory, name) for name in present if expected[name]}
    hashed = hash_files(list(paths.values()), tick, digest=_digest_or_complaint)
    for name, digest in sorted(expected.items()):
        if name not in present:
            found.append(Damage(name, f"{name} is missing."))
        elif digest and hashed[paths[name]][1].startswith(_UNREADABLE):
            found.append(Damage(name, f"{name} can't be read: {hashed[paths[name]][1][len(_UNREADABLE) :]}."))
        elif digest and hashed[paths[name]][1] != digest:
            found.append(Damage(name, f"{name} is not the file that was stored: its SHA-256 differs."))
        elif not digest and regular_size(os.path.join(directory, name)) != sizes[name]:
            found.append(Damage(name, f"{name} does not have the {sizes[name]} bytes that were stored."))
    if sums is not None and MANIFEST not in sums:
        found.append(Damage(SUMS, f"{SUMS} does not list the manifest."))
    return found
