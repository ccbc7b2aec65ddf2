# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest as JSON: the published schema, old ones, newer ones, wrong ones."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

import jsonschema
import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.level import Level
from ansible_collections.virt.backup.plugins.module_utils._model.restore_point import (
    Consistency,
    Manifest,
    SkippedDisk,
    StoredFile,
)
from ansible_collections.virt.backup.plugins.module_utils._store.fields import BadFile, NewerFormat
from ansible_collections.virt.backup.plugins.module_utils._store.manifest import FORMAT, from_json, to_json
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import (
    NOW,
    identity,
    image,
    point,
    point_id,
)

HERE = pathlib.Path(__file__).resolve()
SCHEMA = json.loads((HERE.parents[5] / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
OLDEST = json.loads((HERE.parent / "fixtures" / "manifest-1-oldest.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

FULL_HOUSE = dataclasses.replace(
    point(2, dataclasses.replace(image("vda", 2, 1), digests="vda.digests"), image("vdb", 2, bitmap=False)).manifest,
    run="hv1 <ops@example.org>",
    skipped=(SkippedDisk("sda", "a CD drive"), SkippedDisk("vdc", "excluded", identity("vdc"))),
    files=(StoredFile("domain.xml", 7, "sha256:" + "0" * 64),),
    stored=(StoredFile("vda.qcow2", 9, "sha256:" + "0" * 64), StoredFile("vdb.qcow2", 10, "")),
    versions=(("libvirt", "9.0.0"), ("qemu", "7.2.22")),
    consistency=Consistency(frozen=True, freeze_seconds=0.125, paused=False),
)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("manifest", [FULL_HOUSE, point(1, image("vda", 1)).manifest])
def test_there_and_back(manifest: Manifest) -> None:
    data = json.loads(json.dumps(to_json(manifest)))
    VALIDATOR.validate(data)
    assert from_json(data, "m") == manifest


def test_the_oldest_manifest_is_still_read() -> None:
    VALIDATOR.validate(OLDEST)
    manifest = from_json(OLDEST, "m")
    assert manifest.disks[0].level is Level.INCREMENTAL
    assert manifest.disks[0].bitmap
    assert (manifest.disks[0].digests, manifest.disks[0].content, manifest.disks[0].content_reason) == ("", "", "")
    assert manifest.stored == ()
    assert (manifest.run, manifest.skipped, manifest.files, manifest.versions) == ("", (), (), ())
    assert manifest.published.microsecond == 123456
    assert manifest.consistency.crash_consistent is False


def test_a_newer_format_is_refused_with_one_sentence() -> None:
    with pytest.raises(NewerFormat) as caught:
        from_json({**OLDEST, "format": FORMAT + 1}, "/repo/x/manifest.json")
    assert caught.value.message == (
        "/repo/x/manifest.json has format 2, which a newer release of virt.backup wrote (this one knows up to 1); "
        "upgrade the collection."
    )


def test_unknown_fields_are_left_alone() -> None:
    assert from_json({**OLDEST, "of_the_future": 1}, "m") == from_json(OLDEST, "m")


def _without(name: str) -> dict[str, t.Any]:
    return {key: value for key, value in OLDEST.items() if key != name}


def _disk(**changes: t.Any) -> dict[str, t.Any]:
    return {**OLDEST, "disks": [{**OLDEST["disks"][0], **changes}]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "is no JSON object"),
        (_without("format"), "has no 'format'"),
        (_without("repository"), "has no 'repository'"),
        ({**OLDEST, "format": "1"}, "'format' has the wrong type"),
        ({**OLDEST, "format": True}, "'format' has the wrong type"),
        ({**OLDEST, "format": 0}, "never existed"),
        ({**OLDEST, "created": "yesterday"}, "'created' is no time"),
        ({**OLDEST, "disks": {}}, "'disks' has the wrong type"),
        ({**OLDEST, "disks": ["vda"]}, "is no JSON object"),
        ({**OLDEST, "versions": {"qemu": 7}}, "'versions' has a value that is no string"),
        ({**OLDEST, "domain": None}, "is no JSON object"),
        (_disk(level="differential"), "'level' is unknown ('differential')"),
        (_disk(virtual_size="10G"), "'virtual_size' has the wrong type"),
    ],
)
def test_what_is_no_manifest(data: t.Any, words: str) -> None:
    with pytest.raises(BadFile) as caught:
        from_json(data, "m")
    assert words in caught.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"parent": ""},
        {"level": "full"},
        {"chain": ".."},
        {"image": "../vda.qcow2"},
        {"stored_size": -1},
        {"name": "a/b"},
    ],
)
def test_the_schema_refuses(changes: dict[str, t.Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(_disk(**changes))


def test_times_are_utc() -> None:
    data = to_json(point(1, image("vda", 1)).manifest)
    assert data["created"] == "2026-11-01T02:15:00Z"
    moved = from_json({**OLDEST, "created": "2026-11-23T04:15:00+02:00"}, "m")
    assert moved.created == NOW
    assert point_id(1) == data["id"]
