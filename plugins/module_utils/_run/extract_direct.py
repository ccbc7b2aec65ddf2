# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Whether an image can be written past the page cache: what speaks against it, and what its file system says."""

from __future__ import annotations

import errno
import os
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._copy.direct_file import explained
from ansible_collections.virt.backup.plugins.module_utils._model.encryption import NONE
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._model.place import Place

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest


def check_direct(direct: bool, images: Sequence[ImageRequest]) -> None:
    """Refuse ``direct`` where others write: QEMU an encrypted image, a server its export."""
    if not direct:
        return
    for image in images:
        if image.encryption != NONE:
            problem = "can't be used together with encryption: QEMU writes these images, buffered"
            raise InputError("direct", direct, problem, "use false, or no encryption")
        if image.place is Place.SERVER:
            problem = f"can't be used for {image.dest!r}, whose server decides how it writes"
            raise InputError("direct", direct, problem, "use false, or a file or block device as dest")


def check_file_system(image: ImageRequest) -> None:
    """Refuse a folder whose file system has no direct writes; asked by a file that never gets a name.

    Where there are no such files, or none may be made, the image itself is asked, before anything is copied.
    """
    if image.place is not Place.FILE:
        return
    folder = os.path.dirname(image.dest)
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise explained(error, folder) from error
