# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work done by a user who may do nothing special: in a child, because root does not come back from there."""

from __future__ import annotations

import json
import os
import pwd
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.tests.integration import virt_kit as kit

NOBODY = pwd.getpwnam("nobody")


def open_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that every user may write to (pytest's own are closed to all but root)."""
    folder = tempfile.TemporaryDirectory()
    Path(folder.name).chmod(0o777)
    return folder


def as_nobody(work: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
    """Return what ``work`` returned there, or the sentence with which it failed as ``msg``."""

    def child() -> None:
        os.setgroups([])
        os.setresgid(NOBODY.pw_gid, NOBODY.pw_gid, NOBODY.pw_gid)
        os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)
        try:
            print(json.dumps(work()))
        except BackupError as error:
            print(json.dumps({"msg": error.message}))

    pid, reading = kit.start_child(child)
    with open(reading, encoding="utf-8") as pipe:
        told = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0, told
    result: dict[str, t.Any] = json.loads(told)
    return result
