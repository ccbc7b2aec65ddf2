# Copyright (c) 2026, virt.backup contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: this file may change without notice.

"""The one place that knows lxml: parsing without network or entities, building, and RELAX NG."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.virt.backup.plugins.module_utils._model.errors import BackupError
from ansible_collections.virt.backup.plugins.module_utils._model.text import brief, quoted

HAS_LXML = True
try:
    from lxml import etree
except ImportError:
    HAS_LXML = False

if t.TYPE_CHECKING:
    from lxml.etree import _Element

    Element: t.TypeAlias = _Element


def require_lxml() -> None:
    """Raise a :class:`BackupError` that names the package where lxml is missing."""
    if not HAS_LXML:
        raise BackupError(
            "The Python library lxml is not installed for this interpreter; "
            "install python3-lxml, or set ansible_python_interpreter to a Python that has it."
        )


def parse(text: str) -> Element:
    """Return the root element of an XML document, or raise a :class:`BackupError` with the parser's complaint.

    The text is decoded already, so the encoding that its declaration may name is not asked.
    """
    require_lxml()
    parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, remove_blank_text=True)
    try:
        return etree.fromstring(text.encode(errors="surrogatepass"), parser)
    except etree.XMLSyntaxError as error:
        raise BackupError(f"This is not well-formed XML: {brief(' '.join(str(error.msg).split()))}.") from error


def element(tag: str, text: str | None = None, **attributes: str) -> Element:
    """Return a new element; values are escaped when it is serialised."""
    require_lxml()
    node = etree.Element(tag, attributes)
    node.text = text
    return node


def child(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    """Append a new element to ``parent`` and return it."""
    node = element(tag, text, **attributes)
    parent.append(node)
    return node


def serialise(root: Element) -> str:
    """Return the element as indented text without an XML declaration, ending in a newline."""
    return etree.tostring(root, encoding="unicode", pretty_print=True)


def number_of(what: str, text: str) -> int:
    """Return a whole number that is not negative, or raise a :class:`BackupError`; ``what`` names it."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BackupError(f"{what} is {quoted(text)}, which is no number.")
    return int(text)


def text_of(parent: Element, path: str) -> str:
    """Return the stripped text below ``parent``, empty where the element is missing or empty."""
    return (parent.findtext(path) or "").strip()


@functools.cache
def _schema(path: str) -> etree.RelaxNG:
    return etree.RelaxNG(file=path)


def schema_complaint(document: str, schema_path: str) -> str:
    """Return why the document does not satisfy the RELAX NG schema in that file, or an empty string when it does."""
    require_lxml()
    schema = _schema(schema_path)
    if schema.validate(parse(document)):
        return ""
    return "; ".join(sorted({" ".join(str(entry.message).split()) for entry in schema.error_log}))
