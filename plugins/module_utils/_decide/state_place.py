# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Where a domain's state beside its disks is, and what of it a restore point cannot hold. Pure.

Sources: https://libvirt.org/formatdomain.html (TPM device; NVRAM), ``qemuTPMEmulatorStorageBuildPath`` of libvirt 9.0,
and ``swtpm_nvstore_dir.c`` of swtpm 0.7, which writes ``TMP2-00.permall`` whole and renames it to ``tpm2-00.permall``.
"""

from __future__ import annotations

import posixpath
import re
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.virt.backup.plugins.module_utils._model.state_file import Nvram, Tpm

NVRAM_NAME = "nvram"
TPM_FILE_NAME = "tpm.state"

_PLACE = "/var/lib/libvirt/swtpm"
_FOLDERS = {"1.2": "tpm1.2", "2.0": "tpm2"}

# What outlives the power. The volatile state is a running machine's, like its memory, which no restore point holds.
_LASTING = re.compile(r"tpm2?-[0-9a-f]{2}\.permall\Z")


def why_no_nvram(nvram: Nvram) -> str:
    """Return why the NVRAM is no file that could be read, or empty."""
    if nvram.kind == "file":
        return ""
    what = f"the NVRAM is a source of type {nvram.kind} ({nvram.path})"
    return f"{what} and not in the restore point: save it by other means"


def why_no_tpm(tpm: Tpm) -> str:
    """Return why the TPM has no file that could be read, or empty."""
    if tpm.backend == "emulator":
        return ""
    whose = "the host's own chip" if tpm.backend == "passthrough" else "emulated outside of libvirt"
    return f"the TPM is {whose} ({tpm.backend}): what the guest sealed with it is not in the restore point"


def why_not_all_of_tpm(tpm: Tpm) -> str:
    """Return what the files of an emulated TPM need to be of use, or empty."""
    if not tpm.secret:
        return ""
    return (
        f"the TPM's state is encrypted with libvirt's secret {tpm.secret}, which is not in the restore point: keep it"
    )


def tpm_place(tpm: Tpm, uuid: str) -> str:
    """Return the directory (or, for a source of type file, the file) that holds an emulated TPM's state."""
    return tpm.source or posixpath.join(_PLACE, uuid, _FOLDERS.get(tpm.version, "tpm2"))


def is_lasting(name: str) -> bool:
    """Whether a file of that name in the directory holds what the TPM keeps without power."""
    return _LASTING.match(name) is not None
