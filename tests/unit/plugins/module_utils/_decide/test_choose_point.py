# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which restore point is meant. Days stand for restore points; each was made at a quarter past two."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide.choose_point import choose_point
from ansible_collections.virt.backup.plugins.module_utils._model.catalog import Catalog, Unreadable
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError, StateError
from ansible_collections.virt.backup.tests.unit.plugins.module_utils._store.store_kit import image, point, point_id

POINTS = Catalog(tuple(point(day, image("vda", day)) for day in (1, 2, 3)))
BROKEN = Unreadable(point_id(4), "/repo/4", "its manifest is no JSON.")


def moment(day: int, hour: int, minute: int = 0) -> datetime.datetime:
    return datetime.datetime(2026, 11, day, hour, minute, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("identifier", "before", "day"),
    [
        ("", None, 3),
        ("latest", None, 3),
        (point_id(2), None, 2),
        ("", moment(3, 2, 15), 2),
        ("", moment(3, 2, 16), 3),
        ("", moment(2, 12), 2),
        ("latest", moment(30, 0), 3),
    ],
)
def test_the_one_that_is_meant(identifier: str, before: datetime.datetime | None, day: int) -> None:
    assert choose_point(POINTS, identifier, before).id == point_id(day)


def test_two_within_one_second() -> None:
    """The id of the second one is a second ahead, so that ids keep the order; what counts is when its run began."""
    began = moment(5, 2) + datetime.timedelta(milliseconds=570)
    second = dataclasses.replace(
        POINTS.points[2], manifest=dataclasses.replace(POINTS.points[2].manifest, created=began)
    )
    first = dataclasses.replace(
        POINTS.points[1],
        manifest=dataclasses.replace(POINTS.points[1].manifest, created=began - datetime.timedelta(milliseconds=300)),
    )
    assert choose_point(Catalog((first, second)), "", began).id == first.id


@pytest.mark.parametrize(
    ("identifier", "before", "said"),
    [
        (point_id(9), None, f"id: '{point_id(9)}' is no restore point of this domain; restore_point_info lists them."),
        ("", moment(1, 2, 15), "before: '20261101T021500Z' is earlier than every restore point of this domain"),
    ],
)
def test_none_is(identifier: str, before: datetime.datetime | None, said: str) -> None:
    with pytest.raises(InputError) as raised:
        choose_point(POINTS, identifier, before)
    assert said in raised.value.message


@pytest.mark.parametrize(("identifier", "before"), [("", None), (point_id(4), None), ("", moment(5, 0))])
def test_one_that_can_not_be_read_is_not_passed_over(identifier: str, before: datetime.datetime | None) -> None:
    catalog = dataclasses.replace(POINTS, unreadable=(BROKEN,))
    with pytest.raises(StateError, match=f"id: {point_id(4)} can't be used: its manifest is no JSON; bring its files"):
        choose_point(catalog, identifier, before)
    assert choose_point(catalog, "", moment(4, 0)).id == point_id(3)
