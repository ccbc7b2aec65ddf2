# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an enemy, a bad disk or a careless editor makes of a good text: strategies for names, JSON and XML."""

from __future__ import annotations

import copy
import json
import typing as t
import unicodedata
from xml.etree import ElementTree

from hypothesis import strategies as st

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError

NAMES = (
    "",
    " ",
    ".",
    "..",
    "-rf",
    "--output=/etc/passwd",
    "../../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\nb",
    "a\rb",
    "a\tb",
    "a\x00b",
    "a\x1b[31mb",
    "a\x85b",
    "a\u2028b",
    "a\u2029",
    "\ufeff",
    "\ufffe",
    "\ud800",
    "\udcff",
    "\u202eexe.2wocq",
    "日本",
    "é" * 200,
    "a" * 5000,
    "$(touch /tmp/x)",
    "`touch /tmp/x`",
    "; touch /tmp/x",
    "{{ lookup('pipe', 'touch /tmp/x') }}",
    "{% raw %}",
    "%s%n%x",
    "'",
    '"',
    "<a>",
    "&amp;",
    "]]>",
    "nbd://evil/x",
    'json:{"driver":"nbd"}',
    "fd:0",
    "vda.qcow2",
    "manifest.json",
    "lock",
    "None",
    "0",
    "1e999",
    "-1",
    "²",
    "٣",
    "9" * 5000,
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2026-11-23T02:15:00",
)

names = st.sampled_from(NAMES) | st.text(max_size=40) | st.text(st.characters(), max_size=10)

numbers = st.sampled_from((0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.5)) | st.floats()

scalars = st.none() | st.booleans() | numbers | names

values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)

Place = tuple[t.Any, ...]


def places(data: t.Any, above: Place = ()) -> list[Place]:
    """Return the way to everything in a JSON document, itself included."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [above, *(place for key, value in pairs for place in places(value, (*above, key)))]


@st.composite
def changed(draw: st.DrawFn, document: t.Any) -> t.Any:
    """Return the document with one to three things replaced, taken out, renamed or doubled."""
    found = copy.deepcopy(document)
    for _unused in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(found)))
        if not place:
            found = draw(st.just(found) | values) if draw(st.integers(0, 9)) == 0 else found
            continue
        inner = found
        for key in place[:-1]:
            inner = inner[key]
        what = draw(st.sampled_from(("replace", "replace", "replace", "take out", "rename", "double")))
        if what == "replace":
            inner[place[-1]] = draw(values)
        elif what == "take out":
            del inner[place[-1]]
        elif what == "rename" and isinstance(inner, dict):
            inner[draw(names)] = inner.pop(place[-1])
        elif isinstance(inner, list):
            inner.append(copy.deepcopy(inner[place[-1]]))
        if not places(found):
            break
    return found


@st.composite
def spoilt(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a file's bytes with a piece overwritten, cut off, taken out, put in or doubled."""
    start = draw(st.integers(0, len(content)))
    end = min(len(content), start + draw(st.integers(0, 40)))
    piece = draw(st.binary(max_size=20) | st.sampled_from((b"\xff\xfe", b"\x00", b"NaN", b'"a":1,', b"[" * 100_000)))
    return draw(
        st.sampled_from(
            (
                content[:start],
                content[:start] + content[end:],
                content[:start] + piece + content[start:],
                content[:start] + piece + content[end:],
                content[:end] + content[start:],
                piece,
            )
        )
    )


def written(document: t.Any) -> bytes:
    """Return a document as Python writes it, with the numbers that are none, and surrogates as escapes."""
    return json.dumps(document).encode()


def files_like(document: t.Any) -> st.SearchStrategy[bytes]:
    """Return files that were, or were to be, that document."""
    return changed(document).map(written) | spoilt(json.dumps(document, indent=2).encode())


@st.composite
def xml_like(draw: st.DrawFn, document: str) -> str:
    """Return a document with elements taken out, doubled, renamed, emptied or nested, and attributes of any value."""
    root = ElementTree.fromstring(document)
    for _unused in range(draw(st.integers(1, 4))):
        parents = [parent for parent in root.iter() if len(parent)]
        parent = draw(st.sampled_from(parents)) if parents else root
        inner = draw(st.sampled_from(list(parent))) if len(parent) else root
        what = draw(st.sampled_from(("take out", "double", "rename", "text", "attribute", "strip", "nest", "comment")))
        if what == "take out" and inner in list(parent):
            parent.remove(inner)
        elif what == "double":
            parent.append(copy.deepcopy(inner))
        elif what == "rename":
            inner.tag = draw(st.sampled_from([element.tag for element in root.iter()]))
        elif what == "text":
            inner.text = draw(names)
        elif what == "attribute" and inner.attrib:
            inner.set(draw(st.sampled_from(sorted(inner.attrib))), draw(names))
        elif what == "strip":
            inner.attrib.clear()
        elif what == "nest":
            inner.append(copy.deepcopy(parent))
        else:
            inner.append(ElementTree.Comment("x"))
    return ElementTree.tostring(root, encoding="unicode")


@st.composite
def text_like(draw: st.DrawFn, document: str) -> str:
    """Return a text with pieces put in, cut off or taken out."""
    start = draw(st.integers(0, len(document)))
    end = min(len(document), start + draw(st.integers(0, 30)))
    piece = draw(
        names | st.sampled_from(("<!DOCTYPE a [<!ENTITY e 'x'>]>", "&e;", "<![CDATA[", "<?pi?>", "<!--", "&#0;"))
    )
    return draw(
        st.sampled_from(
            (document[:start], document[:start] + document[end:], document[:start] + piece + document[start:])
        )
    )


def refusal(call: t.Callable[[], object]) -> BackupError | None:
    """Return the refusal of what is called, or nothing when it succeeds. Nothing else may come of it."""
    try:
        call()
    except BackupError as error:
        return error
    return None


def is_clear(error: BackupError, *parts: str) -> bool:
    """Whether it is one line that can be printed, ends as a sentence, and names what is wrong."""
    sentence = str(error.as_result()["msg"])
    return (
        all(unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") for character in sentence)
        and len(sentence.splitlines()) == 1
        and sentence.endswith(".")
        and len(sentence) < 2000
        and all(part in sentence for part in parts)
    )
