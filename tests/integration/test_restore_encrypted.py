# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encrypted chains come back and are served with their secret, with no other, and nobody is told of it."""

from __future__ import annotations

import pathlib
import tempfile
import typing as t

import pytest
from integration.restore_kit import SECRET, Shop, Vault, backup_encrypted
from lab.disks import MIB, Disk
from lab.domains import IMAGES, Domains
from lab.tools import call, content_hash, file_hash

OTHER = {"secret": "another"}


class Closed(t.NamedTuple):
    """A chain of two encrypted images, and what the disk held in both moments."""

    vault: Vault
    truths: list[str]


@pytest.fixture(scope="module")
def closed(lab_host: str) -> t.Iterator[Closed]:
    domains, folder = Domains(), IMAGES / "encrypted-vault"
    folder.mkdir()
    try:
        made = Closed(Vault(domains(Disk("vda", size=8 * MIB)), folder), [])
        for number in range(2):
            made.vault.change(number, "vda")
            made.truths.append(content_hash(made.vault.domain.frozen_copy("vda", "truth")))
            made.vault.points.append(backup_encrypted(made.vault.protection))
        assert made.vault.points[1].levels == {"vda": "incremental"}
        yield made
    finally:
        domains.close()
        call("rm", "-rf", folder)


@pytest.mark.parametrize("number", [0, 1])
def test_it_comes_back(closed: Closed, tmp_path: pathlib.Path, number: int) -> None:
    """The secret from a variable or a file. The increment has no digest of its whole content, and says why."""
    vault, out = closed.vault, tmp_path / "out"
    out.mkdir()
    options = {"id": vault.points[number].id, "dest_dir": str(out)}
    for check in (True, False):
        refused = vault.refused(check=check, **options)
        assert "the images of vda are encrypted; give secret_file or secret" in refused
        assert "does not open" in vault.refused(check=check, **options, encryption=OTHER)
    assert list(out.iterdir()) == []
    secret = tmp_path / "secret"
    secret.write_text(SECRET["secret"])
    secret.chmod(0o600)
    result = vault.restore(encryption=(SECRET, {"secret_file": str(secret)})[number], **options)
    assert content_hash(out / "vda.qcow2") == closed.truths[number]
    (entry,) = result["disks"]
    assert (entry["content_verified"], bool(entry["content_reason"])) == (not number, bool(number))
    assert SECRET["secret"] not in str(result)
    assert SECRET["secret"].encode() not in (out / ".vda.qcow2.restored.json").read_bytes()
    assert not vault.restore(**options)["changed"], "what is there already needs no secret"


def test_it_is_served(closed: Closed, tmp_path: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory(prefix="vb-") as sockets:
        shop = Shop(closed.vault, pathlib.Path(sockets))
        for check in (True, False):
            assert "the images of vda are encrypted" in shop.refused(check=check)
            assert "does not open" in shop.refused(check=check, encryption=OTHER)
        served = shop.serve(encryption=SECRET)
        try:
            call("nbdcopy", served["disks"][0]["uri"], tmp_path / "vda")
            assert file_hash(tmp_path / "vda") == closed.truths[1]
            for name in ("cmdline", "environ"):
                told = pathlib.Path(f"/proc/{served['server']['pid']}/{name}").read_bytes()
                assert SECRET["secret"].encode() not in told
            assert SECRET["secret"] not in str(served)
            assert not shop.serve(encryption=SECRET)["changed"]
        finally:
            shop.end()
