# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""Put a domain's NVRAM and TPM state in their place, so that it can be taken back as long as the rest is not done.

Each file is written beside its place, synced and renamed. What it replaces is kept under another name until all is
well. Owner and mode of a new file are root's, 0600: libvirt gives it to the machine's user at every start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import stat
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._decide.state_place import (
    NVRAM_NAME,
    TPM_FILE_NAME,
    tpm_place,
)
from ansible_collections.virt.backup.plugins.module_utils._durable import sync_directory
from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError, StateError
from ansible_collections.virt.backup.plugins.module_utils._store.files import chunks_of, digest_of, regular_size

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.virt.backup.plugins.module_utils._model.disk import Domain
    from ansible_collections.virt.backup.plugins.module_utils._run.domain_source import StoredState

_KEPT = ".before-restore"


class Undo:
    """What to do when something fails later, the last first.

    A step is added before what it takes back is done, as a signal may come in between: each copes with nothing to do.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], object]]] = []
        self._last: list[Callable[[], object]] = []

    def add(self, what: str, step: Callable[[], object]) -> None:
        """Remember how something is taken back."""
        self._steps.append((what, step))

    def at_end(self, step: Callable[[], object]) -> None:
        """Remember what is to be done once all is well."""
        self._last.append(step)

    def roll_back(self, error: BackupError) -> None:
        """Take everything back; what can't be is told beside the error."""
        while self._steps:
            what, step = self._steps.pop()
            try:
                step()
            except (BackupError, OSError) as failure:
                error.note(f"{what} could not be taken back: {str(failure).rstrip('.')}.")

    def settle(self) -> None:
        """Nothing is taken back any more."""
        for step in self._last:
            with contextlib.suppress(OSError):
                step()


@dataclasses.dataclass(frozen=True)
class Placement:
    """A state file and where it goes. ``own_directory``: the directory is made with it, as the TPM's is."""

    stored: StoredState
    target: str
    own_directory: bool = False

    def is_there(self) -> bool:
        """Whether the target is the very file already."""
        if regular_size(self.target) is None:
            return False
        return digest_of(chunks_of(self.target))[1] == self.stored.digest

    def problem(self, *, overwrite: bool) -> str:
        """Return why it can't be placed, or empty."""
        folder = os.path.dirname(self.target)
        if not self.own_directory and not os.path.isdir(folder):
            return f"{folder}, where {self.stored.name} belongs, is not there; make the directory"
        if not os.path.lexists(self.target) or self.is_there():
            return ""
        if not stat.S_ISREG(os.lstat(self.target).st_mode):
            return f"{self.target}, where {self.stored.name} belongs, is no regular file; move it away"
        return "" if overwrite else f"{self.target} is there already and holds something else; set overwrite"


def placements(files: tuple[StoredState, ...], domain: Domain) -> tuple[Placement, ...]:
    """Return where each file belongs for the domain as it will be; what it has no place for is left out."""
    found = []
    for file in files:
        if file.name == NVRAM_NAME:
            if domain.nvram is not None and domain.nvram.kind == "file":
                found.append(Placement(file, domain.nvram.path))
        elif domain.tpm is not None and domain.tpm.backend == "emulator":
            place_of_tpm = tpm_place(domain.tpm, domain.uuid)
            target = place_of_tpm if file.name == TPM_FILE_NAME else os.path.join(place_of_tpm, file.name)
            found.append(Placement(file, target, own_directory=file.name != TPM_FILE_NAME))
    return tuple(found)


def placement_problems(placed: tuple[Placement, ...], *, local: bool, overwrite: bool) -> list[str]:
    """Return why files can't be placed; ``local`` says whether this machine is the hypervisor."""
    if not local:
        return [f"{file.stored.name} can only be put in place by a task on the hypervisor itself" for file in placed]
    return [found for file in placed if (found := file.problem(overwrite=overwrite))]


def state_warnings(files: tuple[StoredState, ...], domain: Domain, placed: tuple[Placement, ...]) -> list[str]:
    """Return what of its state the domain will have to do without, a sentence each."""
    names = {placement.stored.name for placement in placed}
    found = [
        f"{file.name} of the restore point was not put in place: the definition names no file for it."
        for file in files
        if file.name not in names
    ]
    if domain.nvram is not None and NVRAM_NAME not in names and not os.path.lexists(domain.nvram.path):
        found.append("The restore point has no NVRAM: libvirt makes a new one, without the guest's boot entries.")
    if domain.tpm is not None and domain.tpm.backend == "emulator" and not names - {NVRAM_NAME}:
        found.append("The restore point has no state of the emulated TPM: what the guest sealed with it stays closed.")
    return found


def place(placement: Placement, undo: Undo) -> None:
    """Put the file in place. Raises ``OSError``."""
    target = placement.target
    folder = os.path.dirname(target)
    kept = os.path.join(folder, f".{os.path.basename(target)}{_KEPT}")
    undo.at_end(lambda: _unlink(kept))
    if placement.is_there():
        return
    _make_folders(folder, undo)
    temporary = _written_beside(placement, undo)
    if os.path.lexists(target):
        _unlink(kept)
        undo.add(target, lambda: _replace(kept, target))
        os.link(target, kept)
    else:
        undo.add(target, lambda: _unlink(target))
    os.rename(temporary, target)
    sync_directory(folder)


def _make_folders(folder: str, undo: Undo) -> None:
    """Make the directories of a TPM's state; libvirt sets their rights when it starts the emulator."""
    missing = folder
    while not os.path.isdir(os.path.dirname(missing)):
        missing = os.path.dirname(missing)
    if not os.path.isdir(folder):
        undo.add(missing, lambda: shutil.rmtree(missing, ignore_errors=True))
        os.makedirs(folder, 0o711)


def _written_beside(placement: Placement, undo: Undo) -> str:
    folder, name = os.path.split(placement.target)
    path = os.path.join(folder, f".{name}.{secrets.token_hex(6)}.tmp")
    undo.add(path, lambda: _unlink(path))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        with contextlib.suppress(FileNotFoundError):
            older = os.lstat(placement.target)
            os.fchown(stream.fileno(), older.st_uid, older.st_gid)
            os.fchmod(stream.fileno(), stat.S_IMODE(older.st_mode))
        for chunk in chunks_of(placement.stored.path):
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    if digest_of(chunks_of(path))[1] != placement.stored.digest:
        raise StateError(f"{placement.stored.path} has changed while it was copied; run the restore again.")
    return path


def _replace(kept: str, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.replace(kept, target)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
