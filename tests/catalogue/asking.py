"""What is asked: requests byte by byte, and the rows of the catalogue that they belong to."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

import pytest
import wps2_fixture as wps2
from quick_fixture import PROBE
from storagehub_fixture import ALICE

from die_algorithm.description import IDENTIFIER
from die_algorithm.web import WPS_PATH

MPV, IPV, NAC = "MissingParameterValue", "InvalidParameterValue", "NoApplicableCode"
ONS, VNF, FSE = "OperationNotSupported", "VersionNegotiationFailed", "FileSizeExceeded"
WRONG_INPUT = "WrongInputData"
#: In a request, the id of alice's file; and one that nobody has.
ITEM = "@ITEM@"
MISSING = "00000000-0000-4000-8000-000000000000"
#: A token in its proper form that nobody has.
WRONG = "00000000-0000-4000-8000-000000000000-98187548"

_WPS1 = 'xmlns:wps="http://www.opengis.net/wps/1.0.0" xmlns:ows="http://www.opengis.net/ows/1.1"'
_XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
    """A request."""

    method: str = "GET"
    target: str = WPS_PATH
    headers: tuple[tuple[str, str], ...] = (("gcube-token", ALICE.token),)
    body: bytes = b""
    #: All of it, if it is nothing that a client's library would send.
    raw: bytes = b""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A request and what is answered."""

    #: The row's number, and what tells its requests apart.
    name: str
    ask: Ask
    status: int = 400
    code: str | None = IPV
    locator: str | None = None
    #: Whether StorageHub is asked something before the answer.
    asks_storagehub: bool = False


def each(rows: Sequence[Row]) -> pytest.MarkDecorator:
    """A test for each row."""
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


# -- key-value pairs


def kvp(query: str, *headers: tuple[str, str], token: str | None = ALICE.token) -> Ask:
    """A GET of the WPS."""
    given = (("gcube-token", token),) if token else ()
    return Ask(target=f"{WPS_PATH}?{query}", headers=(*given, *headers))


def execute_query(inputs: str, tail: str = "", identifier: str = IDENTIFIER) -> str:
    """The query of an asynchronous Execute: were it right, it would make a job and answer."""
    return (
        f"service=WPS&version=1.0.0&request=Execute&Identifier={identifier}"
        f"&storeExecuteResponse=true&status=true&DataInputs={inputs}{tail}"
    )


def pairs(**changes: str) -> str:
    """Inputs that are right but for the changes, encoded twice, as the standard asks."""
    values = {"Image": PROBE, "CommandName": "probe noop", "FileParam": ITEM} | changes
    return ";".join(f"{name}={encoded(value)}" for name, value in values.items())


def encoded(value: str) -> str:
    """A value encoded twice, but for the places of what is known only when it is sent."""
    twice = quote(quote(value, safe=""), safe="")
    return re.sub("%2540([A-Z]+)%2540", r"@\1@", twice)


# -- XML


def post(body: str | bytes, *headers: tuple[str, str], token: str | None = ALICE.token) -> Ask:
    """A POST of XML to the WPS."""
    given = (("gcube-token", token),) if token else ()
    types = (
        ()
        if any(name == "Content-Type" for name, _ in headers)
        else (("Content-Type", "text/xml"),)
    )
    content = body if isinstance(body, bytes) else body.encode()
    return Ask(method="POST", headers=(*given, *types, *headers), body=content)


def literal(name: str, content: str, attributes: str = "") -> str:
    """An input of WPS 1.0.0; the content is XML as it is."""
    data = f"<wps:Data><wps:LiteralData {attributes}>{content}</wps:LiteralData></wps:Data>"
    return f"<wps:Input><ows:Identifier>{name}</ows:Identifier>{data}</wps:Input>"


def data(name: str, content: str, attributes: str = "") -> str:
    """The same of WPS 2.0."""
    return f'<wps:Input id="{name}"><wps:Data {attributes}>{content}</wps:Data></wps:Input>'


def reference(name: str, href: str) -> str:
    """An input of WPS 1.0.0 by reference; the address is XML as it is."""
    return (
        f"<wps:Input><ows:Identifier>{name}</ows:Identifier>"
        f'<wps:Reference xlink:href="{href}"/></wps:Input>'
    )


def reference2(name: str, href: str) -> str:
    """The same of WPS 2.0."""
    return f'<wps:Input id="{name}"><wps:Reference xlink:href="{href}"/></wps:Input>'


def execute1(
    *,
    root: str = 'service="WPS" version="1.0.0"',
    identifier: str = f"<ows:Identifier>{IDENTIFIER}</ows:Identifier>",
    more: str = "",
    before: str = "",
    **inputs: str,
) -> str:
    """An asynchronous Execute of WPS 1.0.0 that is right but for what is given."""
    return (
        f"{before}<wps:Execute {root} {_WPS1} {_XLINK}>{identifier}"
        f"<wps:DataInputs>{''.join(_inputs(literal, inputs))}{more}</wps:DataInputs>"
        '<wps:ResponseForm><wps:ResponseDocument storeExecuteResponse="true" status="true">'
        "<wps:Output><ows:Identifier>Result</ows:Identifier></wps:Output>"
        "</wps:ResponseDocument></wps:ResponseForm></wps:Execute>"
    )


def execute2(
    *, more: str = "", before: str = "", identifier: str = IDENTIFIER, **inputs: str
) -> str:
    """The same of WPS 2.0."""
    content = "".join(_inputs(data, inputs)) + more
    return before + wps2.execute(content, mode="async", process=identifier)


def _inputs(usual: Callable[[str, str], str], changes: Mapping[str, str]) -> list[str]:
    values = {"Image": PROBE, "CommandName": "probe noop", "FileParam": ITEM}
    return [changes.get(name) or usual(name, value) for name, value in values.items()]


def in_both(
    name: str,
    given: str,
    content: str,
    *,
    status: int = 400,
    code: str = IPV,
    code2: str = WRONG_INPUT,
) -> list[Row]:
    """Rows of both versions that give an input, by value, some XML."""
    return [
        Row(
            name=f"{name}-1.0.0",
            ask=post(execute1(**{given: literal(given, content)})),
            status=status,
            code=code,
            locator=given,
        ),
        Row(
            name=f"{name}-2.0.0",
            ask=post(execute2(**{given: data(given, content)})),
            # Its SizeExceeded has HTTP 400 (reference: safety 4.0).
            status=400,
            code=code2,
            locator=given,
        ),
    ]


def accepted(name: str, *asks: Ask) -> list[Row]:
    """Rows that are no bad input at all: all is taken but the file, which does not exist."""
    return [
        Row(
            name=f"{name}-{number}-taken",
            ask=ask,
            code="DataNotAccessible" if b"/wps/2.0" in ask.body else IPV,
            locator="FileParam",
            asks_storagehub=True,
        )
        for number, ask in enumerate(asks)
    ]
