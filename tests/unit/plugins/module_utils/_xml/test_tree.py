# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The edge to lxml."""

from __future__ import annotations

import pytest

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._xml import tree


def test_text_and_attributes_are_escaped_and_read_back() -> None:
    nasty = "<a> & \"b\" 'c' ü 日本"
    text = tree.serialise(tree.element("e", nasty, name=nasty))
    assert "<a>" not in text
    parsed = tree.parse(text)
    assert (parsed.text, parsed.get("name")) == (nasty, nasty)


def test_blank_text_goes_and_other_text_stays() -> None:
    root = tree.parse("<a>\n  <b> x </b>\n</a>")
    assert root.text is None
    assert tree.text_of(root, "b") == "x"
    assert tree.text_of(root, "c") == ""


@pytest.mark.parametrize(
    "text", ["", " ", "no", "<a>", "<a></b>", "<a>&nope;</a>", "<a/><b/>", "\udcff", "<a>\x00</a>"]
)
def test_not_well_formed(text: str) -> None:
    with pytest.raises(BackupError) as caught:
        tree.parse(text)
    assert "\n" not in caught.value.message


def test_an_encoding_declaration_does_not_matter_to_text_that_is_decoded_already() -> None:
    assert tree.parse("<?xml version='1.0' encoding='iso-8859-1'?><a>ü</a>").text == "ü"


def test_a_bomb_of_entities_is_refused() -> None:
    levels = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 12))
    bomb = f"<!DOCTYPE d [<!ENTITY e0 'boom'>{levels}]><a>&e11;</a>"
    with pytest.raises(BackupError):
        tree.parse(bomb)


def test_without_lxml_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "HAS_LXML", False)
    with pytest.raises(BackupError, match="install python3-lxml"):
        tree.parse("<a/>")
