"""Requests of WPS 2.0 as its clients write them, and what is read out of the answers."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

import requests
from lxml import etree

from die_algorithm.description import IDENTIFIER

WPS = "http://www.opengis.net/wps/2.0"
OWS = "http://www.opengis.net/ows/2.0"
NAMESPACES = {
    "wps": WPS,
    "ows": OWS,
    "xlink": "http://www.w3.org/1999/xlink",
    "d4science": "http://www.d4science.org",
}
_DECLARED = " ".join(f'xmlns:{prefix}="{NAMESPACES[prefix]}"' for prefix in ("wps", "ows", "xlink"))
VALUE = '<wps:Output id="non_deterministic_output" transmission="value"/>'
ZIP = '<wps:Output id="Result" mimeType="application/zip" transmission="{}"/>'


def request(name: str, content: str = "", attributes: str = 'version="2.0.0"') -> str:
    """A request of any operation."""
    return f'<wps:{name} service="WPS" {attributes} {_DECLARED}>{content}</wps:{name}>'


def data(name: str, value: str, attributes: str = "") -> str:
    """An input by value."""
    text = escape(value)
    return f"<wps:Input id={quoteattr(name)}><wps:Data {attributes}>{text}</wps:Data></wps:Input>"


def reference(name: str, href: str) -> str:
    """An input by reference."""
    return (
        f"<wps:Input id={quoteattr(name)}><wps:Reference xlink:href={quoteattr(href)}/></wps:Input>"
    )


def execute(
    inputs: str = "",
    outputs: str = VALUE,
    *,
    mode: str = "sync",
    response: str = "document",
    process: str = IDENTIFIER,
) -> str:
    """An Execute."""
    return request(
        "Execute",
        f"<ows:Identifier>{process}</ows:Identifier>{inputs}{outputs}",
        f'version="2.0.0" mode="{mode}" response="{response}"',
    )


def inputs_of(image: str, command: str, item: str) -> str:
    """The inputs of a job, by value."""
    named = {"Image": image, "CommandName": command, "FileParam": item}
    return "".join(data(name, value) for name, value in named.items())


def about_job(operation: str, job_id: str) -> str:
    """A GetStatus, GetResult or Dismiss."""
    return request(operation, f"<wps:JobID>{job_id}</wps:JobID>")


def found(document: etree._Element, path: str) -> list[str]:
    """The texts (or attribute values) that an XPath finds."""
    items = document.xpath(path, namespaces=NAMESPACES)
    assert isinstance(items, list)
    return [
        "".join(map(str, item.itertext())) if isinstance(item, etree._Element) else str(item)
        for item in items
    ]


def one(document: etree._Element, path: str) -> str:
    """The one text that an XPath finds."""
    texts = found(document, path)
    assert len(texts) == 1, etree.tostring(document).decode()
    return texts[0]


def answered(response: requests.Response, name: str) -> etree._Element:
    """The document of a good answer, which must be of this name."""
    assert response.status_code == 200, response.text
    document = etree.fromstring(response.content)
    assert document.tag == f"{{{WPS}}}{name}", response.text
    return document


def refused(response: requests.Response) -> tuple[int, str, str | None]:
    """HTTP status, code and locator of an ExceptionReport of WPS 2.0."""
    document = etree.fromstring(response.content)
    assert document.tag == f"{{{OWS}}}ExceptionReport", response.text
    assert document.get("version") == "2.0.0"
    locators = found(document, "//ows:Exception/@locator")
    code = one(document, "//ows:Exception/@exceptionCode")
    return response.status_code, code, locators[0] if locators else None
