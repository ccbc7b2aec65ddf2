# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names, paths and texts that are refused, and the neighbours that are not."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.virt.backup.plugins.module_utils._decide import names
from ansible_collections.virt.backup.plugins.module_utils._model.errors import InputError

Check = t.Callable[[str, str], None]


def problem_of(check: Check, value: str) -> str:
    """Return what a check says, empty when it takes the value; every refusal names parameter, value and remedy."""
    message = ""
    try:
        check("option", value)
    except InputError as error:
        message = error.message
    assert not message or (message.startswith(f"option: {value!r}") and "; " in message and message.isprintable())
    return message


@pytest.mark.parametrize("text", ["", "plain", "ümläut", "日本 🙂", "<a> & \"b\" 'c'", "a\u00a0b", "\ufffd"])
def test_printable(text: str) -> None:
    assert problem_of(names.check_printable, text) == ""


@pytest.mark.parametrize(
    "text",
    [*"\n\r\t\x00\x01\x1b\x1f\x7f", "\x85", "\x9f", "\u2028", "\u2029", "\ufffe", "\uffff", "\udcff"],
)
def test_not_printable(text: str) -> None:
    """Neither lines that end in the middle nor what XML cannot hold, and no bytes that were never UTF-8."""
    assert "control character" in problem_of(names.check_printable, f"a{text}b")


@pytest.mark.parametrize("name", ["a", "A9", "_", "-", "a.b", "a-b_c.d", "1", "-.-", "a" * 251])
def test_checkpoint_name(name: str) -> None:
    assert problem_of(names.check_checkpoint_name, name) == ""


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        ".a",
        "a b",
        "a/b",
        "../a",
        "a:b",
        "a+b",
        "a@b",
        "ü",
        "a\n",
        "\na",
        "<a>",
        "a&b",
        'a"b',
        "a'b",
        "a" * 252,
    ],
)
def test_no_checkpoint_name(name: str) -> None:
    assert problem_of(names.check_checkpoint_name, name)


@pytest.mark.parametrize("path", ["/", "/a", "/a/b c", "/a/.b", "/a/b.", "/<a>&'\"ü"])
def test_absolute(path: str) -> None:
    assert problem_of(names.check_absolute, path) == ""


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("", "not an absolute path"),
        ("a", "not an absolute path"),
        ("./a", "not an absolute path"),
        ("~/a", "not an absolute path"),
        ("/a/../b", "write it as '/b'"),
        ("/a/./b", "write it as '/a/b'"),
        ("/a//b", "write it as '/a/b'"),
        ("//a", "write it as '/a'"),
        ("/a/", "write it as '/a'"),
        ("/a\n", "control character"),
    ],
)
def test_not_absolute(path: str, word: str) -> None:
    assert word in problem_of(names.check_absolute, path)


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("/" + "a" * 106, True),
        ("/" + "a" * 107, False),
        ("/" + "ü" * 53, True),
        ("/" + "ü" * 54, False),
        ("a.sock", False),
    ],
)
def test_socket(path: str, taken: bool) -> None:
    assert (problem_of(names.check_socket, path) == "") is taken


@pytest.mark.parametrize("name", ["localhost", "hv-1.example.org", "127.0.0.1", "::1", "::", "2001:db8::5", "0"])
def test_listen_address(name: str) -> None:
    assert problem_of(names.check_listen_address, name) == ""


@pytest.mark.parametrize(
    "name", ["", "a_b", "a b", "[::1]", "fe80::1%eth0", "a/b", "<a>", "ü.example.org", "a:b", "1.2.3.4:80"]
)
def test_no_listen_address(name: str) -> None:
    assert problem_of(names.check_listen_address, name)


def test_unique() -> None:
    names.check_unique("option", ["a", "b", ""], "a thing")
    with pytest.raises(InputError, match="option: 'a' is given twice as a thing; list each one once"):
        names.check_unique("option", iter(["a", "b", "a"]), "a thing")


@pytest.mark.parametrize(("known", "there"), [(["vda", "vdb"], "vda, vdb"), ([], "none")])
def test_known(known: list[str], there: str) -> None:
    with pytest.raises(InputError, match=f"option: 'sda' is not a disk; it has: {there}"):
        names.check_known("option", "sda", known, "a disk")


def test_known_takes_what_is_there() -> None:
    names.check_known("option", "vda", ["vda"], "a disk")


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        ([], []),
        ("", []),
        ("vda", ["vda"]),
        (" vda , ,vdb,", ["vda", "vdb"]),
        (["vda", " vdb ", ""], ["vda", "vdb"]),
        ([1], ["1"]),
        (("a,b",), ["a,b"]),
    ],
)
def test_a_list_or_a_text_with_commas(value: list[str], entries: list[str]) -> None:
    assert names.listed(value) == entries
