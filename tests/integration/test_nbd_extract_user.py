# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nbd_extract without root: modes that close an image to the user who makes it, and owners whom it may not give."""

from __future__ import annotations

import functools
import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.extraction import ImageRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract import extract
from ansible_collections.virt.backup.plugins.module_utils._run.extract_encryption import EncryptionRequest
from ansible_collections.virt.backup.plugins.module_utils._run.extract_report import ExtractRequest
from ansible_collections.virt.backup.tests.integration import nbd_fixtures as nbd
from ansible_collections.virt.backup.tests.integration import own_process, without_hypervisor
from ansible_collections.virt.backup.tests.integration.as_nobody import NOBODY, as_nobody, open_folder

MIB = 1024 * 1024
SECRET = EncryptionRequest(secret="Kq9x0x7", iter_time=1)

pytestmark = own_process.MARK
lab_host = without_hypervisor.lab_host


@pytest.fixture
def folder() -> t.Iterator[Path]:
    """Return a folder that every user may write to."""
    with open_folder() as name:
        yield Path(name)


@pytest.fixture
def server(folder: Path) -> t.Iterator[nbd.Server]:
    """Serve a disk to every user."""
    disk = nbd.create(folder / "disk.qcow2", 4 * MIB)
    nbd.qemu_io(disk, "write -P 1 1M 1M")
    with nbd.qemu_nbd(disk, "-r") as running:
        running.socket.chmod(0o777)
        yield running


def copy(image: ImageRequest, *, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
    outcome = extract(ExtractRequest(images=(image,), **options), check=check)
    return {"changed": outcome.changed, **outcome.result}


@pytest.mark.parametrize("kind", ["qcow2", "raw", "encrypted"])
def test_a_mode_that_closes_the_image_to_its_maker(server: nbd.Server, folder: Path, kind: str) -> None:
    """The mode is the finished image's. Until then QEMU has to open the file once more, to encrypt it."""
    encrypted = {"encryption": SECRET} if kind == "encrypted" else {}
    words = {"format": "raw"} if kind == "raw" else {"encryption": "luks"} if encrypted else {}
    image = ImageRequest(server.uri(), str(folder / "image"), source_id="a", **words)
    work = functools.partial(copy, image, mode="0400", **encrypted)
    first, again = as_nobody(work), as_nobody(work)
    assert (first.get("msg"), first.get("changed")) == (None, True)
    assert (again.get("msg"), again.get("changed")) == (None, False)
    for path in (folder / "image", folder / "image.json"):
        found = path.stat()
        assert (found.st_uid, found.st_mode & 0o7777) == (NOBODY.pw_uid, 0o400)
    if not encrypted:
        nbd.identical(folder / "image", folder / "disk.qcow2", words.get("format", "qcow2"))


@pytest.mark.parametrize("name", ["owner", "group"])
@pytest.mark.parametrize("dest", ["image", "export"])
def test_an_owner_whom_this_user_may_not_give(server: nbd.Server, folder: Path, dest: str, name: str) -> None:
    """Told before anything is written: a dest in place would be overwritten by then, and only its record refused."""
    backing = nbd.create(folder / "backing", 4 * MIB, image_format="raw")
    with nbd.qemu_nbd(backing, image_format="raw") as target:
        target.socket.chmod(0o777)
        place = target.uri() if dest == "export" else str(folder / "image")
        image = ImageRequest(
            server.uri(), place, format="raw", record=str(folder / "r.json") if dest == "export" else ""
        )
        before = nbd.names(folder)
        for check in (True, False):
            told = as_nobody(functools.partial(copy, image, check=check, force=True, **{name: "root"}))
            problem = "can't be given by this user (Operation not permitted); run as root, or leave it out."
            assert told == {"msg": f"{name}: 'root' {problem}"}, json.dumps(told)
        assert nbd.names(folder) == before
        assert not any(backing.read_bytes())
