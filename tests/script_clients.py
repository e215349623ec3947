"""Scripts that know no XML: what people wrote around DataMiner, and what other WPS clients send.

Played after what their sources do with strings (reference: dataminer-wps, wire samples and the last
section). They see an answer as one text.
"""

from __future__ import annotations

import base64
import dataclasses
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from xml.sax.saxutils import escape

import requests
from lxml import etree
from ogc import NAMESPACES, assert_valid

_PATIENCE = 60.0


def plain_open(url: str) -> bytes:
    """Java's ``URL.openStream()``: an address, and no header of the client's own."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


# -- W3: an Execute from a template, and a poller that looks for words


@dataclasses.dataclass(frozen=True)
class Found:
    """What the substring poller has found."""

    status_location: str
    polls: tuple[str, ...]
    log: str
    result: str


class TemplateClient:
    """The client of the language services.

    Args:
        wps: the service's address.
        token: the user's, which it appends to every address.
    """

    def __init__(self, wps: str, token: str) -> None:
        self._wps = wps
        self._token = token

    def run(
        self,
        identifier: str,
        inputs: dict[str, str],
        *,
        contents: Mapping[str, str] | None = None,
        every: float = 0.05,
    ) -> Found:
        """Post the template and poll until a word is found.

        Args:
            identifier: of the process.
            inputs: the literals.
            contents: the texts of files, by the names of their inputs.
            every: seconds between two polls.

        Raises:
            RuntimeError: the word is that of a failure.
        """
        reply = self._post(_template(identifier, inputs, contents or {}))
        begin = reply.index('statusLocation="') + len('statusLocation="')
        location = reply[begin : reply.index('">')]
        polls = [self._status(location)]
        deadline = time.monotonic() + _PATIENCE
        while not ("wps:ProcessSucceeded" in polls[-1] or "wps:ProcessFailed" in polls[-1]):
            assert time.monotonic() < deadline, polls[-1]
            time.sleep(every)
            polls.append(self._status(location))
        if "wps:ProcessFailed" in polls[-1]:
            raise RuntimeError("Process failed")
        opening, closing = "<d4science:Data>", "</d4science:Data>"
        last = polls[-1]
        log = last[last.index(opening) + len(opening) : last.index(closing)]
        result = last[last.rindex(opening) + len(opening) : last.rindex(closing)]
        return Found(location, tuple(polls), log, result)

    def _post(self, body: str) -> str:
        url = f"{self._wps}?request=Execute&service=WPS&Version=1.0.0&gcube-token={self._token}"
        headers = {"Content-type": "text/xml; charset=UTF-8"}
        request = urllib.request.Request(url, body.encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())

    def _status(self, location: str) -> str:
        # Line by line, and put together without the line breaks.
        text = plain_open(f"{location}&gcube-token={self._token}").decode()
        return "".join(text.splitlines())


def _template(identifier: str, inputs: dict[str, str], contents: Mapping[str, str]) -> str:
    """Text with places for values; the default namespace, and every prefix another than usual."""
    rows = "".join(
        f"<Input><ns:Identifier>{name}</ns:Identifier><Data>"
        f'<LiteralData dataType="xs:string">{escape(value)}</LiteralData></Data></Input>\n'
        for name, value in inputs.items()
    )
    rows += "".join(
        f"<Input><ns:Identifier>{name}</ns:Identifier><Data><ComplexData "
        f'mimeType="application/d4science">{escape(text)}</ComplexData></Data></Input>\n'
        for name, text in contents.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Execute xmlns="http://www.opengis.net/wps/1.0.0" '
        'xmlns:ns="http://www.opengis.net/ows/1.1" xmlns:xlin="http://www.w3.org/1999/xlink" '
        'service="WPS" version="1.0.0">\n'
        f"<ns:Identifier>{identifier}</ns:Identifier>\n<DataInputs>{rows}</DataInputs>\n"
        '<ResponseForm><ResponseDocument storeExecuteResponse="true" lineage="true" status="true">'
        '<Output><ows:Identifier xmlns:ows="http://www.opengis.net/ows/1.1">'
        "non_deterministic_output</ows:Identifier></Output></ResponseDocument></ResponseForm>\n"
        "</Execute>"
    )


# -- W5: a portlet that strips namespaces

_TRIES = 3


def portlet_result(url: str) -> str:
    """Execute by GET with odd headers, and take the second Result of the answer."""
    headers = {"Content-Encoding": "UTF-8", "Accept-Encoding": "UTF-8"}
    for _ in range(_TRIES):
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            text = answer.read().decode()
        if text and "Error" not in text:
            break
    else:
        raise RuntimeError("no answer that is none of an error")
    bare = re.sub(r"(</?)[A-Za-z0-9]+:", r"\1", text)
    bare = re.sub(r"\s[A-Za-z0-9]+:[A-Za-z]+=\"[^\"]*\"", "", bare)
    bare = re.sub(r"\sxmlns=\"[^\"]*\"", "", bare)
    root = etree.fromstring(bare.encode())
    found = root.xpath(
        "//ProcessOutputs/Output/Data/ComplexData/FeatureCollection/featureMember/Result/Data/text()"
    )
    assert isinstance(found, list)
    return str(found[1])


# -- R


class RClient:
    """R's ows4R: capabilities, description, Execute; the headers are the same for all three.

    Args:
        url: the service's address.
        headers: those of a user of Basic (``user``, ``pwd``), Bearer (``token``) or its own.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url
        self._headers = headers
        text = self._get("service=WPS&version=1.0.0&request=GetCapabilities")
        self.processes = _texts(text, "//wps:ProcessOfferings/wps:Process/ows:Identifier")

    @staticmethod
    def basic(user: str, password: str) -> dict[str, str]:
        """The header of ``user`` and ``pwd``, as it writes it."""
        return {
            "Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        }

    def execute(self, identifier: str, inputs: dict[str, str]) -> etree._Element:
        """Check the inputs against the description, and ask for the first output described.

        Raises:
            RuntimeError: the answer has an ows:ExceptionText, which is given.
        """
        described = self._get(
            f"service=WPS&version=1.0.0&identifier={identifier}&request=DescribeProcess"
        )
        names = _texts(described, "//DataInputs/Input/ows:Identifier")
        assert set(inputs) <= set(names)
        first = _texts(described, "//ProcessOutputs/Output/ows:Identifier")[0]
        body = _r_execute(identifier, inputs, first)
        headers = {**self._headers, "Accept": "application/xml", "Content-Type": "text/xml"}
        answer = _session().post(
            f"{self._url}?service=WPS", data=body.encode(), headers=headers, timeout=120
        )
        text = re.sub("<!--.*?-->", "", answer.content.decode())
        said = _texts(text.encode(), "//ows:ExceptionText")
        if said:
            raise RuntimeError(said[0])
        return assert_valid(text.encode())

    def _get(self, query: str) -> bytes:
        answer = _session().get(f"{self._url}?{query}", headers=self._headers, timeout=60)
        assert answer.status_code == 200, answer.text
        return re.sub("<!--.*?-->", "", answer.content.decode()).encode()


def _r_execute(identifier: str, inputs: dict[str, str], output: str) -> str:
    rows = "".join(
        f"<wps:Input><ows:Identifier>{name}</ows:Identifier><wps:Data>"
        f'<wps:LiteralData dataType="xs:string">{escape(value)}</wps:LiteralData></wps:Data></wps:Input>'
        for name, value in inputs.items()
    )
    return (
        f'<wps:Execute xmlns:wps="{NAMESPACES["wps"]}" xmlns:ows="{NAMESPACES["ows"]}" '
        f'xmlns:xlink="{NAMESPACES["xlink"]}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'service="WPS" version="1.0.0">'
        f"<ows:Identifier>{identifier}</ows:Identifier><wps:DataInputs>{rows}</wps:DataInputs>"
        '<wps:ResponseForm><wps:ResponseDocument storeExecuteResponse="false">'
        f"<wps:Output><ows:Identifier>{output}</ows:Identifier></wps:Output>"
        "</wps:ResponseDocument></wps:ResponseForm></wps:Execute>"
    )


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def _texts(document: bytes, path: str) -> list[str]:
    found = etree.fromstring(document).xpath(path, namespaces=NAMESPACES)
    assert isinstance(found, list)
    return [
        "".join(map(str, each.itertext())) for each in found if isinstance(each, etree._Element)
    ]
