# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names from outside, before they become a path."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError
from ansible_collections.virt.backup.plugins.module_utils._store.layout import (
    checked_disk_name,
    checked_file_name,
    checked_id,
    checked_path,
    checked_uuid,
    checkpoint_name,
    domain_paths,
    is_id,
    new_id,
)
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import NOW, UUID, point_id

BAD_PATHS = ["", "relative/path", "./x", "/a/../b", "/a\nb", "/a\0b", "~/x"]
BAD_UUIDS = [
    "",
    "web",
    UUID[:-1],
    UUID.replace("-", ""),
    "{" + UUID + "}",
    "../" + UUID,
    UUID + "\n",
    f"urn:uuid:{UUID}",
]
BAD_IDS = ["", ".", "..", "../20261123T021500Z-7f3a", "20261123T021500Z-7F3A", "20261123T021500Z-7f3a/", "lock"]
BAD_IDS += ["20261123T021500Z-7f3a\n", "20261323T021500Z-7f3a", "20261123T021500Z", "20261123T021500Z-7f3a.staging"]
BAD_DISKS = ["", ".", "..", "vda/b", "../vda", "vda\n", "-vda", "vda.qcow2", "v" * 65, "vdä"]
BAD_FILES = [
    "",
    ".",
    "..",
    ".hidden",
    "a/b",
    "/etc/passwd",
    "a\n",
    "a" * 101,
    "manifest.json",
    "staging.json",
    "x.qcow2",
]


@pytest.mark.parametrize("value", BAD_PATHS)
def test_paths_that_are_refused(value: str) -> None:
    with pytest.raises(InputError, match=r"^repository: "):
        checked_path("repository", value)


@pytest.mark.parametrize("value", BAD_UUIDS)
def test_uuids_that_are_refused(value: str) -> None:
    with pytest.raises(InputError, match="virsh domuuid"):
        checked_uuid("domain_uuid", value)


@pytest.mark.parametrize("value", BAD_IDS)
def test_ids_that_are_refused(value: str) -> None:
    with pytest.raises(InputError, match="restore_point_info lists them"):
        checked_id("id", value)


@pytest.mark.parametrize("value", BAD_DISKS)
def test_disk_names_that_are_refused(value: str) -> None:
    with pytest.raises(InputError):
        checked_disk_name("disks", value)


@pytest.mark.parametrize("value", BAD_FILES)
def test_file_names_that_are_refused(value: str) -> None:
    with pytest.raises(InputError):
        checked_file_name("files", value)


def test_what_is_taken() -> None:
    assert checked_path("repository", "/srv//backup/") == "/srv/backup"
    assert checked_uuid("domain_uuid", UUID.upper()) == UUID
    assert checked_id("id", "20261123T021500Z-7f3a") == "20261123T021500Z-7f3a"
    assert checked_disk_name("disks", "vdaa") == "vdaa"
    assert checked_file_name("files", "domain.xml") == "domain.xml"


def test_a_new_id_says_the_time() -> None:
    first = new_id(NOW, "")
    assert is_id(first)
    assert first.startswith("20261123T021500Z-")
    assert checkpoint_name("4f1c09a2be77", first) == f"virt-backup.4f1c09a2be77.{first}"


@pytest.mark.parametrize("seconds", [0, 0.9, -1, -86400])
def test_a_new_id_sorts_after_the_newest_whatever_the_clock_says(seconds: float) -> None:
    newest = new_id(NOW, "")
    found = new_id(NOW + datetime.timedelta(seconds=seconds), newest)
    assert found.startswith("20261123T021501Z-")
    assert found > newest


def test_paths_of_a_domain() -> None:
    paths = domain_paths("/srv", UUID)
    assert paths.point(point_id(1)) == f"/srv/{UUID}/{point_id(1)}"
    assert paths.staging(point_id(1)) == f"/srv/{UUID}/{point_id(1)}.staging"
    assert paths.lock == f"/srv/{UUID}/lock"
