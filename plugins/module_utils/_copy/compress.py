# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Compression of single clusters, in the two forms that qcow2 knows.

zlib is Python's own. zstd is the C library, called through ctypes: Python has no module for it before 3.14, and the
library itself is on every machine that has QEMU or systemd.
"""

from __future__ import annotations

import ctypes
import threading
import typing as t
import weakref
import zlib

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.extent import CLUSTER

if t.TYPE_CHECKING:
    from collections.abc import Callable

    Compress = Callable[[memoryview], t.Optional[bytes]]

ZSTD_LIBRARY = "libzstd.so.1"
ZSTD_LEVEL = 2
ZLIB_LEVEL = 4
"""Where the next level costs far more time than it saves room. The figures are in ``docs/internals/extract.md``."""

_ZLIB_WINDOW = -12
"""A raw deflate stream with a window of 4 KiB: what QEMU's reader is set up for."""


def compressor(kind: str) -> Compress | None:
    """Return the function that compresses one cluster, or ``None`` for ``none``.

    That function returns ``None`` where the cluster would not become smaller. Safe for threads.
    """
    if kind == "none":
        return None
    return _zlib if kind == "zlib" else _zstd()


def _zlib(cluster: memoryview) -> bytes | None:
    stream = zlib.compressobj(ZLIB_LEVEL, zlib.DEFLATED, _ZLIB_WINDOW)
    packed = stream.compress(cluster) + stream.flush()
    return packed if len(packed) < len(cluster) else None


def _zstd() -> Compress:
    try:
        library = ctypes.CDLL(ZSTD_LIBRARY)
    except OSError as error:
        problem = f"needs {ZSTD_LIBRARY}, which this machine lacks"
        remedy = "install libzstd1 (Debian) or libzstd (RHEL), or use zlib or none"
        raise InputError("compression", "zstd", problem, remedy) from error
    library.ZSTD_createCCtx.restype = ctypes.c_void_p
    library.ZSTD_freeCCtx.argtypes = (ctypes.c_void_p,)
    function = library.ZSTD_compressCCtx
    function.restype = ctypes.c_size_t
    piece = (ctypes.c_void_p, ctypes.c_size_t)
    function.argtypes = (ctypes.c_void_p, *piece, *piece, ctypes.c_int)
    local = threading.local()

    def compress(cluster: memoryview) -> bytes | None:
        if not hasattr(local, "workspace"):
            local.workspace = _Workspace(library)
        # One byte less than a cluster: what does not fit is an error code, a number far beyond any length.
        most = len(cluster) - 1
        workspace = local.workspace
        if len(workspace.packed) < most:
            workspace.packed = ctypes.create_string_buffer(most)
        source = (ctypes.c_char * len(cluster)).from_buffer(cluster)
        length = function(workspace.context, workspace.packed, most, source, len(cluster), ZSTD_LEVEL)
        return ctypes.string_at(workspace.packed, length) if length <= most else None

    return compress


class _Workspace:
    """What one thread compresses in, from cluster to cluster: to make it anew each time costs a tenth of the time."""

    def __init__(self, library: t.Any) -> None:
        self.context = library.ZSTD_createCCtx()
        self.packed: ctypes.Array[ctypes.c_char] = ctypes.create_string_buffer(CLUSTER - 1)
        self._free = weakref.finalize(self, library.ZSTD_freeCCtx, self.context)
