# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who a copy is: always the same, and never another."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._model.host import Asked
from ansible_collections.virt.backup.plugins.module_utils._run.domain_identity import macs_of_copy, uuid_of_copy

ORIGINAL = Asked("web", "7b1f6a1e-6a1f-4b58-9d0c-0c2b5a2f7d11", "x86_64", "pc", "kvm")


def test_the_same_copy_has_the_same_identity() -> None:
    uuid = uuid_of_copy(ORIGINAL, "drill", "host-1")
    assert uuid == uuid_of_copy(ORIGINAL, "drill", "host-1")
    macs = macs_of_copy(uuid, 3, ())
    assert macs == macs_of_copy(uuid, 3, ())
    assert len(set(macs)) == 3
    assert all(mac.startswith("52:54:00:") for mac in macs)


def test_another_name_host_or_original_is_another_domain() -> None:
    other = dataclasses.replace(ORIGINAL, uuid="11111111-2222-4333-8444-555555555555")
    uuids = [
        uuid_of_copy(*row)
        for row in ((ORIGINAL, "a", "h"), (ORIGINAL, "b", "h"), (ORIGINAL, "a", "i"), (other, "a", "h"))
    ]
    assert len({ORIGINAL.uuid, *uuids}) == 5
    assert len({macs_of_copy(uuid, 1, ()) for uuid in uuids}) == 4


def test_an_address_that_is_taken_is_not_given() -> None:
    uuid = uuid_of_copy(ORIGINAL, "drill", "h")
    (first,) = macs_of_copy(uuid, 1, ())
    (second,) = macs_of_copy(uuid, 1, [first.upper()])
    assert first != second


def test_a_definition_without_an_identity_cannot_be_copied() -> None:
    with pytest.raises(BackupError, match="no usable UUID"):
        uuid_of_copy(dataclasses.replace(ORIGINAL, uuid=""), "drill", "h")
