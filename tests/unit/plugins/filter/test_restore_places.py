# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where restored disks go."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.filter.restore_places import FilterModule, restore_places

POINT: dict[str, t.Any] = {
    "id": "20261123T021500Z-7f3a",
    "domain": {"name": "web"},
    "disks": [
        {"name": "vda", "source": "/images/web.qcow2", "format": "qcow2"},
        {"name": "vdb", "source": "/dev/vg/data", "format": "raw"},
        {"name": "vdc", "source": "nbd://host/x", "format": "raw"},
        {"name": "vdd", "source": "fast/web-data", "format": "raw"},
    ],
}
Wish = list[dict[str, t.Any]]


@pytest.mark.parametrize(
    ("wish", "directory", "name", "places"),
    [
        ([{"name": "vda"}], "", "", ["vda file qcow2 /images/web.qcow2"]),
        ([{"name": "vda", "format": "raw"}], "", "", ["vda file raw /images/web.qcow2"]),
        ([{"name": "vdb"}], "", "", ["vdb block raw /dev/vg/data"]),
        ([{"name": "vda", "dest": "/x"}], "/d", "", ["vda file qcow2 /x"]),
        ([{"name": "vda", "dest": "/dev/x"}], "", "new", ["vda block raw /dev/x"]),
        ([{"name": "vda", "dest": "/dev/shm/x", "type": "file"}], "", "", ["vda file qcow2 /dev/shm/x"]),
        ([{"name": "vdb"}, {"name": "vda"}], "/d", "", ["vdb file qcow2 /d/web-vdb.qcow2", "vda file qcow2 /d/web-vda.qcow2"]),
        ([{"name": "vdb", "format": "raw"}], "/d", "new", ["vdb file raw /d/new-vdb.raw"]),
        ([], "/d", "", [f"{disk} file qcow2 /d/web-{disk}.qcow2" for disk in ("vda", "vdb", "vdc", "vdd")]),
        ([{"name": "vda", "dest": "lab/x", "type": "volume"}], "", "new", ["vda volume qcow2 lab/x"]),
        ([{"name": "vdd"}], "", "", ["vdd volume raw slow/web-data"]),
        ([{"name": "vdd", "format": "qcow2"}], "", "", ["vdd volume qcow2 slow/web-data"]),
    ],
)  # fmt: skip
def test_places(wish: Wish, directory: str, name: str, places: list[str]) -> None:
    found = restore_places(POINT, wish, directory, name, "/o", pools={"fast": "slow"})
    assert found["problem"] == ""
    assert [f"{disk['name']} {disk['type']} {disk['format']} {disk['dest']}" for disk in found["disks"]] == places
    assert [f"{disk['name']} {disk['type']} {disk['format']} {disk['source']}" for disk in found["final"]] == places
    assert [disk["moves_to"] for disk in found["overlays"]] == [disk["dest"] for disk in found["disks"]]
    assert [disk["source"] for disk in found["overlays"]] == [
        f"/o/{name or 'web'}-{place.split()[0]}.overlay" for place in places
    ]


@pytest.mark.parametrize(
    ("wish", "name", "words"),
    [
        (
            [{"name": "vdz"}],
            "",
            "'vdz' is no disk of restore point 20261123T021500Z-7f3a, which has vda, vdb, vdc, vdd",
        ),
        ([{}], "", "'' is no disk of restore point"),
        ([], "", "disk 'vdc' was at 'nbd://host/x' (raw), where it can't be written back"),
        ([{"name": "vda"}], "new", "a copy needs a place for disk 'vda'"),
        ([{"name": "vda", "dest": "/x"}, {"name": "vdb", "dest": "/x"}], "", "two disks would go to '/x'"),
    ],
)
def test_problems(wish: Wish, name: str, words: str) -> None:
    found = restore_places(POINT, wish, "", name)
    assert words in found["problem"]
    assert found["disks"] == found["final"] == found["overlays"] == []


def test_a_pool_takes_what_has_no_place() -> None:
    wish = [{"name": "vda"}, {"name": "vdb", "dest": "/x"}, {"name": "vdd", "format": "raw"}]
    found = restore_places(POINT, wish, name="new", pool="lab")
    assert [(disk["type"], disk["dest"]) for disk in found["disks"]] == [
        ("volume", "lab/new-vda.qcow2"),
        ("file", "/x"),
        ("volume", "lab/new-vdd.raw"),
    ]
    assert "leave one of them out" in restore_places(POINT, wish, "/d", pool="lab")["problem"]


def test_it_is_a_filter() -> None:
    assert FilterModule().filters() == {"restore_places": restore_places}
