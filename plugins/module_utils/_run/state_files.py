# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Look for what a domain keeps beside its disks: the files that a restore point holds, or why it can't hold them."""

from __future__ import annotations

import dataclasses
import os
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.state_place import (
    NVRAM_NAME,
    TPM_FILE_NAME,
    is_lasting,
    tpm_place,
    why_no_nvram,
    why_no_tpm,
    why_not_all_of_tpm,
)
from ansible_collections.virt.backup.plugins.module_utils._model.state_file import StateFile

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
    from ansible_collections.virt.backup.plugins.module_utils._model.state_file import Nvram, Tpm

_ELSEWHERE = "is on another machine than this task: run it on the hypervisor"


def state_files(domain: Domain, *, local: bool) -> tuple[StateFile, ...]:
    """Return the files, the NVRAM first. ``local`` says whether this machine is the hypervisor."""
    found = [*_nvram(domain.nvram), *_tpm(domain.tpm, domain.uuid)]
    return tuple(file if not file.path else _looked_at(file, local=local) for file in found)


def _nvram(nvram: Nvram | None) -> Iterator[StateFile]:
    if nvram is None:
        return
    reason = why_no_nvram(nvram)
    yield StateFile("nvram", reason=reason) if reason else StateFile("nvram", NVRAM_NAME, nvram.path)


def _tpm(tpm: Tpm | None, uuid: str) -> Iterator[StateFile]:
    if tpm is None:
        return
    reason = why_no_tpm(tpm)
    if reason:
        yield StateFile("tpm", reason=reason)
        return
    place = tpm_place(tpm, uuid)
    if tpm.source_type == "file":
        yield StateFile("tpm", TPM_FILE_NAME, place)
    else:
        # Without a name that is known, the directory itself stands for what is missing in it.
        names = _lasting_names(place) or [""]
        yield from (StateFile("tpm", name, os.path.join(place, name)) for name in names)
    reason = why_not_all_of_tpm(tpm)
    if reason:
        yield StateFile("tpm", reason=reason)


def _lasting_names(directory: str) -> list[str]:
    try:
        return sorted(filter(is_lasting, os.listdir(directory)))
    except OSError:
        return []


def _looked_at(file: StateFile, *, local: bool) -> StateFile:
    """Return the file as it is, or the reason why it can't be kept. A symbolic link is refused as no file of ours."""
    problem = _problem(file) if local else _ELSEWHERE
    if not problem:
        return file
    what = "the NVRAM" if file.part == "nvram" else "the state of the emulated TPM"
    required = file.part == "nvram"
    return dataclasses.replace(file, name="", path="", reason=f"{what}, {file.path}, {problem}", required=required)


def _problem(file: StateFile) -> str:
    if not file.name:
        return "holds no state that this user can read"
    try:
        mode = os.lstat(file.path).st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if stat.S_ISREG(mode) else "is not a regular file"
