"""The few words in which every XML document of this project is written."""

from __future__ import annotations

import re

from lxml import etree

from die_algorithm.terminal_text import clean_text

WPS = "http://www.opengis.net/wps/1.0.0"
OWS = "http://www.opengis.net/ows/1.1"
#: The same of WPS 2.0 (14-065).
WPS_2 = "http://www.opengis.net/wps/2.0"
OWS_2 = "http://www.opengis.net/ows/2.0"
XLINK = "http://www.w3.org/1999/xlink"
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
LANGUAGE = "en-US"

_TWO_HYPHENS = re.compile("-(?=-)")

Element = etree._Element  # noqa: SLF001 - lxml gives its element type no public name


def root(namespace: str, name: str, **prefixes: str) -> Element:
    """Make a root element; it declares the prefixes given."""
    return etree.Element(f"{{{namespace}}}{name}", nsmap=dict(prefixes))


def child(parent: Element, namespace: str | None, name: str, text: str | None = None) -> Element:
    """Add a child; without namespace its name is unqualified. The text may be anything."""
    element = etree.SubElement(parent, f"{{{namespace}}}{name}" if namespace else name)
    if text is not None:
        element.text = clean_text(text)
    return element


def comment(parent: Element, text: str) -> None:
    """Add a comment, for people who read the document; programs pass over it."""
    parent.append(etree.Comment(f" {_TWO_HYPHENS.sub('- ', clean_text(text))} "))


def serialise(element: Element) -> bytes:
    """The document, one element a line: some clients cut it by lines and by ``">`` (W3)."""
    return etree.tostring(element, xml_declaration=True, encoding="UTF-8", pretty_print=True)
