"""The few steps in which every XML request is read: strictly, and before anything looks at it.

What an honest client never sends is refused: document types, entities, other encodings than UTF-8,
elements inside plain text (reference: safety 4.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from lxml import etree

from die_algorithm.errors import InvalidParameterValue, MalformedRequest
from die_algorithm.wps_operations import BLANKS
from die_algorithm.xml_writer import Element

#: Parts of what a client embeds, the comments around its root included; namespaces in force there.
_MOST_PARTS = 100
_MOST_NAMESPACES = 100
#: Beginnings of elements, and of all else; each costs the memory of some hundred characters.
_MOST_MARKS = 100_000
#: Attributes of all elements together, each of which costs as much.
_MOST_ATTRIBUTES = 150_000
#: Each byte is looked at once. What stands in a comment and looks like a start tag counts as one, too.
_START_TAG = re.compile(rb"""<[A-Za-z_:\x80-\xff](?:[^<>"']++|"[^<"]*+"|'[^<']*+')*+""")
_TOO_MANY_ATTRIBUTES = etree.XPath("boolean(//*[@*[101]])")
_BLANKS = re.compile(rb"[ \t\r\n]*")
#: What may stand before the root element, or a document type.
_BEFORE_ROOT = ((b"<?", b"?>"), (b"<!--", b"-->"))
_ENCODING = re.compile(rb"^<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")


def read_root(body: bytes) -> Element:
    """The root element of a request.

    Raises:
        MalformedRequest: it is no XML, or XML that no honest client sends.
    """
    text = body.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise MalformedRequest("The request has no body.")
    encoding = _ENCODING.match(text)
    if encoding and encoding[1].upper() not in (b"UTF-8", b"UTF8", b"US-ASCII", b"ASCII"):
        raise MalformedRequest("The request must be encoded in UTF-8.")
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest("The request is not UTF-8.") from None
    if _has_document_type(text) or b"\x00" in text:
        raise MalformedRequest("The request holds a document type or a NUL, which is not accepted.")
    if text.count(b"<") > _MOST_MARKS or _attributes(text) > _MOST_ATTRIBUTES:
        raise MalformedRequest(
            "The request has too many elements or attributes. Send XML of that size as base64, or put it "
            "into your workspace."
        )
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=False,
    )
    try:
        root = etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        line = error.position[0] if error.position else 1
        raise MalformedRequest(f"The request is not well-formed XML (line {line}).") from None
    if root.getroottree().docinfo.internalDTD is not None:
        # The parser passes over more before one than we do (reference: safety 8.3).
        raise MalformedRequest("The request holds a document type, which is not accepted.")
    if _TOO_MANY_ATTRIBUTES(root):
        raise MalformedRequest(
            "An element has more attributes than any element of a request may have."
        )
    return root


def _attributes(text: bytes) -> int:
    """How many attributes are in the start tags of a document, roughly, and never fewer than there are."""
    return sum(tag[0].count(b"=") for tag in _START_TAG.finditer(text))


def _has_document_type(text: bytes) -> bool:
    """Whether a document type precedes the root element.

    Nowhere else may one stand, and in UTF-8 it can be written in one way only. Each byte is looked at
    once: a pattern that looks for the ends of comments takes minutes over a body that is full of beginnings.
    """
    at = 0
    while True:
        blanks = _BLANKS.match(text, at)
        at = blanks.end() if blanks else at
        begun = [end for begin, end in _BEFORE_ROOT if text.startswith(begin, at)]
        end = text.find(begun[0], at) if begun else -1
        if end < 0:
            return text.startswith(b"<!DOCTYPE", at)
        at = end + len(begun[0])


def find(element: Element, path: str, namespaces: Mapping[str, str]) -> Sequence[Element]:
    """The elements that an XPath finds."""
    found = element.xpath(path, namespaces=dict(namespaces))
    return [item for item in found if isinstance(item, Element)] if isinstance(found, list) else []


def texts(element: Element, path: str, namespaces: Mapping[str, str]) -> list[str]:
    """The texts of the elements that an XPath finds, without blanks around them.

    Raises:
        MalformedRequest: one holds something else than text.
    """
    found = find(element, path, namespaces)
    if any(len(item) for item in found):
        # Otherwise the text before a comment would pass for the whole.
        raise MalformedRequest(
            "A name or version must be plain text, without elements or comments."
        )
    return [(item.text or "").strip(BLANKS) for item in found]


def elements_in(element: Element) -> list[Element]:
    """The elements in an element, without comments and processing instructions."""
    return [child for child in element if isinstance(child.tag, str)]


def text_around(element: Element) -> str:
    """The text beside the elements in an element, without blanks."""
    parts = (element.text or "", *(child.tail or "" for child in element))
    return "".join(parts).strip(BLANKS)


def plain_text(name: str, element: Element) -> str:
    """The text of an input's element.

    Args:
        name: the input's.
        element: the element.

    Raises:
        InvalidParameterValue: it holds something else, or nothing; locator is the input's name.
    """
    # A child, a comment and a processing instruction all count as children of the element.
    if len(element):
        raise InvalidParameterValue(
            f"{name[:80]} must be plain text, without elements or comments.", name
        )
    if not element.text:
        raise InvalidParameterValue(f"{name[:80]} is empty.", name)
    return element.text


def embedded_text(name: str, element: Element) -> str:
    """What an input's element holds: its text, or the document that the client put into it.

    Args:
        name: the input's.
        element: the element.

    Raises:
        InvalidParameterValue: comments stand in the text, or it is no document as clients embed one;
            locator is the input's name.
    """
    if not len(element):
        return element.text or ""
    # Each part is written with all namespaces in force there: many of both would fill the memory.
    refusal = InvalidParameterValue(
        f"{name[:80]} must be one XML document: one element at its top, with no more than "
        f"{_MOST_NAMESPACES} namespaces in force and {_MOST_PARTS - 1} comments around it.",
        name,
    )
    if len(element) > _MOST_PARTS:
        raise refusal
    roots = elements_in(element)
    if not roots:
        raise InvalidParameterValue(f"{name[:80]} holds a comment beside its text.", name)
    if len(roots) > 1 or len(roots[0].nsmap) > _MOST_NAMESPACES:
        raise refusal
    parts = [etree.tostring(part, encoding="unicode") for part in element]
    return "".join((escape(element.text or ""), *parts)).strip(BLANKS)
