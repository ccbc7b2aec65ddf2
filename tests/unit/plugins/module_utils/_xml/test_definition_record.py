# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mark of a restore in the metadata."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

from ansible_collections.virt.backup.plugins.module_utils._xml.definition_record import (
    NAMESPACE,
    Record,
    read_record,
    with_record,
    without_record,
)
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._xml.definition_kit import domain, same

FOREIGN = "<metadata><a:x xmlns:a='urn:a'>kept</a:x></metadata>"
RECORD = Record("20261123T021500Z-7f3a", "sha256:1", "sha256:2")


def test_it_is_read_as_it_was_written() -> None:
    for record in (RECORD, Record("", "sha256:1"), dataclasses.replace(RECORD, isolated=True)):
        for top in ("", FOREIGN):
            marked = with_record(domain(top=top), record)
            assert read_record(marked) == record
            assert '<vb:restored xmlns:vb="urn:virt-backup:restored:1" restore_point=' in marked
            assert same(without_record(marked), domain(top=top))


def test_a_later_one_takes_its_place() -> None:
    marked = with_record(with_record(domain(top=FOREIGN), RECORD), Record("", "sha256:3"))
    assert read_record(marked) == Record("", "sha256:3")
    assert len(ElementTree.fromstring(marked).findall(f"metadata/{{{NAMESPACE}}}restored")) == 1
    assert "kept" in marked


def test_none_is_none_and_an_empty_metadata_is_no_difference() -> None:
    assert read_record(domain(top=FOREIGN)) is None
    assert without_record(domain(top="<metadata/>")) == without_record(domain())
